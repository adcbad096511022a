"""Small universes to plant leaks in: a dozen tickers, some of them delisted, with refused and contradicting rows.

Every universe is a function of (kind, seed). `simulated` comes from the embedded market, `real` from a random choice of
tickers and of years of a Parquet file of daily bars (`$K4_REAL_DATA/us_daily_bars_small.parquet`). Both are damaged in
the same ways, so that each leak has something to act on: a ticker that stops trading, missing sessions, wild bars,
corrected rows sent later, and a last session that counts as today's unfinished one.
"""

from __future__ import annotations

import datetime as dt
import functools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from k4_pipeline.config import ModelConfig, PipelineConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.leakage.engine.small import REAL_FILE, real_file, small_config
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.parsing import days
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.splits import walk_forward
from k4_pipeline.splits.boundaries import NEVER, SplitBoundaries, known_label_end

KINDS = ("simulated", "real")
_TRIES = 20


@dataclass(frozen=True, eq=False)
class Universe:
    """Raw bars, the settings they are run with, the as-of date and the day on which it all happens."""

    kind: str
    seed: int
    raw: RawBars
    config: PipelineConfig
    as_of: str
    today: dt.date

    @property
    def label(self) -> str:
        """In words, for tables and progress."""
        return f"{self.kind} {self.seed}"


def available_kinds(wanted: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """Those of `wanted` that can be made here."""
    return tuple(k for k in wanted if k != "real" or real_file() is not None)


@functools.lru_cache(maxsize=1)
def _real_bars() -> pd.DataFrame:
    file = real_file()
    if file is None:
        raise BadInputError("no real bars: set K4_REAL_DATA to the folder that holds " + REAL_FILE)
    return pd.read_parquet(file)


def _simulated(config: PipelineConfig) -> pd.DataFrame:
    from k4_pipeline.market.sources.simulated import simulate

    return simulate(config.simulation).frame


def _real(rng: np.random.Generator, n_tickers: int, n_bars: int) -> pd.DataFrame:
    frame = _real_bars()
    dates = np.unique(frame["date"].to_numpy())
    stop = int(rng.integers(int(0.7 * len(dates)), len(dates) + 1))
    part = frame[frame["date"].isin(dates[max(0, stop - n_bars) : stop])]
    counts = part.groupby("ticker").size()
    able = counts[counts > 0.9 * n_bars].index.to_numpy(dtype=object)
    chosen = rng.choice(able, min(n_tickers, len(able)), replace=False)
    out = part[part["ticker"].isin(chosen)].reset_index(drop=True)
    return out.assign(source="real.parquet")


def _damaged(frame: pd.DataFrame, rng: np.random.Generator) -> RawBars:
    """A delisting, missing sessions and contradicting corrections; rows of one ticker stay in the order sent."""
    frame = frame[list(RAW_COLUMNS)].reset_index(drop=True)
    day = days(frame["date"], frame["source"])
    today = int(pd.Series(day[day > 0]).mode().max()) if len(day) else 0
    today = max(today, int(np.quantile(day[day > 0], 0.999)))
    tickers = frame["ticker"].drop_duplicates().to_numpy(dtype=object)
    keep = np.ones(len(frame), dtype=bool)
    first_day, last_day = int(np.quantile(day[day > 0], 0.001)), today
    for i, ticker in enumerate(rng.permutation(tickers)[:2]):
        end = first_day + (0.72 + 0.12 * i) * (last_day - first_day)
        keep &= ~((frame["ticker"] == ticker).to_numpy() & (day > end))
    keep &= ~((rng.random(len(frame)) < 0.002) & (day < today))
    frame, day = frame[keep].reset_index(drop=True), day[keep]
    for row in rng.choice(len(frame), len(frame) // 300, replace=False):
        # A wild bar, as thin markets have them: it can reach a stop and a target at once.
        frame.loc[row, "high"] = pd.to_numeric(frame.loc[row, "high"]) * 1.2
        frame.loc[row, "low"] = pd.to_numeric(frame.loc[row, "low"]) * 0.8
    old = np.flatnonzero((day > first_day) & (day < last_day - 60))
    corrected = frame.iloc[np.sort(rng.choice(old, 12, replace=False))].copy()
    for column in ("open", "high", "low", "close"):
        corrected[column] = pd.to_numeric(corrected[column]) * 1.01
    return RawBars(pd.concat([frame, corrected.assign(source="corrections")], ignore_index=True))


def _as_of(raw: RawBars, config: PipelineConfig, today: dt.date) -> str | None:
    """A date at which each rule of the split matters.

    Some label ends on the day on which the purge begins, so that <= differs from <, and some pattern reaches from
    validation into test.
    """
    made = production.build_from_raw(raw, config, today=today)
    if not made.labeled["censored"].any():
        return None
    ends, unlabelled = known_label_end(made.labeled), made.labeled["outcome_class"].isna().to_numpy()
    known = np.unique(ends[ends < NEVER])
    last = int(made.bars.last_day)
    for back in range(240, 350):
        day = last - back
        bounds = SplitBoundaries.of(day, config.split)
        if bounds.train_end not in known:
            continue
        names, reasons = walk_forward.assign_membership(made.labeled, bounds)
        if not (reasons == "pattern_in_earlier_split").any() or (unlabelled & (names == "test")).any():
            continue
        if any((names == name).sum() < least for name, least in (("train", 80), ("validation", 30), ("test", 30))):
            continue
        try:
            return str(production.split_at(made, day).as_of)
        except BadInputError:
            continue
    return None


@functools.lru_cache(maxsize=16)
def make_universe(kind: str, seed: int, varied: bool = False) -> Universe:
    """The universe of (kind, seed); `varied` also draws the world, the number of tickers and the length.

    A draw that holds too few patterns for a split is drawn again, up to 20 times (still a function of kind and seed).
    """
    for attempt in range(_TRIES):
        rng = np.random.default_rng([seed, KINDS.index(kind), attempt, int(varied)])
        n_tickers = int(rng.integers(7, 14)) if varied else 12
        n_bars = int(rng.integers(740, 900)) if varied else 860
        world = str(rng.choice(["squeeze", "squeeze", "null"])) if varied else "squeeze"
        config = small_config(
            int(rng.integers(0, 100_000)), n_tickers=n_tickers, n_bars=n_bars, world=world, dirty=True
        )
        config = replace(
            config,
            model=ModelConfig(preset="micro"),
            patterns=replace(config.patterns, max_active_bars=60),
            split=replace(config.split, test_months=4),
            training=replace(config.training, epochs=1 if varied else 2),
            integrity=replace(config.integrity, bootstrap_draws=20),
        )
        frame = _simulated(config) if kind == "simulated" else _real(rng, n_tickers, n_bars)
        raw = _damaged(frame, rng)
        day = days(raw.frame["date"], raw.frame["source"])
        counts = pd.Series(day[day > 0]).value_counts()
        last = int(counts.index[counts >= 3].max())  # a row dated 2099 is not today
        today = pd.Timestamp(to_dates(np.array([last]))[0]).date()
        try:
            as_of = _as_of(raw, config, today)
        except BadInputError:
            continue
        if as_of is not None:
            return Universe(kind, seed, raw, config, as_of, today)
    raise BadInputError(f"no usable {kind} universe for seed {seed} in {_TRIES} tries")
