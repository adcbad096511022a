"""docs/add-a-feature.md as a test: declare, compute, prove; and docs/features.md is what the declarations say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from k4_pipeline.features import proofs
from k4_pipeline.features.proof_tools import ChannelSet
from k4_pipeline.features.spec import FeatureSpec
from k4_pipeline.features.table import markdown
from k4_pipeline.market.bars import Bars

DOCS = Path(__file__).parents[2] / "docs"

OVERNIGHT_GAP = FeatureSpec(
    index=70,
    name="overnight_gap",
    group="derived",
    formula="O / C[t-1] - 1",
    lookback_bars=2,
    recursive=False,
    warmup_bars=2,
    scale="invariant",
    needs_pattern=False,
    clip=(-1.0, 1.0),
)
PROOFS = (
    proofs.check_truncation,
    proofs.check_future_corruption,
    proofs.check_isolation,
    proofs.check_rescale,
    proofs.check_warmup,
)


def overnight_gap(bars: Bars) -> np.ndarray:
    """(n_bars, 1), NaN on the first bar of a ticker."""
    out = np.full((len(bars), 1), np.nan)
    out[1:, 0] = bars.open[1:] / bars.close[:-1] - 1
    out[bars.offsets[:-1], 0] = np.nan
    return out


def next_gap(bars: Bars) -> np.ndarray:
    """The same with one wrong index: the gap that opens the next session."""
    out = np.full((len(bars), 1), np.nan)
    out[:-1, 0] = bars.open[1:] / bars.close[:-1] - 1
    out[bars.offsets[1:] - 1, 0] = np.nan
    return out


def test_a_feature_of_ones_own_passes_the_same_proofs(made_up_bars: Bars) -> None:
    for proof in PROOFS:
        result = proof(made_up_bars, channels=ChannelSet((OVERNIGHT_GAP,), overnight_gap))
        assert result.passed, (result.proof, result.findings)


def test_one_wrong_index_is_found(made_up_bars: Bars) -> None:
    failed = {p.__name__ for p in PROOFS if not p(made_up_bars, channels=ChannelSet((OVERNIGHT_GAP,), next_gap)).passed}
    assert {"check_truncation", "check_future_corruption"} <= failed


def test_the_documented_table_is_the_declared_one() -> None:
    assert (DOCS / "features.md").read_text() == markdown(), (
        "docs/features.md is out of date: run `k4 features --markdown > docs/features.md`"
    )
