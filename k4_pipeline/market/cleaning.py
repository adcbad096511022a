"""Which bars are sane: every row a source sent is either kept as sent or stands in the rejects with a reason.

Nothing is repaired, filled or averaged. Rules that need a decision:

- Zero volume is sane (no trade); a negative or missing volume is not.
- Open and close may leave [low, high] by `range_tolerance` (vendors round adjusted prices column by column).
- Rows that repeat a (ticker, date) with the same numbers: the first stays, the others are rejects. Rows that contradict
  each other are **all** rejects: no evidence says which one is right, and "the last one sent" would let a later
  correction replace what was known on the day.
- A bar belongs to the date as written; an instant to the session in the zone of its exchange (`market/instants.py`).
- A ticker must be one daily series on its exchange's sessions; a long silence ends a listing (`market/series.py`).
- Bars dated after `today` are rejects. A bar dated `today` may still grow, so it is one too unless
  `CleaningConfig.todays_bar` says "accept", or "after_close" and its exchange closed `after_close_minutes` before `now`
  (needs `now`; without it "after_close" is as safe as "reject"). Without `today` the machine's date counts.
- A ticker with fewer than `min_bars` sane bars is dropped, its rows in the rejects.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from k4_pipeline.config import CleaningConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars, to_day
from k4_pipeline.market.files.table import FAULTS, SENT_COLUMNS
from k4_pipeline.market.listings import stale_runs, suspicious_jumps
from k4_pipeline.market.parsing import AMBIGUOUS_DAY, NO_DAY, days, numbers, ticker_codes
from k4_pipeline.market.series import SERIES_REASONS, judge_series, original_ticker, split_listings
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars

# In order of judgement: a row carries the first reason that applies.
REASONS = (
    "",
    "ticker is empty",
    "ticker contains a path separator or control character",
    "date is missing or cannot be read",
    "date is ambiguous: day first or month first?",
    "date lies before 1900",
    "date lies in the future",
    "bar of today may be incomplete",
    *(f"{column} is missing or no number" for column in (*PRICE_COLUMNS, "volume")),
    *(f"{column} is infinite" for column in (*PRICE_COLUMNS, "volume")),
    *(f"{column} is zero or negative" for column in PRICE_COLUMNS),
    "volume is negative",
    "volume is beyond any market",
    "high is below low",
    "open lies outside the range of the bar",
    "close lies outside the range of the bar",
    "repeats another row of the same ticker and date",
    "contradicts another row of the same ticker and date",
    "ticker has too few sane bars",
    *(fault for fault in FAULTS if fault and "ambiguous" not in fault),
    *SERIES_REASONS,
)
_CODE = {reason: np.uint8(code) for code, reason in enumerate(REASONS)}
_MOST_READ_AGAIN = 20_000  # refused rows whose text is fetched from the file once more
_MOST_VOLUME = 1e16  # the largest signed integer and its like stand for "unknown"
_FIRST_DAY = to_day("1900-01-01")
_BAD_NAME = frozenset("/\\") | {chr(c) for c in range(32)} | {"\x7f"}


@dataclass(frozen=True)
class CleanResult:
    """Cleaned bars, the rejects table, listings of odd but kept bars, and counts.

    `listings`: "suspicious_jumps" and "stale_runs" (market/listings.py). `counts`: read, kept, rejected (read = kept +
    rejected), tickers_read, tickers_kept, suspicious_jumps, stale_runs, and one "rejected: <reason>" per reason met.
    `warnings` are sentences about what was kept and looks odd; `read_by_ticker` counts the rows sent.
    """

    bars: Bars
    rejects: pd.DataFrame
    listings: dict[str, pd.DataFrame]
    counts: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    read_by_ticker: dict[str, int] = field(default_factory=dict)


class UnusableBarsError(BadInputError):
    """Too little is left to work with. `rejects` and `counts` tell what was refused and why."""

    def __init__(self, message: str, rejects: pd.DataFrame, counts: dict[str, int]) -> None:
        super().__init__(message)
        self.rejects, self.counts = rejects, counts


def clean_bars(
    raw: RawBars, config: CleaningConfig, *, today: dt.date | None = None, now: dt.datetime | None = None
) -> CleanResult:
    """Split the rows of `raw` into sane bars and rejects.

    `today` is the date on which the run happens (default: the machine's; bars of later dates are refused), `now` a
    time-zone-aware moment, used by `todays_bar="after_close"` alone. Raises `BadInputError` when no ticker keeps
    `min_bars` sane bars or more than `max_rejected_frac` of the rows are refused: the message names the commonest
    reasons, each with a row, and a remedy.
    """
    frame = raw.frame
    missing = [c for c in RAW_COLUMNS if c not in frame.columns]
    if missing:
        raise BadInputError(f"raw bars lack {', '.join(missing)}; a source must give {', '.join(RAW_COLUMNS)}")
    if len(frame) == 0:
        raise BadInputError("no bars were read" + _problem_text(raw.problems) + "; check the source and its path")
    code, names = ticker_codes(frame["ticker"])
    day = days(frame["date"], frame["source"], frame["ticker"], default_exchange=config.default_exchange)
    values = {c: numbers(frame[c]) for c in (*PRICE_COLUMNS, "volume")}

    reason = _judge_rows(code, names, day, values, config)
    _take_over_faults(reason, frame)
    _refuse_future(reason, code, names, day, to_day(today or dt.date.today()), config, now)
    order = _sorted_order(code, day)
    _judge_duplicates(reason, order, code, day, values)
    twice = int(_CODE["contradicts another row of the same ticker and date"])
    warnings = judge_series(reason, twice, _CODE, order, code, names, day, values, config)
    bad_rows = int(np.count_nonzero(reason))
    _drop_short_tickers(reason, code, names, config.min_bars)

    kept = int(np.count_nonzero(reason == 0))
    rejects = _rejects_table(raw, reason, values)
    per_reason = np.bincount(reason, minlength=len(REASONS))
    refused = {f"rejected: {REASONS[i]}": int(n) for i, n in enumerate(per_reason) if i and n}
    if kept == 0 or bad_rows > config.max_rejected_frac * len(frame):
        counts = {"read": len(frame), "kept": 0, "rejected": len(frame), **refused}
        raise UnusableBarsError(_refusal(raw, reason, kept, config), rejects, counts)
    rows: np.ndarray | slice
    if order is not None:
        rows = order[reason[order] == 0]
    else:  # no list of rows where all are kept: it is as large as a column
        rows = np.flatnonzero(reason == 0) if kept < len(frame) else slice(None)
    rows, listing, listed, said = split_listings(rows, code, names, day, config)
    bars = _to_bars(rows, listing, listed, day, values)
    listings = {
        "suspicious_jumps": suspicious_jumps(bars, config.jump_factor),
        "stale_runs": stale_runs(bars, config.stale_bars),
    }
    counts = {
        "read": len(frame),
        "kept": len(bars),
        "rejected": len(rejects),
        "tickers_read": len(names),
        "tickers_kept": bars.n_tickers,
        **{name: len(table) for name, table in listings.items()},
        **refused,
    }
    if counts["kept"] + counts["rejected"] != counts["read"]:
        raise AssertionError(f"cleaning lost rows: {counts}")
    read = dict(zip(names.tolist(), np.bincount(code, minlength=len(names)).tolist()))
    return CleanResult(bars, rejects, listings, counts, [*warnings, *said], read)


def _take_over_faults(reason: np.ndarray, frame: pd.DataFrame) -> None:
    """Rows that the reader could not read carry its reason."""
    if "fault" not in frame:
        return
    fault = pd.Categorical(frame["fault"])
    for i, why in enumerate(fault.categories):
        if why:
            reason[fault.codes == i] = _CODE[why]


def _judge_rows(
    code: np.ndarray, names: np.ndarray, day: np.ndarray, values: dict[str, np.ndarray], config: CleaningConfig
) -> np.ndarray:
    """The reason code of every row judged alone, uint8 (n,); 0 = sane."""
    reason = np.zeros(len(code), dtype=np.uint8)

    def refuse(rows: np.ndarray, why: str) -> None:
        reason[rows & (reason == 0)] = _CODE[why]

    name_reason = np.zeros(len(names), dtype=np.uint8)
    for i, name in enumerate(names):
        if not name:
            name_reason[i] = _CODE["ticker is empty"]
        elif not _BAD_NAME.isdisjoint(name) or name in (".", ".."):
            name_reason[i] = _CODE["ticker contains a path separator or control character"]
    reason[:] = name_reason[code]
    refuse(day == NO_DAY, "date is missing or cannot be read")
    refuse(day == AMBIGUOUS_DAY, "date is ambiguous: day first or month first?")
    refuse(day < _FIRST_DAY, "date lies before 1900")
    for column, x in values.items():
        refuse(np.isnan(x), f"{column} is missing or no number")
    for column, x in values.items():
        refuse(np.isinf(x), f"{column} is infinite")
    for column in PRICE_COLUMNS:
        refuse(values[column] <= 0.0, f"{column} is zero or negative")
    refuse(values["volume"] < 0.0, "volume is negative")
    refuse(values["volume"] >= _MOST_VOLUME, "volume is beyond any market")
    high, low = values["high"], values["low"]
    refuse(high < low, "high is below low")
    lowest, highest = low * (1.0 - config.range_tolerance), high * (1.0 + config.range_tolerance)
    for column in ("open", "close"):
        refuse((values[column] < lowest) | (values[column] > highest), f"{column} lies outside the range of the bar")
    return reason


def _refuse_future(
    reason: np.ndarray,
    code: np.ndarray,
    names: np.ndarray,
    day: np.ndarray,
    today: int,
    config: CleaningConfig,
    now: dt.datetime | None,
) -> None:
    reason[(reason == 0) & (day > today)] = _CODE["date lies in the future"]
    if config.todays_bar == "accept":
        return
    of_today = (reason == 0) & (day == today)
    if config.todays_bar == "after_close" and now is not None and of_today.any():
        latest = now - dt.timedelta(minutes=config.after_close_minutes)
        closed = np.zeros(len(names), dtype=bool)
        for i in np.unique(code[of_today]):
            exchange = calendar.exchange_of(names[i], config.default_exchange)
            closed[i] = calendar.has_closed(exchange, today, latest)
        of_today &= ~closed[code]
    reason[of_today] = _CODE["bar of today may be incomplete"]


def _sorted_order(code: np.ndarray, day: np.ndarray) -> np.ndarray | None:
    """Rows by (ticker, date), ties as sent; None when they already stand so."""
    step = code[1:].astype(np.int64) - code[:-1]
    if bool(np.all((step > 0) | ((step == 0) & (day[1:] >= day[:-1])))):
        return None
    return np.lexsort((day, code))


def _judge_duplicates(
    reason: np.ndarray, order: np.ndarray | None, code: np.ndarray, day: np.ndarray, values: dict[str, np.ndarray]
) -> None:
    """Among rows sane so far: equal repetitions keep the first, contradictions keep none."""
    rows = np.flatnonzero(reason == 0) if order is None else order[reason[order] == 0]
    if len(rows) < 2:
        return
    later, earlier = rows[1:], rows[:-1]
    again = (code[later] == code[earlier]) & (day[later] == day[earlier])
    if not again.any():
        return
    group = np.concatenate([[0], np.cumsum(~again)])  # (len(rows),) one number per (ticker, date)
    first = rows[np.flatnonzero(np.concatenate([[True], ~again]))][group]
    differs = np.zeros(len(rows), dtype=bool)
    for x in values.values():
        differs |= x[rows] != x[first]
    contradicts = np.zeros(int(group[-1]) + 1, dtype=bool)
    contradicts[group[differs]] = True
    reason[rows[contradicts[group]]] = _CODE["contradicts another row of the same ticker and date"]
    reason[rows[~contradicts[group] & (rows != first)]] = _CODE["repeats another row of the same ticker and date"]


def _drop_short_tickers(reason: np.ndarray, code: np.ndarray, names: np.ndarray, min_bars: int) -> None:
    sane = reason == 0
    # All listings of a ticker count together, so that cleaning cleaned bars again drops nothing.
    _, ticker = np.unique([original_ticker(str(name)) for name in names], return_inverse=True)
    short = np.bincount(ticker[code[sane]], minlength=len(names)) < min_bars
    reason[sane & short[ticker[code]]] = _CODE["ticker has too few sane bars"]


def _to_bars(
    rows: np.ndarray | slice, code: np.ndarray, names: np.ndarray, day: np.ndarray, values: dict[str, np.ndarray]
) -> Bars:
    """Rows sorted by (ticker, date) with the code of each."""
    present, lengths = np.unique(code, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    columns = {c: np.array(values[c][rows], copy=isinstance(rows, slice) or None) for c in (*PRICE_COLUMNS, "volume")}
    return Bars(
        tickers=names[present],
        offsets=offsets,
        date=np.array(day[rows], copy=isinstance(rows, slice) or None),
        **columns,
    )


def _rejects_table(raw: RawBars, reason: np.ndarray, values: dict[str, np.ndarray]) -> pd.DataFrame:
    """The refused rows with the cells as sent: `value` is the cell the reason is about, `row` the whole row."""
    rows, frame = np.flatnonzero(reason), raw.frame
    part = frame.iloc[rows]
    as_sent = part["sent"].to_numpy(copy=True) if "sent" in part else np.full(len(rows), None, dtype=object)
    cells = {c: _as_text(part[c]).to_numpy(dtype=object) for c in SENT_COLUMNS}
    if raw.resend is not None:
        without = [i for i, sent in enumerate(as_sent) if sent is None][:_MOST_READ_AGAIN]
        found = raw.resend(rows[without]) if without else {}
        for i in without:
            if (again := found.get(int(rows[i]))) is not None:
                as_sent[i] = (cells["ticker"][i], *again[1:])
    for i, sent in enumerate(as_sent):
        if isinstance(sent, tuple):
            for column, text in zip(SENT_COLUMNS, sent):
                cells[column][i] = text
    why = np.array(REASONS, dtype=object)[reason[rows]]
    value = np.full(len(rows), "", dtype=object)
    for column in SENT_COLUMNS:
        about = np.array([w.startswith(f"{column} is") for w in REASONS])[reason[rows]]
        value[about] = cells[column][about]
    row = np.array([_row_text(cell) for cell in zip(*cells.values())], dtype=object)
    return pd.DataFrame(
        {
            "ticker": pd.Series(cells["ticker"], dtype="str"),
            "date": pd.Series(cells["date"], dtype="str"),
            **{c: values[c][rows] for c in (*PRICE_COLUMNS, "volume")},
            "reason": pd.Series(why, dtype="str"),
            "value": pd.Series(value, dtype="str"),
            "row": pd.Series(row, dtype="str"),
            "source": _as_text(part["source"]),
        }
    )


def _row_text(cells: tuple[str, ...]) -> str:
    """The row as sent; of a row of too many cells the line itself stands in the place of the date."""
    if not any(cells[2:]):
        return cells[1]
    return "; ".join(cells)


def _as_text(column: pd.Series) -> pd.Series:
    missing = column.isna().to_numpy()
    if column.dtype.kind == "M" and not isinstance(column.dtype, pd.DatetimeTZDtype):
        midnight = (column == column.dt.normalize()).all()
        column = column.dt.strftime("%Y-%m-%d" if midnight else "%Y-%m-%d %H:%M:%S")
    text = np.array([str(v) for v in column.astype(object)], dtype=object)
    text[missing] = ""
    return pd.Series(text, dtype="str")


def _problem_text(problems: list[str]) -> str:
    if not problems:
        return ""
    return f" ({len(problems)} problems while reading, first: {problems[0]})"


def _date_as_sent(row: pd.Series) -> str:
    sent = row.get("sent")
    return sent[1] if isinstance(sent, tuple) else str(row["date"])


def _refusal(raw: RawBars, reason: np.ndarray, kept: int, config: CleaningConfig) -> str:
    n = len(raw.frame)
    per_reason = np.bincount(reason, minlength=len(REASONS))
    per_reason[0] = 0
    parts = []
    for i in np.argsort(-per_reason, kind="stable")[:3]:
        if per_reason[i]:
            row = raw.frame.iloc[int(np.flatnonzero(reason == i)[0])]
            parts.append(
                f"{REASONS[i]}: {per_reason[i]} rows, e.g. ticker {row['ticker']!r} date {_date_as_sent(row)!r} "
                f"in {row['source']}"
            )
    left = f"{n - kept} of {n} rows are refused and {kept} kept"
    limit = f"at least one ticker needs {config.min_bars} sane bars and at most {config.max_rejected_frac:.0%} bad rows"
    return (
        f"the bars do not suffice: {left}; {limit}. {'; '.join(parts)}{_problem_text(raw.problems)}. "
        "Mend the input, or relax CleaningConfig when these bars are right"
    )
