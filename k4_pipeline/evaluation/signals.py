"""From calibrated probabilities and expected value to STRONG / GOOD / MODERATE / AVOID."""

from __future__ import annotations

import numpy as np

from k4_pipeline.config import K5, SignalConfig


def assign_signals(probabilities: np.ndarray, ev: np.ndarray, config: SignalConfig) -> np.ndarray:
    """One signal name per row, (n,) str.

    AVOID when P(K5) >= `avoid_k5` or EV < 0, whatever else holds; then by EV: STRONG, GOOD, MODERATE, else AVOID.
    """
    p_k5 = np.asarray(probabilities, dtype=np.float64)[:, K5]
    ev = np.asarray(ev, dtype=np.float64)
    veto = (p_k5 >= config.avoid_k5) | (ev < 0)
    return np.select(
        [veto, ev >= config.strong_ev, ev >= config.good_ev, ev >= config.moderate_ev],
        ["AVOID", "STRONG", "GOOD", "MODERATE"],
        default="AVOID",
    )
