"""Certified tiers: what each promises, and how surely."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TierConfig:
    """STRONG, GOOD and MODERATE promise a precision of at least so many times the base rate of K4."""

    multiples: tuple[float, float, float] = (4.0, 3.0, 2.0)  # of the base rate, for STRONG, GOOD, MODERATE
    confidence: float = 0.95  # of each tier's sentence by itself
    # Shares of the rows that are tried, from the highest P(K4) on, in this order until one cannot be certified.
    coverages: tuple[float, ...] = (0.025, 0.05, 0.075, 0.10, 0.15, 0.20, 0.30)
    min_rows: int = 30  # a share that holds fewer rows after the design effect is left out beforehand
