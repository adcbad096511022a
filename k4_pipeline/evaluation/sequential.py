"""A test that may be looked at every night: has the hit rate fallen below what was certified?

The wealth of a gambler who bets against the certificate is multiplied by `1 + bet * (claimed - hit)` at every matured
signal. If the true precision is at least the claimed one, the wealth is a supermartingale whatever the bets, so it ever
exceeds 1 / alpha with probability at most alpha (Ville 1939; Waudby-Smith and Ramdas 2024). The wealth reported is the
mean over a fixed grid of bets, which is one gambler again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHA = 0.05
# Shares of the largest bet that cannot go broke.
_BETS = np.array([0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])


@dataclass(frozen=True)
class Sequential:
    """The state of the test after all matured signals, in the order in which they matured."""

    n: int
    hits: int
    claimed: float
    wealth: float  # now
    peak: float  # largest so far: what the alarm goes by
    broken_at: int | None  # number of the signal at which 1 / alpha was passed

    @property
    def holds(self) -> bool:
        """Whether the claim has not been refuted."""
        return self.broken_at is None


def precision_holds(hits: np.ndarray, claimed: float, alpha: float = ALPHA) -> Sequential:
    """Test "precision is at least `claimed`" (0 < claimed < 1) on hits (n,) bool in order of maturity."""
    if not 0.0 < claimed < 1.0:
        raise ValueError(f"a claimed precision of {claimed} cannot be tested; it lies between 0 and 1")
    x = np.asarray(hits, dtype=np.float64)
    if not len(x):
        return Sequential(0, 0, claimed, 1.0, 1.0, None)
    largest = 1.0 / (1.0 - claimed)  # a hit then takes everything: 1 + bet * (claimed - 1) = 0
    steps = np.log1p(np.multiply.outer(_BETS * largest, claimed - x))
    wealth = np.exp(np.cumsum(steps, axis=1)).mean(axis=0)
    passed = np.flatnonzero(wealth >= 1.0 / alpha)
    broken = int(passed[0]) + 1 if len(passed) else None
    return Sequential(len(x), int(x.sum()), claimed, float(wealth[-1]), float(wealth.max()), broken)
