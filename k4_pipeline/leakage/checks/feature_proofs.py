"""The five proofs of the features as verdicts on a stored panel: a sample of tickers and dates, sizes in the detail.

The proofs themselves are `features/proofs.py`; they recompute channels with the production code and compare with what
is stored. What they do not catch: a channel that reads something else than bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from k4_pipeline.features import proofs
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.features.proof_tools import ChannelSet
from k4_pipeline.features.spec import MARKET_FEATURES
from k4_pipeline.market.bars import Bars
from k4_pipeline.verdict import Verdict

WARM_UP = "no_channel_needs_more_history_than_it_declares"
PROOFS: dict[str, Any] = {
    "no_channel_changes_when_later_bars_are_cut": proofs.check_truncation,
    "no_channel_changes_when_later_bars_are_corrupted": proofs.check_future_corruption,
    "no_channel_depends_on_other_tickers": proofs.check_isolation,
    "no_invariant_channel_changes_with_the_price_scale": proofs.check_rescale,
    WARM_UP: proofs.check_warmup,
}
WITH_CUTS = {"no_channel_changes_when_later_bars_are_cut", "no_channel_changes_when_later_bars_are_corrupted", WARM_UP}
TICKERS, CUTS = 48, 6


def prove(
    name: str, bars: Bars, panel: FeaturePanel, *, tickers: int = TICKERS, cuts: int = CUTS, seed: int = 0
) -> Verdict:
    """One of `PROOFS` on the stored panel; a failed proof names channel, ticker, date and both values."""
    arguments: dict[str, Any] = {"tickers": min(tickers, bars.n_tickers), "seed": seed}
    if name in WITH_CUTS:
        arguments["cuts"] = cuts
    detail: dict[str, Any] = dict(arguments)
    reference = panel.values
    if name == WARM_UP:
        # A history shorter than a channel's warm-up can prove nothing of it: such channels are named, not passed over.
        longest = int(np.diff(bars.offsets).max())
        fits = np.array([spec.warmup_bars + 2 <= longest for spec in MARKET_FEATURES])
        specs = tuple(spec for spec, fit in zip(MARKET_FEATURES, fits) if fit)
        detail["history_too_short_for"] = [spec.name for spec, fit in zip(MARKET_FEATURES, fits) if not fit]
        if not specs:
            return Verdict.of(name, 0, [], **detail)
        arguments["channels"] = ChannelSet(specs, lambda some: compute_market_features(some)[:, fits])
        reference = np.asarray(panel.values)[:, fits]
    result = PROOFS[name](bars, reference=reference, **arguments)
    findings = [str(finding) for finding in result.findings]
    if result.violations and not findings:
        findings = [f"{result.violations} of {result.cases} compared values differ"]
    return Verdict.of(name, result.cases, findings, violations=result.violations, flipped_ties=result.flipped, **detail)
