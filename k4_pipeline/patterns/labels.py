"""Outcome labels: a race over the bars after a snapshot. THE ONLY FILE OF THE PACKAGE THAT LOOKS FORWARD.

Every label carries `label_end_date`, the first date on which it is known, and is a function of bars dated up to then
and of nothing else: labelling the bars cut at any day d gives every label with label_end_date <= d exactly, and no
other. Rules: docs/patterns.md; the censoring rule is spelled out in `label_snapshots`.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from k4_pipeline._numba import njit
from k4_pipeline.config import K2, K3, K4, K5, LabelConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.bars import Bars, DayLike, to_dates, to_day, to_days
from k4_pipeline.market.calendar import exchange_of, session_offset
from k4_pipeline.patterns.boundaries import check_boundaries, describe_rejects

_NEVER = np.int32(2**31 - 1)
LABEL_COLUMNS = ("outcome_class", "label_end_date", "censored", "label_bars")


@njit
def _race(gain: np.ndarray, loss: np.ndarray, targets: np.ndarray, stop: float) -> int:
    """Class by `race`: gain and loss (n,) prices of the later bars in order; the price of class k in
    targets[k - 1], (4,)."""
    best = 0
    stopped = False
    for t in range(len(gain)):
        if not stopped and loss[t] <= stop:
            if best == 0:
                return K5
            stopped = True
        if stopped:
            # After the stop nothing improves any more, except that a K3 may still become a K4.
            if best != K3:
                return best
            if gain[t] >= targets[K4 - 1]:
                return K4
        else:
            while best < K4 and gain[t] >= targets[best]:
                best += 1
            if best == K4:
                return K4
    return best


@njit
def _first_breach(gain: np.ndarray, loss: np.ndarray, targets: np.ndarray, stop: float) -> int:
    """Class by `first_breach`: on each bar K5, then K4, then K3, final; without one, the best gain among K0..K2."""
    best = 0
    for t in range(len(gain)):
        if loss[t] <= stop:
            return K5
        if gain[t] >= targets[K4 - 1]:
            return K4
        if gain[t] >= targets[K3 - 1]:
            return K3
        while best < K2 and gain[t] >= targets[best]:
            best += 1
    return best


@njit
def _label_rows(
    rows: np.ndarray,
    ends: np.ndarray,
    horizon_days: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    date: np.ndarray,
    ended_on: np.ndarray,
    data_end: int,
    gain: np.ndarray,
    loss: np.ndarray,
    factors: np.ndarray,
    stop_factor: float,
    horizon_bars: int,
    first_breach: bool,
    outcome: np.ndarray,
    known_on: np.ndarray,
    censored: np.ndarray,
    used: np.ndarray,
) -> None:
    """Fill the four label columns (n,); outcome -1 and known_on `_NEVER` where the label is not known by data_end.

    `ends[i]` is one past the last row of the ticker, `horizon_days[i]` the calendar's horizon-th session, `ended_on[r]`
    the day on which a ticker silent since row r counts as ended (`_NEVER` where the next bar comes in time).
    """
    targets = np.empty(4)
    for i in range(len(rows)):
        row = rows[i]
        target_row = row + horizon_bars
        last = -1  # last row used
        for b in range(row, min(target_row, ends[i])):
            if ended_on[b] == _NEVER:
                continue
            known = max(horizon_days[i], ended_on[b])
            resumes = date[b + 1] if b + 1 < ends[i] else _NEVER
            if known < resumes and known <= data_end:
                last = b
                known_on[i] = known
                censored[i] = True
                break
        if last < 0 and target_row < ends[i] and date[target_row] <= data_end:
            last = target_row
            known_on[i] = date[target_row]
        if last < 0:
            continue
        for k in range(4):
            targets[k] = factors[k] * upper[i]
        used[i] = last - row
        window_gain = gain[row + 1 : last + 1]
        window_loss = loss[row + 1 : last + 1]
        if first_breach:
            outcome[i] = _first_breach(window_gain, window_loss, targets, stop_factor * lower[i])
        else:
            outcome[i] = _race(window_gain, window_loss, targets, stop_factor * lower[i])


def _check_config(config: LabelConfig) -> None:
    if config.labeling not in ("race", "first_breach"):
        raise ConfigError(f"labeling {config.labeling!r} is unknown; use 'race' or 'first_breach'")
    if config.measured_on not in ("high_low", "close"):
        raise ConfigError(f"measured_on {config.measured_on!r} is unknown; use 'high_low' or 'close'")
    rising = [0.0, *config.gain_thresholds]
    if len(rising) != 5 or any(not a < b for a, b in itertools.pairwise(rising)):
        raise ConfigError(f"gain_thresholds are four rising positive shares, not {config.gain_thresholds}")
    if config.horizon_bars < 1 or not 0 < config.stop_loss < 1 or config.delisted_after_sessions < 1:
        raise ConfigError(
            "horizon_bars and delisted_after_sessions must be at least 1 and stop_loss between 0 and 1, found "
            f"{config.horizon_bars}, {config.delisted_after_sessions} and {config.stop_loss}"
        )


def _offset_days(exchanges: np.ndarray, days: np.ndarray, n: int) -> np.ndarray:
    """The n-th session after each day on its own exchange, int32 (m,)."""
    out = np.empty(len(days), dtype=np.int32)
    for exchange in np.unique(exchanges):
        mine = exchanges == exchange
        out[mine] = session_offset(str(exchange), days[mine], n)
    return out


def _ended_on(bars: Bars, exchange_by_ticker: np.ndarray, silent_sessions: int) -> np.ndarray:
    """For each bar the day on which its ticker counts as ended if no bar follows, int32 (n_bars,).

    `_NEVER` where the next bar comes in time. Only bars followed by a long gap, or by nothing, are looked up.
    """
    next_day = np.full(len(bars), _NEVER, dtype=np.int64)
    next_day[:-1] = bars.date[1:]
    next_day[bars.offsets[1:] - 1] = _NEVER
    # n sessions cover at least n days, so a shorter gap needs no calendar.
    candidates = np.flatnonzero(next_day - bars.date > silent_sessions + 1)
    code = np.searchsorted(bars.offsets, candidates, side="right") - 1
    ended = _offset_days(exchange_by_ticker[code], bars.date[candidates], silent_sessions + 1)
    out = np.full(len(bars), _NEVER, dtype=np.int32)
    out[candidates] = np.where(ended < next_day[candidates], ended, _NEVER)
    return out


def locate_snapshots(bars: Bars, snapshots: pd.DataFrame) -> np.ndarray:
    """The row of each snapshot bar, int64 (n,); `BadInputError` naming the first snapshots without a bar."""
    rows = bars.locate(snapshots["ticker"], to_days(snapshots["snapshot_date"].to_numpy()))
    missing = np.flatnonzero(rows < 0)
    if len(missing):
        named = "; ".join(
            f"row {i} ({snapshots['ticker'].iloc[i]}, {snapshots['snapshot_date'].iloc[i]:%Y-%m-%d})"
            for i in missing[:5]
        )
        raise BadInputError(
            f"{len(missing)} of {len(snapshots)} snapshots have no bar on their snapshot date: {named}; "
            "snapshots and bars must come from the same universe"
        )
    return rows


def label_snapshots(
    bars: Bars,
    snapshots: pd.DataFrame,
    config: LabelConfig,
    *,
    default_exchange: str = "XNYS",
    data_end: DayLike | None = None,
) -> pd.DataFrame:
    """The snapshots with outcome_class (Int8), label_end_date (datetime64[us]), censored (bool), label_bars (int64).

    One row per snapshot, in order. Bars i+1 .. i+h after the snapshot bar i are raced, h = `horizon_bars`. Under `race`
    the classes K1..K4 are the positive ones: K5 when the stop is reached before any of them; else the best one reached
    before the stop, where a K3 may still become K4 on the stop bar or later. Under `first_breach` the first of K5, K4,
    K3 is final. A bar that reaches stop and target is the stop first, in both. `label_bars` counts the bars raced.

    When it is known:
    - ordinary: on the date of bar i+h;
    - censored: the ticker has ended when more than `delisted_after_sessions` sessions of its exchange passed without a
      bar. If that has happened, and the calendar's h-th session after the snapshot has come, before the ticker shows a
      next bar, the label is taken on the bars up to its last one; `label_end_date` is the later of the two dates;
    - otherwise, at the end of the data, not at all: <NA>, NaT, label_bars 0.
    A bar that comes later (a halt of a year, a listing that returns) does not change a censored label.

    `data_end` is the last day that is known, by default the last day of the whole universe. Raises `BadInputError`
    naming the rows with unusable boundaries or without a snapshot bar, `ConfigError` for impossible settings.
    """
    _check_config(config)
    rejects = check_boundaries(snapshots)
    if len(rejects):
        raise BadInputError(
            f"{len(rejects)} of {len(snapshots)} snapshots have unusable boundaries: {describe_rejects(rejects)}; "
            "remove or correct them (check_boundaries lists them all)"
        )
    rows = locate_snapshots(bars, snapshots)
    last_known = bars.last_day if data_end is None else to_day(data_end)
    exchange_by_ticker = np.array([exchange_of(str(t), default_exchange) for t in bars.tickers], dtype=object)
    code = np.searchsorted(bars.offsets, rows, side="right") - 1
    n = len(rows)
    outcome = np.full(n, -1, dtype=np.int8)
    known_on = np.full(n, _NEVER, dtype=np.int32)
    censored = np.zeros(n, dtype=np.bool_)
    used = np.zeros(n, dtype=np.int64)
    by_close = config.measured_on == "close"
    _label_rows(
        rows,
        bars.offsets[code + 1],
        _offset_days(exchange_by_ticker[code], bars.date[rows], config.horizon_bars),
        snapshots["upper"].to_numpy(dtype=np.float64),
        snapshots["lower"].to_numpy(dtype=np.float64),
        bars.date,
        _ended_on(bars, exchange_by_ticker, config.delisted_after_sessions),
        last_known,
        bars.close if by_close else bars.high,
        bars.close if by_close else bars.low,
        1.0 + np.array(config.gain_thresholds, dtype=np.float64),
        1.0 - config.stop_loss,
        config.horizon_bars,
        config.labeling == "first_breach",
        outcome,
        known_on,
        censored,
        used,
    )
    known = known_on != _NEVER
    end_date = np.full(n, np.datetime64("NaT", "us"), dtype="datetime64[us]")
    end_date[known] = to_dates(known_on[known])
    labeled = snapshots.reset_index(drop=True).copy()
    labeled["outcome_class"] = pd.arrays.IntegerArray(np.where(known, outcome, 0).astype(np.int8), ~known)
    labeled["label_end_date"] = end_date
    labeled["censored"] = censored
    labeled["label_bars"] = used
    return labeled
