"""Snapshots made elsewhere, placed on the bars: the package's own snapshot table out, every refused row named.

Wanted columns: ticker, start_date, snapshot_date. Used when present: activation_date, upper_boundary, lower_boundary,
power_boundary, outcome_class. All others are ignored. How the file is read stands in external_file.py, how dates are in
dates.py, how its classes compare with the bars in external_labels.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.config import PatternConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.market.calendar import exchange_of
from k4_pipeline.market.instants import exchange_zone
from k4_pipeline.market.series import original_ticker
from k4_pipeline.patterns.boundaries import boundary_reasons
from k4_pipeline.patterns.dates import NO_DAY, parse_date_columns
from k4_pipeline.patterns.external_file import (
    BOUNDARIES,
    parse_numbers,
    parse_outcomes,
    read_raw_snapshots,
    ticker_names,
)
from k4_pipeline.patterns.snapshots import pattern_ids

MIN_HISTORY_BARS = 20  # a sequence needs one bar with this many bars up to and including it


@dataclass(frozen=True, eq=False)
class ExternalSnapshots:
    """A snapshot file, read against the bars.

    `snapshots`: the usual table, sorted by key. `outcomes`: the file's classes (Int8, <NA> where a row has none),
    aligned with `snapshots`; None when the file has no such column. `problems`: one line per refused row with row
    (1 is the first data row), ticker, start_date, snapshot_date (as sent) and the problem. `counts`: rows read, used
    and refused; boundaries computed from bars; given boundaries that differ from those of the bars start..activation
    by more than 1e-6 of their value (another adjustment of prices, or boundaries that know the rest of the pattern).
    """

    snapshots: pd.DataFrame
    outcomes: pd.Series | None
    problems: pd.DataFrame
    counts: dict[str, int]


class _Rows:
    """The rows of one file on their way to the table; each keeps the first problem found in it."""

    def __init__(self, raw: pd.DataFrame, bars: Bars, config: PatternConfig) -> None:
        self.raw, self.bars, self.config = raw, bars, config
        self.n = len(raw)
        self.tickers = ticker_names(raw["ticker"])  # (n,) object
        # A ticker used again by another company is several listings in the bars (CAR, CAR#2): a file may name either.
        self.listings: dict[str, list[str]] = {}
        for name in bars.tickers:
            self.listings.setdefault(original_ticker(str(name)), []).append(str(name))
        self.problems = np.full(self.n, "", dtype=object)
        self.start = self.activation = self.snapshot = np.full(self.n, -1, dtype=np.int64)  # rows in the bars
        self.activation_given = np.zeros(self.n, dtype=bool)
        self.counts: dict[str, int] = {"rows": self.n}

    @property
    def sound(self) -> np.ndarray:
        return self.problems == ""

    def refuse(self, rows: np.ndarray, text: str | Callable[[int], str]) -> None:
        """Give each of `rows` (n,) bool that has no problem yet this one."""
        for row in np.flatnonzero(rows & self.sound):
            self.problems[row] = text if isinstance(text, str) else text(int(row))

    def check_tickers(self) -> None:
        known = {*self.listings, *self.bars.tickers.tolist()}
        self.refuse(self.tickers == "", "ticker is empty")
        self.refuse(np.array([t not in known for t in self.tickers]), lambda r: f"ticker {self.tickers[r]} has no bars")

    def listing(self, ticker: str, day: int) -> str:
        """The listing of a ticker that has a bar on a day; "" when none has."""
        names = np.array(self.listings.get(ticker, [ticker]), dtype=object)
        hits = np.flatnonzero(self.bars.locate(names, np.full(len(names), day)) >= 0)
        return str(names[hits[0]]) if len(hits) else ""

    def name_listings(self, day: np.ndarray) -> None:
        """Each ticker used again under the name of the listing that has a bar on the day (n,) of its row."""
        again = np.array([len(self.listings.get(t, [])) > 1 for t in self.tickers], dtype=bool)
        for number in range(max((len(self.listings[t]) for t in self.tickers[again]), default=0)):
            rows = np.flatnonzero(again)
            names = np.array([self.listings[t][min(number, len(self.listings[t]) - 1)] for t in self.tickers[rows]])
            found = self.bars.locate(names.astype(object), day[rows]) >= 0
            self.tickers[rows[found]] = names[found]
            again[rows[found]] = False

    def place(self, day_first: bool | None, default_exchange: str) -> None:
        """Dates to rows of the bars; a missing activation bar is where the scanner would have it."""
        without_bars = ~self.sound

        def is_session(row: int, day: int) -> bool:
            return bool(without_bars[row]) or self.listing(self.tickers[row], day) != ""

        zones = {t: exchange_zone(exchange_of(t, default_exchange)) for t in sorted(set(self.tickers))}
        columns = [c for c in ("start_date", "activation_date", "snapshot_date") if c in self.raw]
        dates = parse_date_columns(
            {c: self.raw[c] for c in columns},
            day_first=day_first,
            zone_of_row=lambda row: zones[self.tickers[row]],
            is_session=is_session,
        )
        rows = {}
        self.name_listings(dates["snapshot_date"].day)
        for column in columns:
            day, problem = dates[column].day, dates[column].problem
            self.refuse(problem != "", _unread(column, problem))
            if column != "activation_date":
                self.refuse(day == NO_DAY, f"{column} is missing")
            rows[column] = self.bars.locate(self.tickers, day)
            self.refuse((day != NO_DAY) & (rows[column] < 0), _no_bar(column, day, self.tickers))
        self.start, self.snapshot = rows["start_date"], rows["snapshot_date"]
        self.activation = self.start + self.config.qualifying_bars - 1
        if "activation_date" in rows:
            self.activation_given = dates["activation_date"].day != NO_DAY
            self.activation = np.where(self.activation_given, rows["activation_date"], self.activation)

    def check_order(self) -> None:
        given, start, activation, snapshot = self.activation_given, self.start, self.activation, self.snapshot
        self.refuse(start > snapshot, "start_date lies after snapshot_date")
        self.refuse(given & (activation < start), "activation_date lies before start_date")
        self.refuse(given & (activation > snapshot), "activation_date lies after snapshot_date")
        self.refuse(
            activation > snapshot,
            f"the snapshot lies before the activation bar ({self.config.qualifying_bars} bars from start_date); "
            "give activation_date, or a later snapshot",
        )
        code = np.searchsorted(self.bars.offsets, np.maximum(snapshot, 0), side="right") - 1
        history = snapshot - self.bars.offsets[code] + 1
        self.refuse(
            history < MIN_HISTORY_BARS,
            lambda r: f"the snapshot is bar {history[r]} of {self.tickers[r]}; a sequence needs {MIN_HISTORY_BARS}",
        )

    def boundaries(self) -> pd.DataFrame:
        """upper, lower, power (n,): as sent, and where missing from the bars start..activation, never later ones."""
        high, low = np.full(self.n, np.nan), np.full(self.n, np.nan)
        sound = self.sound
        if sound.any():
            high[sound], low[sound] = _window_extremes(self.bars, self.start[sound], self.activation[sound])
        given = parse_numbers({c: self.raw[c] for c in BOUNDARIES if c in self.raw}, self.problems)
        upper, lower, power = (given.get(c, np.full(self.n, np.nan)) for c in BOUNDARIES)
        computed = np.isnan(upper) | np.isnan(lower)
        upper = np.where(np.isnan(upper), high, upper)
        lower = np.where(np.isnan(lower), low, lower)
        power = np.where(np.isnan(power), upper * self.config.power_factor, power)
        reasons = boundary_reasons(upper, lower, power)
        self.refuse(
            reasons != "", lambda r: f"{reasons[r]} (upper {upper[r]:g}, lower {lower[r]:g}, power {power[r]:g})"
        )
        differs = (np.abs(upper - high) > 1e-6 * high) | (np.abs(lower - low) > 1e-6 * low)
        self.counts["boundaries_computed"] = int((computed & self.sound).sum())
        self.counts["boundaries_differ_from_bars"] = int((differs & self.sound).sum())
        return pd.DataFrame({"upper": upper, "lower": lower, "power": power})

    def check_repeats(self, values: pd.DataFrame) -> None:
        """A key that stands there twice: the later one is refused when equal, all of them when they contradict."""
        sound = np.flatnonzero(self.sound)
        keys = pd.DataFrame({"ticker": self.tickers, "start": self.start, "snapshot": self.snapshot}).iloc[sound]
        group = keys.groupby(list(keys.columns), sort=False).ngroup().to_numpy()
        values = values.iloc[sound].assign(activation=self.activation[sound], group=group)
        kinds = values.drop_duplicates().groupby("group").size()
        first = np.full(len(kinds), -1, dtype=np.int64)
        for row, g in zip(sound, group):
            if first[g] < 0:
                first[g] = row
                if kinds[g] > 1:
                    self.problems[row] = "a later row has the same ticker, start_date, snapshot_date and other values"
            elif kinds[g] > 1:
                self.problems[row] = f"contradicts row {first[g] + 1}: the same key with other values"
            else:
                self.problems[row] = f"repeats row {first[g] + 1}"

    def table(self, bounds: pd.DataFrame, order: np.ndarray) -> pd.DataFrame:
        """The snapshots table of the rows `order`."""
        bars, tickers = self.bars, self.tickers[order]
        start, activation, snapshot = self.start[order], self.activation[order], self.snapshot[order]
        return pd.DataFrame(
            {
                "ticker": pd.Series(tickers, dtype="str"),
                "pattern_id": pattern_ids(tickers, bars.date[start]),
                "start_date": to_dates(bars.date[start]),
                "activation_date": to_dates(bars.date[activation]),
                "snapshot_date": to_dates(bars.date[snapshot]),
                **{c: bounds[c].to_numpy()[order] for c in ("upper", "lower", "power")},
                "start_price": bars.close[start],
                "qualifying_bars": (activation - start + 1).astype(np.int64),
                "bars_active": (snapshot - activation).astype(np.int64),
            }
        )

    def refused(self) -> pd.DataFrame:
        bad = np.flatnonzero(~self.sound)
        return pd.DataFrame(
            {
                "row": bad.astype(np.int64) + 1,
                "ticker": pd.Series(self.tickers[bad], dtype="str"),
                "start_date": pd.Series([str(v) for v in self.raw["start_date"].iloc[bad]], dtype="str"),
                "snapshot_date": pd.Series([str(v) for v in self.raw["snapshot_date"].iloc[bad]], dtype="str"),
                "problem": pd.Series(self.problems[bad], dtype="str"),
            }
        )


def _unread(column: str, problem: np.ndarray) -> Callable[[int], str]:
    return lambda r: f"{column}: {problem[r]}"


def _no_bar(column: str, day: np.ndarray, tickers: np.ndarray) -> Callable[[int], str]:
    return lambda r: f"{column} {np.datetime64(int(day[r]), 'D')} is no bar of {tickers[r]}"


def _window_extremes(bars: Bars, first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Highest high and lowest low of the rows first..last, both included; (n,) each."""
    bounds = np.column_stack([first, last + 1]).ravel()
    # reduceat takes every other segment; one more element lets a window end on the last bar.
    high = np.maximum.reduceat(np.append(bars.high, -np.inf), bounds)[::2]
    low = np.minimum.reduceat(np.append(bars.low, np.inf), bounds)[::2]
    return high, low


def read_snapshot_file(
    path: Path | str,
    bars: Bars,
    config: PatternConfig,
    *,
    day_first: bool | None = None,
    default_exchange: str = "XNYS",
) -> ExternalSnapshots:
    """Read a snapshot file and place every row on the bars.

    A missing activation_date is the bar `qualifying_bars - 1` after the start bar, as the scanner would have it.
    Missing boundaries are taken from the bars start..activation, never from later ones: highest high, lowest low, and
    the upper one times `power_factor`. Refused, each with its row in `problems`: unreadable dates and classes, dates
    without a bar of the ticker, a start after the activation or an activation after the snapshot, unusable boundaries,
    a snapshot with less history than a sequence needs, repeated and contradictory keys. `day_first` settles numeric
    dates the file leaves open (see dates.py). Raises `BadInputError` when the file cannot be read, its dates cannot be
    told apart, or no row is left.
    """
    raw = read_raw_snapshots(path)
    rows = _Rows(raw, bars, config)
    rows.check_tickers()
    rows.place(day_first, default_exchange)
    rows.check_order()
    bounds = rows.boundaries()
    outcomes = None
    if "outcome_class" in raw:
        outcomes, class_problems = parse_outcomes(raw["outcome_class"])
        rows.refuse(class_problems != "", lambda r: str(class_problems[r]))
        rows.check_repeats(bounds.assign(outcome=outcomes.fillna(-1)))
    else:
        rows.check_repeats(bounds)
    refused = rows.refused()
    order = np.flatnonzero(rows.sound)
    if len(order) == 0:
        first = "; ".join(f"row {p.row} ({p.ticker}): {p.problem}" for p in refused.head(5).itertuples(index=False))
        raise BadInputError(f"snapshot file {path}: none of its {rows.n} rows can be used. {first}")
    # Rows of the bars ascend by ticker, then date.
    order = order[np.lexsort((rows.snapshot[order], rows.start[order]))]
    counts = {
        **rows.counts,
        "used": len(order),
        "refused": len(refused),
        "activation_reconstructed": int((rows.sound & ~rows.activation_given).sum()),
    }
    aligned = None if outcomes is None else outcomes.iloc[order].reset_index(drop=True)
    return ExternalSnapshots(rows.table(bounds, order), aligned, refused, counts)
