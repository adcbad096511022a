"""The word of a signal, stated a second time: from expected value and P(K5), row by row in plain Python."""

from __future__ import annotations

from k4_pipeline.config import SignalConfig


def signal_of(ev: float, p_k5: float, limits: SignalConfig) -> str:
    """STRONG, GOOD, MODERATE or AVOID."""
    if p_k5 >= limits.avoid_k5 or ev < 0:
        return "AVOID"
    for name, least in (("STRONG", limits.strong_ev), ("GOOD", limits.good_ev), ("MODERATE", limits.moderate_ev)):
        if ev >= least:
            return name
    return "AVOID"
