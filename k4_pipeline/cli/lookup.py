"""Finds a pattern in the store by ticker and day, with what is known of it; used by `k4 plot` and `k4 explain`."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.cli.common import as_day
from k4_pipeline.config import CLASS_NAMES, K4, K5, KEYS
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation.charts import pattern_chart
from k4_pipeline.pipeline.stored_bars import bars_of_tonight
from k4_pipeline.progress import Progress
from k4_pipeline.report.numbers import price
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore, read_parquet


def table_of(store: ArtifactStore, asset: str, as_of: str | None = None) -> pd.DataFrame:
    """The stored table of an asset, its checks passed."""
    return read_parquet(store.current(asset, as_of).path(f"{asset}.parquet"))


def find_pattern(settings: Settings, ticker: str, date: str | None) -> dict[str, Any]:
    """Chart, probabilities and, where it is known, the outcome of a snapshot of `ticker`.

    Without a date the pattern that is open today, else the newest snapshot. `BadInputError` names what is there.
    """
    store = ArtifactStore(settings.artifacts_dir)
    bars = bars_of_tonight(store)
    ticker = _spelled(ticker, [str(t) for t in bars.tickers])
    snapshots = table_of(store, "labeled_snapshots")
    own = snapshots[snapshots["ticker"] == ticker].sort_values("snapshot_date")
    open_now = _signals(store, ticker)
    row, is_open = _choose(own, open_now, ticker, None if date is None else as_day(date))
    scored = row if is_open else _prediction(store, row)
    outcome = None if is_open or pd.isna(row["outcome_class"]) else CLASS_NAMES[int(row["outcome_class"])]
    found: dict[str, Any] = {
        "ticker": ticker,
        "snapshot_date": str(row["snapshot_date"].date()),
        "start_date": str(row["start_date"].date()),
        "open": is_open,
        "outcome": outcome,
        "chart": pattern_chart(bars, dict(row), settings.config.labels),
    }
    if scored is not None:
        found |= {"p_4": float(scored[f"p_{K4}"]), "p_5": float(scored[f"p_{K5}"]), "ev": float(scored["ev"])}
        found["signal"] = str(scored["signal"])
    return {**found, "lines": _lines(found)}


def _spelled(ticker: str, known: list[str]) -> str:
    """`ticker` as the universe spells it; `BadInputError` names what is near."""
    if ticker in known:
        return ticker
    alike = [name for name in known if name.lower() == ticker.lower()]
    if len(alike) == 1:
        return alike[0]
    near = alike or difflib.get_close_matches(ticker, known, n=3, cutoff=0.4)
    hint = f"; near it are {', '.join(near)}" if near else f", e.g. {', '.join(sorted(known)[:3])}"
    raise BadInputError(f"there are no bars of {ticker!r} among the {len(known):,} tickers of this home{hint}")


def _signals(store: ArtifactStore, ticker: str) -> pd.DataFrame:
    table = table_of(store, "signals")
    return table[table["ticker"] == ticker]


def _choose(own: pd.DataFrame, open_now: pd.DataFrame, ticker: str, day: pd.Timestamp | None) -> tuple[pd.Series, bool]:
    for table, is_open in ((open_now, True), (own, False)):
        hit = table if day is None else table[table["snapshot_date"] == day]
        if len(hit):
            return hit.iloc[-1], is_open
    days = pd.concat([own["snapshot_date"], open_now["snapshot_date"]]).drop_duplicates()
    if day is None or days.empty:
        raise BadInputError(f"{ticker} has bars, but no consolidation was found in them, so there is no snapshot")
    near = days.iloc[np.argsort(np.abs((days - day).dt.days.to_numpy()), kind="stable")[:3]]
    listed = ", ".join(sorted(str(d.date()) for d in near))
    raise BadInputError(f"{ticker} has no snapshot on {day.date()}; near it are {listed}")


def _prediction(store: ArtifactStore, row: pd.Series) -> pd.Series | None:
    """The prediction of the newest as-of date whose test span holds the snapshot."""
    for as_of in reversed(store.partitions("predictions")):
        table = table_of(store, "predictions", as_of)
        hit = table[(table[KEYS] == row[KEYS].to_numpy()).all(axis=1)]
        if len(hit):
            return hit.iloc[0]
    return None


def _lines(found: dict[str, Any]) -> list[str]:
    chart = found["chart"]
    lines = [
        f"Box {price(chart['lower'])} to {price(chart['upper'])}, breakout above {price(chart['power'])}, "
        f"stop {price(chart['stop'])}."
    ]
    if "p_4" in found:
        lines.append(
            f"{found['signal']}: P(K4) {found['p_4']:.2%}, P(K5) {found['p_5']:.2%}, EV {found['ev']:+.2f} "
            f"({'today, by the champion' if found['open'] else 'as predicted without later bars'})."
        )
    else:
        lines.append("No stored model predicted it: it lies in no test span.")
    if not found["open"]:
        lines.append(f"What followed: {found['outcome'] or 'not known yet'}.")
    return lines


def explain_pattern(
    settings: Settings,
    ticker: str,
    date: str | None,
    *,
    samples: int,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`find_pattern` with the reasons of the champion, similar training rows, and the sanity of the estimate."""
    from k4_pipeline.evaluation.champion import Record
    from k4_pipeline.features.context_table import read_context
    from k4_pipeline.features.panel import FeaturePanel, read_panel
    from k4_pipeline.pipeline.explain import explain_rows
    from k4_pipeline.pipeline.night import open_patterns

    if samples < 2:
        raise BadInputError(f"--samples is {samples}; give 2 or more")
    if progress is not None:
        progress(0, 1)
    found = find_pattern(settings, ticker, date)
    store = ArtifactStore(settings.artifacts_dir)
    champion = store.current("champion_model")
    as_of = Record.read(champion).as_of
    split, sequences = table_of(store, "dataset_split", as_of), table_of(store, "sequences")
    wanted = pd.DataFrame([{name: found[name] for name in KEYS}])
    wanted = wanted.astype({"start_date": split["start_date"].dtype, "snapshot_date": split["snapshot_date"].dtype})
    own = None
    if found["open"]:
        own = open_patterns(bars_of_tonight(store), settings.config)
    made = explain_rows(
        champion.dir,
        wanted=wanted,
        wanted_sequences=sequences if own is None else own.sequences,
        own_inputs=None if own is None else (FeaturePanel.from_bars(own.bars), own.context),
        split=split,
        sequences=sequences,
        panel=read_panel(store.current("market_features").dir),
        config=settings.config,
        context=read_context(store.current("context_features").dir).values,
        samples=samples,
        progress=progress,
    )[0]
    member = split[(split[KEYS] == wanted.iloc[0].to_numpy()).all(axis=1)]["split"]
    lines = [*found["lines"], f"Explained with the champion of {as_of}."]
    if len(member) and member.iloc[0] in ("train", "validation"):
        lines.append(f"That model saw this row in {member.iloc[0]}, so its probability here is no forecast.")
    return {**found, **made, "champion_as_of": as_of, "lines": lines}
