"""The proofs of a stored panel: all pass on what production stored, all fire on a corrupted panel."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.config import CleaningConfig, SimulationConfig
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.leakage.checks.feature_proofs import PROOFS, WARM_UP, prove
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources.simulated import simulate


@pytest.fixture(scope="module")
def bars() -> Bars:
    return clean_bars(simulate(SimulationConfig(n_tickers=8, n_bars=900)), CleaningConfig()).bars


@pytest.mark.parametrize("name", PROOFS)
def test_a_proof_passes_on_the_stored_panel_and_fires_on_a_tampered_one(bars, name):
    panel = FeaturePanel.from_bars(bars)
    honest = prove(name, bars, panel)
    assert honest.passed, honest.findings
    assert honest.cases > 10_000
    panel.values[np.arange(0, len(bars), 3), 8] += np.float32(0.01)
    assert not prove(name, bars, panel).passed


def test_channels_with_a_longer_warm_up_than_the_history_are_named_not_passed_over(bars):
    short = bars.until(int(np.sort(bars.date)[len(bars) // 2]))
    verdict = prove(WARM_UP, short, FeaturePanel.from_bars(short))
    assert verdict.passed
    assert "ebp_composite" in verdict.detail["history_too_short_for"]
    one_bar = bars.until(int(bars.date.min()))
    assert not prove(WARM_UP, one_bar, FeaturePanel.from_bars(one_bar)).passed
