"""Today's list against the signals, the bars and the labels: what a person reads before buying."""

from __future__ import annotations

import copy
import dataclasses
import html
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from k4_pipeline.config import BUYS as TIERS, CLASS_NAMES
from k4_pipeline.leakage.checks.page_checks import PageTables
from k4_pipeline.leakage.checks.signal_checks import bars_tonight
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.pipeline.reference import Reference
from k4_pipeline.verdict import Verdict

# Name in the list -> column of the signals, written down a second time.
SHOWN = {
    **{n: n for n in ("tier", "signal", "ev", "stop", "upper", "lower", "power", "dollar_volume", "price", "refused")},
    **{f"p_{i}": f"p_{i}" for i in range(6)},
    "left_out": "left_out",
    "champion_as_of": "champion_as_of",
    "p_k4": "p_4",
    "p_k5": "p_5",
    "entry": "power",
}


def _list(context: AuditContext) -> dict[str, Any]:
    """The stored list (or that of a self-test)."""
    if "list" in context.extra:
        return context.extra["list"]
    return json.loads(context.extra["store"].current("todays_list").path("list.json").read_text())


def _changed(context: AuditContext, **of_first_row: Any) -> AuditContext:
    made = copy.deepcopy(_list(context))
    if made["rows"]:
        made["rows"][0] |= of_first_row
    else:
        made["rows"].append({"ticker": "!", "snapshot_date": made["night"]})
    return dataclasses.replace(context, extra={**context.extra, "list": made})


def _better_value(context: AuditContext) -> AuditContext:
    rows = _list(context)["rows"]
    return _changed(context, ev=rows[0]["ev"] + 1e-9 if rows else 0.0)


def _one_row_less(context: AuditContext) -> AuditContext:
    rows = _list(context)["rows"]
    if not rows:
        return _changed(context)
    return dataclasses.replace(context, extra={**context.extra, "list": {**_list(context), "rows": rows[1:]}})


def _another_past(context: AuditContext) -> AuditContext:
    """A similar pattern of the past had another outcome (or one that was not known yet)."""
    rows = _list(context)["rows"]
    if not rows or not rows[0].get("similar"):
        return _one_row_less(context)
    first = rows[0]["similar"][0]
    other = CLASS_NAMES[(CLASS_NAMES.index(first["outcome"]) + 1) % len(CLASS_NAMES)]
    return _changed(context, similar=[{**first, "outcome": other}, *rows[0]["similar"][1:]])


def _a_bar_of_tomorrow(context: AuditContext) -> AuditContext:
    rows = _list(context)["rows"]
    if not rows:
        return _changed(context)
    chart = rows[0]["chart"]
    return _changed(context, chart={**chart, "close": [*chart["close"][:-1], chart["close"][-1] * 1.001]})


def _better_page(context: AuditContext) -> AuditContext:
    """The page prints a better P(K4) than the list holds."""
    rows = _list(context)["rows"]
    if not rows:
        return _changed(context)
    better = _page_text(context).replace(f"{rows[0]['p_k4']:.1%}", f"{rows[0]['p_k4'] + 0.001:.1%}")
    return dataclasses.replace(context, extra={**context.extra, "list_page": better})


def _no_page(context: AuditContext) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "list_page": ""})


def _an_invented_past(context: AuditContext) -> AuditContext:
    """A similar pattern that never was."""
    rows = _list(context)["rows"]
    if not rows:
        return _changed(context)
    past = {"ticker": "!", "snapshot_date": "2000-01-03", "outcome": CLASS_NAMES[4], "known_on": "2000-02-01"}
    return _changed(context, similar=[{**past, "distance": 0.1}, *rows[0].get("similar", [])[1:]])


@check(
    "serving",
    proves="Today's list holds the best signals by tier and expected value, none that was left out or refused, with "
    "the numbers of the signals; its charts are of stored bars and end with the snapshot; the similar patterns it "
    "shows are stored snapshots or rows that the champion learned from, were known before that day and ended as it "
    "says; its page is there and prints what it holds.",
    misses="The reasons, and which patterns are the most similar; the drawing.",
    needs=("stored", "signals", "todays list"),
    reads_files=True,
    corruptions=(
        _better_value,
        _one_row_less,
        _another_past,
        _an_invented_past,
        _a_bar_of_tomorrow,
        _better_page,
        _no_page,
    ),
)
def todays_list_is_that_of_the_signals(context: AuditContext) -> Verdict:
    """Choose the rows again and compare what is shown."""
    out, made, store = Comparison(), _list(context), context.extra["store"]
    signals = pq.read_table(store.current("signals").path("signals.parquet")).to_pandas()
    free = signals[(signals["left_out"] == "") & (signals["refused"] == "")]
    rank = [TIERS.index(t) if t in TIERS else len(TIERS) for t in free["tier"]]
    order = sorted(range(len(free)), key=lambda i: (rank[i], -free["ev"].iloc[i], free["ticker"].iloc[i]))
    wanted = free.iloc[order[: context.config.serving.list_rows]]
    counts = {"open": len(signals), **{n: int((signals[n] != "").sum()) for n in ("left_out", "refused")}}
    for name, value in counts.items():
        wrong = made[name] != value
        out.add(1, int(wrong), [f"today's list: {name} is {made[name]}, the signals have {value}"] * wrong)
    names = [row["ticker"] for row in made["rows"]]
    wrong = names != list(wanted["ticker"])
    out.add(1, int(wrong), [f"today's list shows {names}, the signals give {list(wanted['ticker'])}"] * wrong)
    if wrong:
        return verdict_of(out, rows=len(names))
    out.merge(_page(context, made["rows"]))
    known = _known_patterns(context)
    for row, signal in zip(made["rows"], wanted.to_dict("records")):
        where = f"today's list: {row['ticker']}"
        for shown, column in SHOWN.items():
            other = row[shown] != signal[column]
            out.add(1, int(other), [f"{where}: {shown} is {row[shown]}, its signal has {signal[column]}"] * other)
        box = row["box"] != {"lower": signal["lower"], "upper": signal["upper"]}
        out.add(1, int(box), [f"{where}: the box is not that of its signal"] * box)
        out.merge(_chart(context, row["chart"], signal, where))
        for past in row.get("similar", []):
            late = not past["known_on"] < row["snapshot_date"]
            out.add(1, int(late), [f"{where}: a similar pattern was known on {past['known_on']} only"] * late)
            stored = known.get((past["ticker"], past["snapshot_date"]))
            odd = stored is None or (past["outcome"], past["known_on"]) not in stored
            ended = "was never there" if stored is None else "did not end as it says"
            text = f"{where}: the similar pattern {past['ticker']} {past['snapshot_date']} {ended}"
            out.add(1, int(odd), [text] * odd)
    return verdict_of(out, rows=len(names))


def _page(context: AuditContext, rows: list[dict[str, Any]]) -> Comparison:
    """The page of the list says, row by row and card by card, what the stored list says."""
    out, page = Comparison(), _page_text(context)
    if not page:
        out.add(1, 1, ["page of the list: it is gone; `k4 run` or `k4 nightly` writes it again"])
        return out
    parser = PageTables()
    parser.feed(page)
    table = next((t for t in parser.tables if t and [c.strip() for c in t[0][:3]] == ["ticker", "tier", "P(K4)"]), [])
    shown, text = [[c.strip() for c in row] for row in table[1:]], html.unescape(page)
    for i, row in enumerate(rows):
        box = f"{_quoted(row['box']['lower'])} to {_quoted(row['box']['upper'])}"
        levels = _quoted(row["entry"]), _quoted(row["stop"])
        due = [row["ticker"], row["tier"], f"{row['p_k4']:.1%}", f"{row['ev']:+.2f}", *levels, box]
        what = f"do nothing; a close above {levels[0]} would be the breakout, the stop lies at {levels[1]}"
        what = what if row["tier"] == "AVOID" else f"buy above {levels[0]}, stop {levels[1]}"
        line = f"P(K4) {due[2]}, P(K5) {row['p_k5']:.1%}, EV {due[3]}; {what}."
        wrong = i >= len(shown) or shown[i][: len(due)] != due or line not in text
        out.add(len(due) + 5, int(wrong), [f"page of the list: row {i + 1} is not that of {row['ticker']}"] * wrong)
    out.add(1, int(len(shown) != len(rows)), ["page of the list: it has other rows"] * (len(shown) != len(rows)))
    return out


def _quoted(price: float) -> str:
    return f"{price:.2f}" if abs(price) >= 1 else f"{price:.4f}"


def _page_text(context: AuditContext) -> str:
    """The page of the list (or that of a self-test); "" where there is none."""
    if "list_page" in context.extra:
        return context.extra["list_page"]
    known = context.extra["facts"].get("todays_list", {}).get("page")
    file = Path(known or Path(context.extra["store"].root).parent / "reports" / "signals" / "signals.html")
    return file.read_text() if file.is_file() else ""


def _known_patterns(context: AuditContext) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """(ticker, snapshot day) -> the outcomes that snapshots of that day had, with the day they were known: those that
    are stored, and those that the champion learned from, which may be older than the stored ones."""
    columns = ["ticker", "snapshot_date", "label_end_date", "outcome_class"]
    learned = Reference.read(context.extra["store"].current("champion_model").dir)
    tables = [context.full.labeled[columns], *([learned.table[columns]] if learned is not None else [])]
    labeled = pd.concat(tables, ignore_index=True)
    out: dict[tuple[str, str], set[tuple[str, str]]] = {}
    rows = labeled[labeled["outcome_class"].notna()]
    day, end = (rows[c].dt.strftime("%Y-%m-%d") for c in ("snapshot_date", "label_end_date"))
    for ticker, seen, known, outcome in zip(rows["ticker"].astype(str), day, end, rows["outcome_class"].astype(int)):
        out.setdefault((ticker, seen), set()).add((CLASS_NAMES[outcome], known))
    return out


def _chart(context: AuditContext, chart: dict[str, Any], signal: dict[str, Any], where: str) -> Comparison:
    """The bars of a chart are the last ones stored, up to the snapshot, to the digits that are shown."""
    out, bars = Comparison(), bars_tonight(context)
    rows, n = bars.ticker_slice(str(signal["ticker"])), len(chart["dates"])
    days = np.datetime_as_string(bars.date[rows].astype("datetime64[D]"))
    stop = rows.start + int(np.searchsorted(days, str(pd.Timestamp(signal["snapshot_date"]).date()), side="right"))
    same = chart["dates"] == [str(d) for d in days[stop - rows.start - n : stop - rows.start]]
    for name in ("open", "high", "low", "close"):
        values = getattr(bars, name)[stop - n : stop]
        same = same and bool(np.allclose(chart[name], values, rtol=1e-5, atol=0.0))
    out.add(5 * n, int(not same), [f"{where}: the chart shows other bars than those up to its snapshot"] * (not same))
    return out
