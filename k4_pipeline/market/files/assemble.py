"""Many files to one table of raw bars: date orders decided, instants put on their sessions, faults kept as sent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.dialect.dates import NO_DAY
from k4_pipeline.market.dialect.orders import MONTH_FIRST, OPEN, ORDER_NAMES, decide_orders
from k4_pipeline.market.exchanges import exchange_of
from k4_pipeline.market.files.table import FAULTS, OPEN_DATE, Again, FileBars
from k4_pipeline.market.instants import exchange_zone, sessions_of
from k4_pipeline.market.sources.base import RAW_COLUMNS, RawBars

_DAY = 86_400


def assemble(
    files: Sequence[FileBars],
    problems: Sequence[str],
    skipped: Sequence[str],
    *,
    given_order: str | None = None,
    default_exchange: str = "XNYS",
) -> RawBars:
    """The rows of all files as `RawBars`; each file has its tickers by now."""
    orders = _orders(files, given_order)
    dialects, notes = {}, list(problems)
    for file, order in zip(files, orders):
        _settle_days(file, order)
        _place_instants(file, default_exchange)
        found = [] if order is None else [ORDER_NAMES[o] or "open" for o in np.unique(order[file.days.numeric])]
        dialects[file.label] = {**file.dialect.as_dict(), "date_order": ", ".join(found)}
        notes += file.notes
    if ends := [file.label for file in files if file.open_end]:
        notes.append(
            f"{len(ends)} files do not end with a line break, e.g. {ends[0]}: their last rows look whole and are kept"
        )
    names = sorted({name for file in files for name in file.names})
    position = {name: i for i, name in enumerate(names)}
    code = [np.array([position[n] for n in f.names], dtype=np.int32)[f.ticker] for f in files]
    lengths = [len(f) for f in files]
    frame = pd.DataFrame(
        {
            "ticker": pd.Categorical.from_codes(_joined(code), pd.Index(names, dtype=object)),
            "date": _dates(_joined([f.days.first for f in files])),
            **{c: _joined([f.values[c] for f in files]) for c in ("open", "high", "low", "close", "volume")},
            "source": pd.Categorical.from_codes(
                np.repeat(np.arange(len(files), dtype=np.int32), lengths),
                pd.Index([f.label for f in files], dtype=object),
            ),
        },
        copy=False,
    )[list(RAW_COLUMNS)]
    fault = np.concatenate([f.fault for f in files])
    sent = np.full(len(frame), None, dtype=object)
    at = 0
    for file, length in zip(files, lengths):
        for row, cells in file.sent.items():
            sent[at + row] = (file.names[file.ticker[row]], *cells[1:])
        at += length
    resend = partial(_resend, np.cumsum([0, *lengths]), [f.again for f in files])
    if any(f.sent for f in files) or fault.any():
        frame["fault"] = pd.Categorical.from_codes(fault, list(FAULTS))
        frame["sent"] = sent
    return RawBars(frame, notes, list(skipped), dialects, resend=resend)


def _resend(starts: np.ndarray, again: Sequence[Again | None], rows: np.ndarray) -> dict[int, tuple[str, ...]]:
    """Rows of the whole table -> their cells as sent."""
    out: dict[int, tuple[str, ...]] = {}
    of_file = np.searchsorted(starts, rows, side="right") - 1
    for i in np.unique(of_file):
        ask, start = again[i], int(starts[i])
        if ask is not None:
            out |= {start + row: cells for row, cells in ask(rows[of_file == i] - start).items()}
    return out


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _dates(days: np.ndarray) -> np.ndarray:
    missing = days == NO_DAY
    if not missing.any():
        return to_dates(days)
    out = to_dates(np.where(missing, 0, days))
    out[missing] = np.datetime64("NaT")
    return out


def _orders(files: Sequence[FileBars], given: str | None) -> list[np.ndarray | None]:
    """Per file the order of its rows (codes of dialect/orders.py); None where no date has two readings."""
    if given:
        code = ORDER_NAMES.index(given)
        return [None if f.days.numeric is None else np.full(len(f), code, dtype=np.int8) for f in files]
    asked = [i for i, f in enumerate(files) if f.days.numeric is not None]
    out: list[np.ndarray | None] = [None] * len(files)
    if not asked:
        return out
    parts = [files[i].days for i in asked]
    first, second, numeric = (np.concatenate([getattr(p, c) for p in parts]) for c in ("first", "second", "numeric"))
    lengths = [len(files[i]) for i in asked]
    ticker = np.concatenate([files[i].ticker for i in asked])
    order = decide_orders(first, second, numeric, np.repeat(np.arange(len(asked)), lengths), ticker)
    for i, part in zip(asked, np.split(order, np.cumsum(lengths)[:-1])):
        out[i] = part
    return out


def _settle_days(file: FileBars, order: np.ndarray | None) -> None:
    """Choose between two readings; what stays open is refused as a whole, clear rows of an open ticker with it."""
    days = file.days
    if days.numeric is None or days.second is None or order is None:
        return
    settled = np.where(order == MONTH_FIRST, days.second, days.first)
    days.first = np.where(days.numeric, settled, days.first).astype(np.int32)
    open_rows = days.numeric & (order == OPEN)
    file.fault[open_rows & (file.fault == 0)] = OPEN_DATE
    days.first[open_rows] = NO_DAY
    if open_rows.any():
        row = int(np.flatnonzero(open_rows)[0])
        name = file.names[file.ticker[row]]
        text = file.again(np.array([row])).get(row, ("", ""))[1] if file.again else ""
        file.notes.append(
            f"{file.label}: {int(open_rows.sum())} dates such as {text!r} of {name} may be day first or month "
            "first and nothing decides; state it with source.dialect, date_order=day or date_order=month"
        )


def _place_instants(file: FileBars, default_exchange: str) -> None:
    """Stamps with a zone that are not midnight: the date in the zone of the ticker's exchange."""
    days = file.days
    if days.zoned is None or days.wall is None or days.offset is None:
        return
    moved = days.zoned & (days.wall != 0) & (days.first != NO_DAY)
    exchanges = [exchange_of(name, default_exchange) for name in file.names]
    utc = days.first.astype(np.int64) * _DAY + days.wall - days.offset.astype(np.int64) * 60
    for exchange in sorted(set(exchanges)):
        zone = exchange_zone(exchange)
        own = np.array([e == exchange for e in exchanges])
        rows = moved & own[file.ticker]
        if zone is not None and rows.any():
            days.first[rows] = sessions_of(utc[rows], zone)
