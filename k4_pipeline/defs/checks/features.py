"""The proofs that no market channel sees the future, as blocking propositions about market_features."""

from __future__ import annotations

from functools import partial

from k4_pipeline.defs.checks.factory import Evidence, Proposition
from k4_pipeline.defs.io_managers import load_bars, load_panel
from k4_pipeline.leakage.verdict import Verdict

DESCRIPTIONS = {
    "no_channel_changes_when_later_bars_are_cut": "Recomputed on bars up to a date, every channel has the same bits.",
    "no_channel_changes_when_later_bars_are_corrupted": "Later bars missing, shuffled or a million-fold: same bits.",
    "no_channel_depends_on_other_tickers": "Alone or among strangers, a ticker has the same bits.",
    "no_invariant_channel_changes_with_the_price_scale": "Prices times k, volumes by k: channels react as declared.",
    "no_channel_needs_more_history_than_it_declares": "History before the declared warm-up does not matter.",
}


def _prove(name: str, evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.feature_proofs import prove

    return prove(name, load_bars(evidence.input("daily_bars")), load_panel(evidence.ref))


FEATURE_PROOFS = [
    Proposition(name, partial(_prove, name), description=description) for name, description in DESCRIPTIONS.items()
]
