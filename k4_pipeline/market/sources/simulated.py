"""The embedded simulated market: daily OHLCV of a few hundred tickers whose outcome probabilities are known.

Process (one bar: simulation/process.py; every number: simulation/parameters.py). A ticker is in a hidden regime:
loud (log-volatility an AR(1)), consolidation (volatility falls within a few bars to a small share of the loud one),
squeeze (looks like a consolidation) or run (after an upward jump). Regimes end with constant hazards; the loud one
lasts at least `min_loud` bars. Each bar draws its volatility first, then an overnight gap (with the jump, if any) and
an intraday move that shares a market shock; high and low are the extremes of a Brownian bridge. Volume follows
volatility and the size of the move. Quoted prices are in cents, shares are whole; splits above and reverse splits below
a price; the history is back-adjusted as vendors do (prices divided, volumes multiplied by the later ratios). A fifth of
the tickers is listed late, some are delisted, with a constant hazard.

Dirty rows (`SimulationConfig.dirty`; simulation/dirt.py), one on every fourth ticker, in turn: close NaN, open zero,
low negative, high below low, row sent twice, row dated 2099, high infinite, volume negative. The truth lists them.

Randomness: one stream per (seed, ticker), one for the market, drawn in bar order. A ticker's bars do not depend on the
universe, and a simulation with the same first session and more bars begins with the shorter one (up to the
back-adjustment by later splits).

World `squeeze`: a share of the consolidations are squeezes. Pressure builds up over `pressure_bars`; it raises the
hazard of a large, mostly upward jump followed by a run, and leaves a trace: more volume, most of it on rising bars.
Tickers differ in volatility, and the jumps of volatile ones are larger, so ranking by volatility is a real baseline.
With the default config and standard patterns: about 6,300 labelled snapshots, 4.5% K4 in 67 patterns of 46 tickers;
ranking by the true P(K4) has AUC 0.90 in expectation, by the volatility of the past 100 bars 0.59.

World `null`: the same process as an exact martingale (before rounding to cents): no run drift, no hazard from
squeezes (their volume trace stays, as a decoy) and jumps of one constant hazard in every regime, compensated by drift.
All tickers have the same volatility; it is drawn afresh when a consolidation ends, which it does without memory.
- Guaranteed: nothing points to the direction of the next return. K4 comes almost only from the jumps, so P(K4), 3.3%,
  hardly depends on anything, the hidden state included: ranking by the true P(K4) has an expected AUC of 0.50.
- Not guaranteed: that the other classes cannot be told apart at all. A race between fixed barriers is not blind to
  where the close stands in its channel, nor to a consolidation that has just ended, even for a martingale. P(K5) is
  35% in the lower third of a channel and 29% in the upper one; knowing the hidden state gives an expected AUC of 0.53
  for K5 and 0.54 for K0, and a correlation of at most 0.08 between the true expected value and the realised one. A
  logistic regression on eight statistics of 750 tickers reached 0.53 and 0.06 on 750 others (K4: 0.50). Tests of such
  metrics should take evaluation/truth.py as their base rate, not zero.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from k4_pipeline.config import SimulationConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.market.bars import to_dates, to_day
from k4_pipeline.market.calendar import sessions
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars
from k4_pipeline.market.sources.simulation.dirt import corrupt, plan_dirt
from k4_pipeline.market.sources.simulation.parameters import Params, stream, ticker_names, ticker_params
from k4_pipeline.market.sources.simulation.process import (
    CLOSE,
    HIGH,
    LOW,
    N_BAR,
    N_STATE,
    OPEN,
    VOLUME,
    simulate_path,
)
from k4_pipeline.market.sources.simulation.truth import SimulationTruth
from k4_pipeline.progress import Progress

_EXCHANGE = "XNYS"
_LATE_SHARE = 0.2  # of the tickers
_LATE_FIRST, _LATE_LAST = 60, 600  # bar on which a late listing begins
_MIN_LISTED = 30  # a ticker that would have fewer bars is left out


def session_days(config: SimulationConfig) -> np.ndarray:
    """The last `n_bars` sessions of XNYS up to `end_date`, int32 (n_bars,) days since 1970-01-01."""
    if config.n_bars < _MIN_LISTED:
        raise ConfigError(f"simulation.n_bars is {config.n_bars}; use at least {_MIN_LISTED}")
    last = to_day(config.end_date)
    return sessions(_EXCHANGE, last - 2 * config.n_bars - 30, last)[-config.n_bars :]


def _first_bar(seed: int, ticker: str) -> int:
    """0, or the bar on which a late listing begins."""
    rng = stream(seed, ticker, "listing")
    late = rng.random() < _LATE_SHARE
    return int(rng.integers(_LATE_FIRST, _LATE_LAST)) if late else 0


class _History:
    """One ticker: unadjusted bars, hidden states, splits."""

    def __init__(self, config: SimulationConfig, ticker: str, market: np.ndarray) -> None:
        self.ticker = ticker
        self.params: Params = ticker_params(config.world, config.seed, ticker)
        self.first = _first_bar(config.seed, ticker)
        n = max(0, len(market) - self.first)
        bars, states, ratios = np.empty((n, N_BAR)), np.empty((n, N_STATE)), np.empty(n)
        price = 25.0 * math.exp(0.6 * stream(config.seed, ticker, "price").standard_normal())
        rng = stream(config.seed, ticker, "path")
        lived = simulate_path(rng, self.params, market[self.first :], math.log(price), bars, states, ratios)
        self.delisted = lived < n
        self.bars, self.states, self.ratios = bars[:lived], states[:lived], ratios[:lived]

    def __len__(self) -> int:
        return len(self.ratios)

    def adjustment(self) -> np.ndarray:
        """Product of the later split ratios, (n,): what a vendor divides the quoted prices by."""
        later = np.append(self.ratios[1:], 1.0)
        return np.cumprod(later[::-1])[::-1]


def simulate_with_truth(
    config: SimulationConfig, *, progress: Progress | None = None
) -> tuple[RawBars, SimulationTruth]:
    """`simulate`, and with it the hidden side of the same bars. Raises `ConfigError` for impossible settings."""
    days = session_days(config)
    market = stream(config.seed, "market", "shock").standard_normal(config.n_bars)
    histories: list[_History] = []
    names = ticker_names(config.n_tickers)
    for done, ticker in enumerate(names, start=1):
        history = _History(config, ticker, market)
        if len(history) >= _MIN_LISTED:
            histories.append(history)
        if progress is not None:
            progress(done, len(names))
    if not histories:
        raise ConfigError(
            f"none of {config.n_tickers} simulated tickers is listed for {_MIN_LISTED} of {config.n_bars} bars; "
            "raise simulation.n_tickers or simulation.n_bars"
        )
    lengths = np.array([len(h) for h in histories], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    date = np.concatenate([days[h.first : h.first + len(h)] for h in histories])
    adjustment = np.concatenate([h.adjustment() for h in histories])
    bars = np.concatenate([h.bars for h in histories])  # (n, N_BAR)
    tickers = np.array([h.ticker for h in histories], dtype=object)
    frame = pd.DataFrame(
        {
            "ticker": pd.Series(np.repeat(tickers, lengths), dtype="str"),
            "date": to_dates(date),
            **{name: bars[:, at] / adjustment for name, at in (("open", OPEN), ("high", HIGH), ("low", LOW))},
            "close": bars[:, CLOSE] / adjustment,
            "volume": bars[:, VOLUME] * adjustment,
            "source": pd.Series(np.full(len(date), "simulated", dtype=object), dtype="str"),
        }
    )[list(RAW_COLUMNS)]
    plans = [plan_dirt(config.seed, h.ticker, len(h)) if config.dirty else None for h in histories]
    dirty = [(offsets[i] + plan[0], plan[1]) for i, plan in enumerate(plans) if plan is not None]
    frame, dirty_rows = corrupt(frame, np.array([row for row, _ in dirty], dtype=np.int64), [kind for _, kind in dirty])
    truth = SimulationTruth(
        config=config,
        tickers=tickers,
        offsets=offsets,
        date=date,
        states=np.concatenate([h.states for h in histories]),
        adjustment=adjustment,
        params=tuple(h.params for h in histories),
        splits=_splits(histories, tickers, offsets, date),
        listings=_listings(histories, tickers, offsets, date),
        dirty_rows=dirty_rows,
    )
    return RawBars(frame), truth


def simulate(config: SimulationConfig, *, progress: Progress | None = None) -> RawBars:
    """The bars of the simulated market as a vendor would send them; `progress(done, total)` counts tickers."""
    return simulate_with_truth(config, progress=progress)[0]


def _splits(histories: list[_History], tickers: np.ndarray, offsets: np.ndarray, date: np.ndarray) -> pd.DataFrame:
    ratios = np.concatenate([h.ratios for h in histories])
    rows = np.flatnonzero(ratios != 1.0)
    code = np.searchsorted(offsets, rows, side="right") - 1
    return pd.DataFrame(
        {"ticker": pd.Series(tickers[code], dtype="str"), "date": to_dates(date[rows]), "ratio": ratios[rows]}
    )


def _listings(histories: list[_History], tickers: np.ndarray, offsets: np.ndarray, date: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "ticker": pd.Series(tickers, dtype="str"),
            "first_date": to_dates(date[offsets[:-1]]),
            "last_date": to_dates(date[offsets[1:] - 1]),
            "listed_late": [h.first > 0 for h in histories],
            "delisted": [h.delisted for h in histories],
        }
    )
