"""Leaks in the bars: adjustment, corrections, dates, filling, and which tickers are in the universe at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import PRICE_COLUMNS, Bars, to_days
from k4_pipeline.market.calendar import sessions
from k4_pipeline_tests.mutations.registry import register

CLEAN = "market.cleaning.clean_bars"
_AS_SENT = ("every_bar_is_a_row_as_sent", "everything_is_reproduced_from_bars_cut_at_a_date")


def _edited(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[..., Any]:
    """Cleaning followed by `edit` of the long table of bars."""

    def wrapper(original: Callable[..., Any], raw: Any, config: Any, **kwargs: Any) -> Any:
        result = original(raw, config, **kwargs)
        frame = edit(result.bars.to_frame()).sort_values(["ticker", "date"], ignore_index=True)
        return dataclasses.replace(result, bars=Bars.from_frame(frame))

    return wrapper


def _by_ticker(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[pd.DataFrame], pd.DataFrame]:
    return lambda frame: pd.concat([edit(part.copy()) for _, part in frame.groupby("ticker", sort=True)])


def _shuffled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sample(frac=1.0, random_state=len(frame))


def _adjusted_to_the_last_day(part: pd.DataFrame) -> pd.DataFrame:
    part[list(PRICE_COLUMNS)] *= 100.0 / part["close"].iloc[-1]
    return part


register(
    "adjustment_to_the_last_day",
    stage="bars",
    where=CLEAN,
    description="prices are scaled so that each ticker's last close is 100: the factor is known on the last day only",
    expected=_AS_SENT,
    leak=_edited(_by_ticker(_adjusted_to_the_last_day)),
    benign=_edited(_shuffled),
    benign_does="rows pass through a table in random order and are sorted again",
)


def _split_factor_applied_early(part: pd.DataFrame) -> pd.DataFrame:
    # A made-up 2:1 split in the last quarter of the history, applied to the prices before it but not after.
    rows = np.arange(len(part)) < int(0.75 * len(part))
    if len(part) > 200:
        part.loc[rows, list(PRICE_COLUMNS)] /= 2.0
        part.loc[rows, "volume"] *= 2.0
    return part


register(
    "split_factor_from_the_future",
    stage="bars",
    where=CLEAN,
    description="a 2:1 split is applied to the bars before it, whose prices and volumes then know of it",
    expected=_AS_SENT,
    leak=_edited(_by_ticker(_split_factor_applied_early)),
    benign=_edited(lambda frame: frame.iloc[::-1]),
    benign_does="rows pass through a table in reverse order and are sorted again",
)


def _keep_the_last_row(
    original: Callable[..., None], reason: Any, order: Any, code: np.ndarray, day: np.ndarray, values: Any
) -> None:
    sane = np.flatnonzero(reason == 0)
    key = code[sane].astype(np.int64) << 32 | (day[sane].astype(np.int64) + (1 << 31))
    _, last = np.unique(key[::-1], return_index=True)
    keep = np.zeros(len(sane), dtype=bool)
    keep[len(sane) - 1 - last] = True
    before = reason.copy()
    original(reason, order, code, day, values)
    repeats = reason.max()  # the code of one of the two reasons for repeated rows
    reason[sane] = np.where(keep, before[sane], repeats)


register(
    "later_correction_replaces_history",
    stage="bars",
    where="market.cleaning._judge_duplicates",
    description="of two contradicting rows for one day the one sent last is kept: a correction made weeks later",
    expected=("every_bar_is_a_row_as_sent",),
    leak=_keep_the_last_row,
    benign=lambda original, reason, *rest: original(reason, *rest),
    benign_does="the production rule called through a wrapper: contradicting rows are all refused",
)


def _accept_today(
    original: Any, reason: Any, code: Any, names: Any, day: Any, today: int, config: Any, now: Any
) -> Any:
    return original(reason, code, names, day, today, dataclasses.replace(config, todays_bar="accept"), now)


def _refuse_today(
    original: Any, reason: Any, code: Any, names: Any, day: Any, today: int, config: Any, now: Any
) -> Any:
    return original(reason, code, names, day, today, dataclasses.replace(config, todays_bar="after_close"), now)


register(
    "partial_bar_of_today",
    stage="bars",
    where="market.cleaning._refuse_future",
    description="the bar of the running session is taken as if it were complete",
    expected=("every_bar_is_a_row_as_sent", "cleaning_passes_a_test_of_known_traps"),
    leak=_accept_today,
    benign=_refuse_today,
    benign_does="the bar of today is taken only once its exchange has closed, which nobody has confirmed",
)


def _one_session_early(original: Callable[..., np.ndarray], column: Any, source: Any) -> np.ndarray:
    out = original(column, source)
    good = out > 0
    table = sessions("XNYS", int(out[good].min()) - 10, int(out[good].max()))
    at = np.searchsorted(table, out[good], side="left") - 1
    out[good] = table[np.maximum(at, 0)]
    return out


def _converted_to_another_zone(original: Callable[..., np.ndarray], column: Any, source: Any) -> np.ndarray:
    out = original(column, source)
    out[out > 0] -= 1  # midnight in New York is the evening before in Los Angeles
    return out


for _name, _leak, _what in (
    ("dates_one_session_early", _one_session_early, "every bar is dated one session early"),
    ("time_zone_moves_the_date", _converted_to_another_zone, "a time zone conversion moves every date back by a day"),
):
    register(
        _name,
        stage="bars",
        where="market.cleaning.days",
        description=f"{_what}: the bar of tomorrow stands under today's date",
        expected=_AS_SENT,
        leak=_leak,
        benign=lambda original, column, source: original(column, source) + 0,
        benign_does="the dates pass through an arithmetic step that leaves them as they are",
        everywhere=False,
    )


def _filled_from_the_next_bar(part: pd.DataFrame) -> pd.DataFrame:
    days = to_days(part["date"].to_numpy())
    absent = np.setdiff1d(sessions("XNYS", int(days[0]), int(days[-1])), days)
    following = np.searchsorted(days, absent)
    new = part.iloc[following].copy()
    new["date"] = absent.astype("datetime64[D]").astype("datetime64[us]")
    return pd.concat([part, new])


register(
    "missing_bar_filled_from_the_next",
    stage="bars",
    where=CLEAN,
    description="a session without a bar (a halt, a refused row) gets a copy of the bar that follows",
    expected=_AS_SENT,
    leak=_edited(_by_ticker(_filled_from_the_next_bar)),
    benign=_edited(lambda frame: frame.drop_duplicates(["ticker", "date"])),
    benign_does="repeated keys, of which there are none, are dropped",
)


def _interpolated_bar(part: pd.DataFrame) -> pd.DataFrame:
    days = to_days(part["date"].to_numpy())
    absent = np.setdiff1d(sessions("XNYS", int(days[0]), int(days[-1])), days)
    following = np.searchsorted(days, absent)
    before, after = part.iloc[following - 1].copy(), part.iloc[following]
    columns = [*PRICE_COLUMNS, "volume"]
    before[columns] = (before[columns].to_numpy() + after[columns].to_numpy()) / 2.0
    before["date"] = absent.astype("datetime64[D]").astype("datetime64[us]")
    return pd.concat([part, before])


register(
    "missing_bar_interpolated",
    stage="bars",
    where=CLEAN,
    description="a session without a bar gets the mean of the bars on both sides",
    expected=_AS_SENT,
    leak=_edited(_by_ticker(_interpolated_bar)),
    benign=_edited(_by_ticker(lambda part: part.iloc[::-1])),
    benign_does="rows of each ticker pass through a table in reverse order and are sorted again",
)


def _spikes_smoothed_with_the_next_bar(part: pd.DataFrame) -> pd.DataFrame:
    close = part["close"].to_numpy()
    if len(close) < 3:
        return part
    back = np.abs(close[1:-1] / close[:-2] - 1.0) + np.abs(close[1:-1] / close[2:] - 1.0)
    spike = np.append(np.insert(back > np.quantile(back, 0.98), 0, False), False)
    rows = np.flatnonzero(spike)
    columns = list(PRICE_COLUMNS)
    values = part[columns].to_numpy(copy=True)
    values[rows] = (values[rows - 1] + values[rows + 1]) / 2.0
    part[columns] = values
    return part


register(
    "spike_repaired_with_the_next_bar",
    stage="bars",
    where=CLEAN,
    description="a bar that jumps and comes back is 'repaired' with the bar after it",
    expected=_AS_SENT,
    leak=_edited(_by_ticker(_spikes_smoothed_with_the_next_bar)),
    benign=_edited(_by_ticker(lambda part: part.assign(close=part["close"] * 1.0))),
    benign_does="closes are multiplied by one",
)


def _survivors(frame: pd.DataFrame) -> pd.DataFrame:
    last = frame.groupby("ticker")["date"].transform("max")
    return frame[last >= frame["date"].max() - pd.Timedelta(days=7)]


def _liquid_over_all(frame: pd.DataFrame) -> pd.DataFrame:
    turnover = (frame["close"] * frame["volume"]).groupby(frame["ticker"]).mean()
    return frame[frame["ticker"].isin(turnover.nlargest(int(0.75 * len(turnover))).index)]


def _winners(frame: pd.DataFrame) -> pd.DataFrame:
    total = frame.groupby("ticker")["close"].agg(lambda c: c.iloc[-1] / c.iloc[0])
    return frame[frame["ticker"].isin(total.nlargest(int(0.75 * len(total))).index)]


for _name, _choose, _what in (
    ("universe_of_survivors", _survivors, "only tickers that still trade at the end are kept"),
    (
        "universe_by_total_liquidity",
        _liquid_over_all,
        "only the tickers with the highest turnover of all years are kept",
    ),
    ("universe_of_winners", _winners, "only the tickers that rose most over the whole history are kept"),
):
    register(
        _name,
        stage="bars",
        where=CLEAN,
        description=_what,
        expected=("everything_is_reproduced_from_bars_cut_at_a_date", "every_bar_is_a_row_as_sent"),
        leak=_edited(_choose),
        benign=_edited(lambda frame: frame[frame.groupby("ticker")["date"].transform("size") >= 20]),
        benign_does="only tickers with 20 bars are kept, which cleaning asks for anyway",
    )
