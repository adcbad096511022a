"""Leaks in patterns and snapshots: boundaries, the end of a pattern, and which snapshots exist."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import PatternConfig
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.patterns.consolidation import ScannedPatterns
from k4_pipeline_tests.mutations.registry import register

FIND = "patterns.consolidation.find_patterns"
SAMPLE = "patterns.snapshots.sample_snapshots"
_REPLAY = ("every_snapshot_is_reproduced_as_the_last_bar", "everything_is_reproduced_from_bars_cut_at_a_date")


def _stops(bars: Bars, patterns: ScannedPatterns) -> np.ndarray:
    return np.where(patterns.end_row >= 0, patterns.end_row, bars.offsets[patterns.ticker_code + 1])


def _boundaries(last_of: Callable[[Bars, ScannedPatterns], np.ndarray]) -> Callable[..., Any]:
    def wrapper(original: Callable[..., ScannedPatterns], bars: Bars, config: PatternConfig, **kwargs: Any) -> Any:
        found = original(bars, config, **kwargs)
        pairs = list(zip(found.start_row, last_of(bars, found)))
        upper = np.array([bars.high[a:b].max() for a, b in pairs])
        lower = np.array([bars.low[a:b].min() for a, b in pairs])
        return dataclasses.replace(found, upper=upper, lower=lower, power=upper * config.power_factor)

    return wrapper


register(
    "boundaries_of_the_whole_pattern",
    stage="patterns",
    where=FIND,
    description="upper and lower are taken over all bars of the pattern instead of its qualifying ones",
    expected=(*_REPLAY, "every_snapshot_follows_from_its_qualifying_bars"),
    leak=_boundaries(_stops),
    benign=_boundaries(lambda bars, found: found.activation_row + 1),
    benign_does="upper and lower are computed again over the qualifying bars",
)


def _sampled(edit: Callable[[pd.DataFrame, Bars, ScannedPatterns], pd.DataFrame]) -> Callable[..., Any]:
    def wrapper(original: Callable[..., Any], bars: Bars, patterns: ScannedPatterns, config: PatternConfig) -> Any:
        result = original(bars, patterns, config)
        return dataclasses.replace(result, snapshots=edit(result.snapshots, bars, patterns).reset_index(drop=True))

    return wrapper


def _rows(frame: pd.DataFrame, bars: Bars) -> np.ndarray:
    return bars.locate(frame["ticker"], to_days(frame["snapshot_date"].to_numpy()))


def _end_of(frame: pd.DataFrame, bars: Bars, patterns: ScannedPatterns) -> np.ndarray:
    """First row after the ACTIVE bars of each snapshot's pattern, and -1 while the pattern is open."""
    start = bars.locate(frame["ticker"], to_days(frame["start_date"].to_numpy()))
    at = np.searchsorted(patterns.start_row, start)
    return patterns.end_row[at]


def _days_to_the_end(frame: pd.DataFrame, bars: Bars, patterns: ScannedPatterns) -> pd.DataFrame:
    end = _end_of(frame, bars, patterns)
    left = np.where(end >= 0, end - _rows(frame, bars), 0)
    return frame.assign(bars_active=frame["bars_active"] + left)


register(
    "days_to_the_breakout",
    stage="patterns",
    where=SAMPLE,
    description="the age of the pattern is its age at its end: the snapshot knows how long it will still last",
    expected=_REPLAY,
    leak=_sampled(_days_to_the_end),
    benign=_sampled(lambda frame, bars, patterns: frame.assign(bars_active=frame["bars_active"] + 0)),
    benign_does="zero is added to the age",
)


def _before_an_up_day(frame: pd.DataFrame, bars: Bars, patterns: ScannedPatterns) -> pd.DataFrame:
    rows = _rows(frame, bars)
    later = np.minimum(rows + 1, len(bars) - 1)
    return frame[(bars.close[later] > bars.close[rows]) | (frame["bars_active"] == 0)]


register(
    "sampling_by_the_next_bar",
    stage="patterns",
    where=SAMPLE,
    description="a snapshot is kept when the next close is higher",
    expected=_REPLAY,
    leak=_sampled(_before_an_up_day),
    benign=_sampled(lambda frame, bars, patterns: frame[frame["bars_active"] >= 0]),
    benign_does="a snapshot is kept when its pattern is active, which holds for all",
)


def _shared_draw(original: Any, seed: int, tickers: Any, days: Any) -> np.ndarray:
    return np.random.default_rng(len(days)).random(len(days))


register(
    "sampling_depends_on_the_number_of_rows",
    stage="patterns",
    where="patterns.sampling.sampling_uniform",
    description="one random stream over all rows: which snapshot exists depends on how many others there will be",
    expected=_REPLAY,
    leak=_shared_draw,
    benign=lambda original, seed, tickers, days: original(seed, np.asarray(tickers)[::-1], np.asarray(days)[::-1])[
        ::-1
    ],
    benign_does="the draws are made in reverse order",
)


def _last_of_each_pattern(frame: pd.DataFrame, bars: Bars, patterns: ScannedPatterns) -> pd.DataFrame:
    return frame[~frame.duplicated("pattern_id", keep="last")]


register(
    "last_snapshot_of_each_pattern",
    stage="patterns",
    where=SAMPLE,
    description="only the last snapshot of a pattern is kept: it is the last one only in hindsight",
    expected=_REPLAY,
    leak=_sampled(_last_of_each_pattern),
    benign=_sampled(lambda frame, bars, patterns: frame[~frame.duplicated(["pattern_id", "snapshot_date"])]),
    benign_does="repeated snapshots, of which there are none, are dropped",
)


def _only_closed(frame: pd.DataFrame, bars: Bars, patterns: ScannedPatterns) -> pd.DataFrame:
    return frame[_end_of(frame, bars, patterns) >= 0]


register(
    "only_patterns_that_ended",
    stage="patterns",
    where=SAMPLE,
    description="snapshots of a pattern appear once it has ended",
    expected=_REPLAY,
    leak=_sampled(_only_closed),
    benign=_sampled(lambda frame, bars, patterns: frame[frame["activation_date"] <= frame["snapshot_date"]]),
    benign_does="snapshots appear from activation on",
)


def _only_breakouts(frame: pd.DataFrame, bars: Bars, patterns: ScannedPatterns) -> pd.DataFrame:
    start = bars.locate(frame["ticker"], to_days(frame["start_date"].to_numpy()))
    reason = patterns.end_reason[np.searchsorted(patterns.start_row, start)]
    return frame[reason != 2]  # END_REASONS: breakdown


register(
    "breakdowns_left_out",
    stage="patterns",
    where=SAMPLE,
    description="patterns that ended in a breakdown are left out",
    expected=_REPLAY,
    leak=_sampled(_only_breakouts),
    benign=_sampled(lambda frame, bars, patterns: frame[frame["lower"] < frame["upper"]]),
    benign_does="patterns without a channel, of which there are none, are left out",
)


def _history_over_all(original: Callable[..., Any], bars: Bars, config: PatternConfig, **kwargs: Any) -> Any:
    found = original(bars, dataclasses.replace(config, min_history_bars=1), **kwargs)
    keep = np.diff(bars.offsets)[found.ticker_code] >= config.min_history_bars
    return dataclasses.replace(found, **{f.name: getattr(found, f.name)[keep] for f in dataclasses.fields(found)})


def _history_up_to_activation(original: Callable[..., Any], bars: Bars, config: PatternConfig, **kwargs: Any) -> Any:
    found = original(bars, dataclasses.replace(config, min_history_bars=1), **kwargs)
    keep = found.activation_row - bars.offsets[found.ticker_code] + 1 >= config.min_history_bars
    return dataclasses.replace(found, **{f.name: getattr(found, f.name)[keep] for f in dataclasses.fields(found)})


register(
    "history_counted_over_the_whole_ticker",
    stage="patterns",
    where=FIND,
    description="a pattern counts when its ticker has enough bars in all, later ones included",
    expected=_REPLAY,
    leak=_history_over_all,
    benign=_history_up_to_activation,
    benign_does="bars up to the activation are counted, after the scan instead of in it",
)


def _backdated(original: Callable[..., Any], bars: Bars, config: PatternConfig, **kwargs: Any) -> Any:
    found = original(bars, config, **kwargs)
    return dataclasses.replace(found, activation_row=found.start_row + 1)


register(
    "activation_backdated",
    stage="patterns",
    where=FIND,
    description="a pattern counts as active from its second bar, with boundaries that its tenth bar completes",
    expected=(*_REPLAY, "every_snapshot_follows_from_its_qualifying_bars"),
    leak=_backdated,
    benign=lambda original, bars, config, **kwargs: dataclasses.replace(original(bars, config, **kwargs)),
    benign_does="the scan's result is copied",
)


def _percentile_over_all(original: Callable[..., Any], bars: Bars, **kwargs: Any) -> Any:
    found = original(bars, **kwargs)
    code = np.repeat(np.arange(bars.n_tickers), np.diff(bars.offsets))
    rank = pd.Series(found.bbw_percentile).groupby(code).rank(pct=True).to_numpy()
    return dataclasses.replace(found, bbw_percentile=rank)


register(
    "criterion_ranked_over_all_years",
    stage="patterns",
    where="features.criteria.pattern_criteria",
    description="the band width percentile that starts a pattern is ranked among all years of the ticker",
    expected=_REPLAY,
    leak=_percentile_over_all,
    benign=lambda original, bars, **kwargs: dataclasses.replace(original(bars, **kwargs)),
    benign_does="the criteria are copied",
)
