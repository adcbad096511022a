"""How a list of signals would have been traded: entry, exits, costs and limits of the backtest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TradingConfig:
    """Assumptions of `k4 backtest`. Shares, not percent; money in the currency of the bars."""

    entry_bars: int = 5  # the buy-stop order at the power line stands this many bars after the snapshot
    list_frac: float = 0.05  # a ranking buys what lies in the best share of everything ranked so far
    capital: float = 100_000.0  # at the start
    max_positions: int = 10  # equal parts of the equity; one position per ticker
    max_participation: float = 0.02  # of the median daily dollar volume of the 20 bars before the order
    commission: float = 0.0002  # of the traded value, each way
    # Slippage each way by median daily dollar volume: the first limit that is reached counts, else the last entry.
    liquidity_limits: tuple[float, float, float, float] = (50e6, 10e6, 1e6, 1e5)
    slippage: tuple[float, float, float, float, float] = (
        0.0002,
        0.0005,
        0.0015,
        0.005,
        0.015,
    )  # each way, by those limits
    trailing_stop: float = 0.25  # of the alternative exit that trails the highest close
    random_draws: int = 100  # random lists to compare with
    seed: int = 0  # of the random lists
