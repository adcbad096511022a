"""The proofs that no market channel sees the future, as blocking propositions about market_features."""

from __future__ import annotations

from functools import partial

import numpy as np

from k4_pipeline.defs.checks.factory import Evidence, Proposition
from k4_pipeline.defs.staging import load_panel
from k4_pipeline.verdict import Verdict

_LONGEST, _ANY = 24, 104

DESCRIPTIONS = {
    "no_channel_changes_when_later_bars_are_cut": "Recomputed on bars up to a date, every channel has the same bits.",
    "no_channel_changes_when_later_bars_are_corrupted": "Later bars missing, shuffled or a million-fold: same bits.",
    "no_channel_depends_on_other_tickers": "Alone or beside others, a ticker has the same bits.",
    "no_invariant_channel_changes_with_the_price_scale": "Prices times k, volumes by k: channels react as declared.",
    "no_channel_needs_more_history_than_it_declares": "History before the declared warm-up does not matter.",
}


def _prove(name: str, evidence: Evidence) -> Verdict:
    from k4_pipeline.features.stream import bars_of_tickers
    from k4_pipeline.leakage.checks.feature_proofs import prove

    panel = load_panel(evidence.ref)
    some = panel.subset(some_tickers(np.diff(panel.offsets)))
    return prove(name, bars_of_tickers(evidence.input("daily_bars").path("daily_bars.parquet"), some.tickers), some)


def some_tickers(lengths: np.ndarray, seed: int = 0) -> np.ndarray:
    """Numbers of the tickers a proof chooses from, ascending: `_LONGEST` with most bars and `_ANY` at random.

    The proofs recompute single tickers, so that they need not hold a universe of any size.
    """
    if len(lengths) <= _LONGEST + _ANY:
        return np.arange(len(lengths))
    longest = np.argsort(lengths, kind="stable")[-_LONGEST:]
    return np.unique(np.concatenate([longest, np.random.default_rng(seed).choice(len(lengths), _ANY, replace=False)]))


FEATURE_PROOFS = [
    Proposition(name, partial(_prove, name), description=description) for name, description in DESCRIPTIONS.items()
]
