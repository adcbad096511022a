"""What was read, kept and refused of one source, as a dict for programs and as lines for people."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market import calendar
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.by_ticker import by_ticker, nothing_kept, refused_by_ticker
from k4_pipeline.market.cleaning import CleanResult, UnusableBarsError, clean_bars
from k4_pipeline.market.completeness import completeness
from k4_pipeline.market.quality import duplicate_series, few_rows_were_refused, refused_rows_have_something_in_common
from k4_pipeline.market.series import original_ticker
from k4_pipeline.market.sources import RawBars, read_bars

STALE_SESSIONS = 3  # a source whose last bar lies further behind the clock is said to be stale


def check_source(
    config: PipelineConfig, *, raw_dir: Path | None = None, now: dt.datetime | None = None
) -> tuple[dict[str, Any], Bars | None]:
    """Read and clean the configured source: (summary, the bars, or None when nothing usable is left).

    Keys of the summary: rows_read, rows_kept, rows_refused, tickers, files_read, files_unchanged, files_skipped,
    refusals (by reason: count, ticker, file, example as sent), warnings, dialects (by file), by_ticker
    (`by_ticker.py`), by_file, error (when nothing is left).
    """
    now = now or dt.datetime.now(dt.UTC)
    try:
        raw = read_bars(
            config.source,
            config.simulation,
            raw_dir=raw_dir,
            default_exchange=config.cleaning.default_exchange,
            keep=False,
        )
    except BadInputError as problem:
        return {**_empty(), "error": str(problem), "warnings": [str(problem)]}, None
    try:
        result = clean_bars(raw, config.cleaning, today=now.date(), now=now)
    except UnusableBarsError as problem:
        summary = {**_empty(), "error": str(problem), "rows_read": len(raw.frame), "rows_refused": len(problem.rejects)}
        summary |= {"files_skipped": raw.skipped, "dialects": raw.dialects, "refusals": refusals(problem.rejects)}
        summary["by_ticker"] = {t: nothing_kept(why) for t, why in refused_by_ticker(problem.rejects).items()}
        return {**summary, "warnings": [*raw.problems, str(problem)]}, None
    except BadInputError as problem:
        return {**_empty(), "error": str(problem), "warnings": [*raw.problems, str(problem)]}, None
    return summarise(raw, result, now, config), result.bars


def _empty() -> dict[str, Any]:
    return {
        "rows_read": 0,
        "rows_kept": 0,
        "rows_refused": 0,
        "tickers": 0,
        "files_read": 0,
        "files_unchanged": 0,
        "files_skipped": [],
        "refusals": {},
        "warnings": [],
        "dialects": {},
        "by_ticker": {},
        "by_file": {},
    }


def summarise(
    raw: RawBars,
    result: CleanResult,
    now: dt.datetime,
    config: PipelineConfig,
    complete: pd.DataFrame | None = None,
) -> dict[str, Any]:
    """The summary of a source that gave bars; `complete` is their table of completeness, when there already."""
    bars, counts = result.bars, result.counts
    complete = completeness(bars, config.cleaning) if complete is None else complete
    simulated = config.source.source == "simulated"
    stale = "" if simulated else staleness(bars, now, config.cleaning.default_exchange)
    few = few_rows_were_refused(result.rejects, result.read_by_ticker)
    loss = [f"{len(few)} tickers lose more than 2% of their rows; {few[0]}"] if few else []
    twice = duplicate_series(bars)
    same = [f"{len(twice)} tickers hold the bars of another, e.g. {twice[0]}"] if twice else []
    common = refused_rows_have_something_in_common(result.rejects, bars)
    jumped = jumps(result.listings["suspicious_jumps"])
    said = [*raw.problems, *result.warnings, *loss, *common, *same, *jumped, *([stale] if stale else [])]
    return {
        **_empty(),
        "rows_read": int(counts["read"]),
        "rows_kept": int(counts["kept"]),
        "rows_refused": len(result.rejects),
        "tickers": bars.n_tickers,
        "files_read": raw.frame["source"].nunique() - raw.files_unchanged,
        "files_unchanged": raw.files_unchanged,
        "files_skipped": raw.skipped,
        "refusals": refusals(result.rejects),
        "warnings": said,
        "dialects": raw.dialects,
        "by_ticker": by_ticker(raw, result, complete, now, config.cleaning.default_exchange),
        "by_file": _by_file(raw, result),
    }


def _by_file(raw: RawBars, result: CleanResult) -> dict[str, dict[str, int]]:
    """Per file: rows read and refused."""
    read = raw.frame["source"].value_counts()
    lost = result.rejects["source"].value_counts().to_dict()
    return {str(f): {"rows_read": int(n), "rows_refused": int(lost.get(str(f), 0))} for f, n in read.items()}


def refusals(rejects: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """By reason, commonest first: count, and ticker, file and value (or row) as sent of the first such row."""
    out: dict[str, dict[str, Any]] = {}
    for reason in rejects["reason"].value_counts().index:
        rows = rejects[rejects["reason"] == reason]
        row = rows.iloc[0]
        out[str(reason)] = {
            "count": len(rows),
            "ticker": str(row["ticker"]),
            "file": str(row["source"]),
            "example": str(row["value"] or row["row"]),
        }
    return out


def jumps(table: pd.DataFrame) -> list[str]:
    """A sentence about closes that jump from one bar to the next, as split and unit of money changes do; else none."""
    if not len(table):
        return []
    first = table.iloc[0]
    return [
        f"{len(table)} closes of {table['ticker'].nunique()} tickers jump (a split not applied, another unit of money, "
        f"a new company?), e.g. {first['ticker']} from {first['previous_close']:g} to {first['close']:g} on "
        f"{first['date']:%Y-%m-%d}"
    ]


def staleness(bars: Bars, now: dt.datetime, default_exchange: str) -> str:
    """A sentence when the last bar of the universe lies more than three sessions behind the clock; else empty."""
    last, today = int(bars.last_day), int(np.datetime64(now.date(), "D").astype(int))
    if today <= last:
        return ""
    missing = int((calendar.sessions(default_exchange, last + 1, today) < today).sum())
    if missing <= STALE_SESSIONS:
        return ""
    return (
        f"the last bar is of {np.datetime64(last, 'D')}, {missing} sessions of {default_exchange} ago: signals made "
        "from these bars are of that day, not of today"
    )


def show(summary: dict[str, Any]) -> list[str]:
    """The summary in lines: what was read, what was refused with one value as sent, files skipped, warnings."""
    names = {original_ticker(ticker) for ticker, row in summary["by_ticker"].items() if row["bars"]}
    listings = f" in {summary['tickers']:,} listings" if 0 < len(names) < summary["tickers"] else ""
    lines = [
        f"{summary['rows_read']:,} rows read, {summary['rows_kept']:,} kept, {summary['rows_refused']:,} refused; "
        f"{len(names) if listings else summary['tickers']:,} tickers{listings}"
    ]
    if summary["files_unchanged"]:
        lines.append(
            f"  {summary['files_unchanged']:,} files have not changed since they were read and are not read again; "
            f"{summary['files_read']:,} read"
        )
    for reason, about in list(summary["refusals"].items())[:5]:
        example = about["example"][:60]
        lines.append(f"  refused {about['count']:,}: {reason}; e.g. {about['ticker']} in {about['file']}: {example!r}")
    skipped = summary["files_skipped"]
    lines += [f"  skipped: {text}" for text in skipped[:5]]
    if len(skipped) > 5:
        lines.append(f"  and {len(skipped) - 5} more files skipped")
    lines += [f"  note: {text}" for text in summary["warnings"][:8] if text not in skipped]
    shapes: dict[str, int] = {}
    for dialect in summary["dialects"].values():
        named = {k: v for k, v in dialect.items() if v not in (None, "", {}) and k in _SHOWN}
        text = ", ".join(f"{k} {v!r}" for k, v in named.items())
        shapes[text] = shapes.get(text, 0) + 1
    lines += [f"  {n:,} files: {text}" for text, n in sorted(shapes.items(), key=lambda item: -item[1])[:5] if text]
    return lines


_SHOWN = ("encoding", "delimiter", "decimal", "thousands", "date_order", "layout", "prices")
