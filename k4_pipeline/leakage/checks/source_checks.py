"""From the source file to daily_bars: read a second time, cut at a date and read again, and cleaned again."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.leakage.checks.replay_at_cutoffs import compare_bars
from k4_pipeline.leakage.engine.audit import AuditContext, check, day_text, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables
from k4_pipeline.leakage.oracles.reader import VALUES, as_sent, cut_file, plainly_sane, read_plainly
from k4_pipeline.market import sources
from k4_pipeline.market.bars import Bars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.verdict import Verdict

READ_TOLERANCE = 1e-12  # relative; text is parsed by two readers


def _bar_frame(bars: Bars) -> pd.DataFrame:
    frame = bars.to_frame()
    return frame.assign(ticker=frame["ticker"].astype(object), day=frame["date"].dt.strftime("%Y-%m-%d").astype(object))


def _with_column(context: AuditContext, column: str, values: np.ndarray) -> AuditContext:
    old = context.full.bars
    kept = {c: getattr(old, c) for c in ("tickers", "offsets", "date", *VALUES)}
    return context.with_full(bars=Bars(**{**kept, column: values}))


def _next_volume(context: AuditContext) -> AuditContext:
    """One bar's volume is the mean of its own and the next."""
    volume = context.full.bars.volume.copy()
    volume[5] = (volume[5] + volume[6]) / 2 + 1.0
    return _with_column(context, "volume", volume)


def _nudged_close(context: AuditContext) -> AuditContext:
    close = context.full.bars.close.copy()
    close[-1] *= 1 + 1e-10
    return _with_column(context, "close", close)


def _without_a_ticker(context: AuditContext) -> AuditContext:
    """The ticker with the oldest bar is not there."""
    bars = context.full.bars
    oldest = int(np.argmin(bars.date[bars.offsets[:-1]]))
    return context.with_full(bars=bars.subset([str(t) for i, t in enumerate(bars.tickers) if i != oldest]))


@check(
    "bars",
    proves="Cleaning the rows of the source again, with the settings asked for, gives exactly the stored bars and "
    "refused rows: what is stored was not smoothed, thinned or chosen after cleaning.",
    misses="What cleaning itself does (the other checks of the bars).",
    needs=("raw",),
    reads_files=True,
    corruptions=(_next_volume, _nudged_close, _without_a_ticker),
)
def bars_are_those_that_cleaning_the_source_gives(context: AuditContext) -> Verdict:
    """Clean again and compare to the bit."""
    full, out = context.full, Comparison()
    assert full.raw is not None
    again = production.clean(full.raw, context.config, context.today)
    cause = "the asset stored other bars than cleaning gives"
    frames = full.bars.to_frame(), again.bars.to_frame()
    out.merge(compare_tables("daily_bars", *frames, ["ticker", "date"], VALUES, when="cleaned again", cause=cause))
    if full.rejects is not None:
        same = len(full.rejects) == len(again.rejects) and list(full.rejects["reason"]) == list(again.rejects["reason"])
        text = f"rejects: {len(full.rejects)} rows are stored, cleaning again refuses {len(again.rejects)}"
        out.add(len(again.rejects), int(not same), [f"{text}, or for other reasons"] * (not same))
    return verdict_of(out)


@check(
    "bars",
    proves="Every stored bar is a row of the source file with the same numbers, and every row of the file that is "
    "beyond doubt is stored, by a second reader that shares no code with market/.",
    misses="Rows whose sanity can be disputed; simulated markets, which have no file.",
    needs=("source file",),
    reads_files=True,
    corruptions=(_next_volume, _nudged_close, _without_a_ticker),
)
def bars_are_those_of_a_plain_reader(context: AuditContext) -> Verdict:
    """Read the source file with pandas alone."""
    config, out = context.config, Comparison()
    sent = read_plainly(str(context.source_path), config.source.tickers)
    kept = _bar_frame(context.full.bars)
    sent, kept = (table.assign(ticker=as_sent(table["ticker"])) for table in (sent, kept))
    there = sent[sent["day"] != ""].drop_duplicates(["ticker", "day", *VALUES])
    joined = kept[["ticker", "day", *VALUES]].merge(there, on=["ticker", "day"], how="left", suffixes=("", "_sent"))
    agree = np.ones(len(joined), dtype=bool)
    for column in VALUES:
        stored, read = joined[column].to_numpy(), joined[f"{column}_sent"].to_numpy()
        agree &= np.abs(stored - read) <= READ_TOLERANCE * np.abs(stored)
    found = joined[["ticker", "day"]].assign(agree=agree).groupby(["ticker", "day"], sort=False)["agree"].any()
    odd = found[~found]
    if len(sent) == (sent["day"] != "").sum():
        text = "no row of the source file has these numbers"
        out.add(len(found), len(odd), (f"daily_bars: {t} {d}: {text}" for t, d in odd.index[:10]))
    cleaning = config.cleaning
    today = str(context.today) if context.today else "9999-99-99"
    sane = sent[plainly_sane(sent, cleaning.range_tolerance) & (sent["day"] < today)]
    sane = sane[sane.groupby("ticker")["day"].transform("size") >= 2 * cleaning.min_bars]
    lost = sane.merge(kept[["ticker", "day"]], on=["ticker", "day"], how="left", indicator=True)
    lost = lost[lost["_merge"] == "left_only"]
    refused = context.full.rejects
    if refused is not None and len(lost):  # a calendar may refuse what prices cannot: those rows are named there
        names = refused["ticker"].astype(str).str.strip() + "|" + refused["date"].astype(str).str[:10]
        lost = lost[~(lost["ticker"] + "|" + lost["day"]).isin(set(names)) | _whole_ticker(lost, kept)]
    lines = (f"daily_bars: {r.ticker} {r.day}: a sane row of the source file is not stored" for r in lost.itertuples())
    out.add(len(sane), len(lost), lines)
    return verdict_of(out, rows=len(sent))


def _whole_ticker(lost: pd.DataFrame, kept: pd.DataFrame) -> pd.Series:
    """Rows of tickers of which nothing at all was stored."""
    return ~lost["ticker"].isin(set(kept["ticker"]))


@check(
    "replay",
    proves="When the source file ends at a date, reading and cleaning it gives the same bars up to that date: the "
    "reader itself looks at nothing later.",
    misses="Dates other than the sampled ones; simulated markets, which have no file.",
    needs=("source file",),
    reads_files=True,
    corruptions=(_next_volume, _without_a_ticker),
)
def bars_are_reproduced_from_the_source_cut_at_a_date(context: AuditContext) -> Verdict:
    """Cut the file itself, read it, clean it, compare."""
    full, config, out = context.full, context.config, Comparison()
    last = full.bars.date[full.bars.offsets[1:] - 1]
    gone = np.unique(last[last < full.bars.last_day])  # the last days of tickers that ended earlier
    days = {*context.cut_days(1, 21).tolist(), *gone[len(gone) // 2 : len(gone) // 2 + 1].tolist()}
    for day in sorted(days):
        with tempfile.TemporaryDirectory(prefix="k4-audit-") as folder:
            path = cut_file(context.source_path, day_text(day), Path(folder))
            source = dataclasses.replace(config.source, path=str(path))
            raw = sources.read_bars(source, config.simulation)
        cleaned = production.clean(raw, config, context.today)
        known, again = (
            dataclasses.replace(full, bars=bars, panel=np.zeros((len(bars), 0)), context=None, _cache={})
            for bars in (full.bars, cleaned.bars)
        )
        out.merge(compare_bars(known, again, day, when=f"the source file cut at {day_text(day)}")[0])
    return verdict_of(out, cut_dates=len(days))
