"""What leaves the house, each a second time: today's signals, champion, walk-forward table, exported files."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from k4_pipeline.config import CLASS_VALUES, KEYS, N_CLASSES
from k4_pipeline.evaluation.calibration import Calibrator
from k4_pipeline.evaluation.champion import ENOUGH_K4
from k4_pipeline.features.context_table import read_context
from k4_pipeline.features.panel import FeaturePanel, read_panel
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables
from k4_pipeline.leakage.oracles.inputs import InputOracle
from k4_pipeline.leakage.oracles.scan import scan
from k4_pipeline.leakage.oracles.signals import signal_of
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline.patterns import snapshots
from k4_pipeline.pipeline import model_files
from k4_pipeline.pipeline.night import open_patterns
from k4_pipeline.pipeline.stored_bars import NIGHT_BARS, bars_of_tonight
from k4_pipeline.sequences import windows
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.storage import ArtifactRef, read_parquet
from k4_pipeline.training.checkpoint import load_checkpoint
from k4_pipeline.verdict import Verdict

RAW = [f"p_raw_{i}" for i in range(N_CLASSES)]
CALIBRATED = [f"p_{i}" for i in range(N_CLASSES)]
MAX_SIGNALS = 60  # scored one by one
ORACLE_TOLERANCE = 2e-3  # of probabilities from inputs computed in another order of operations


def _signals(context: AuditContext) -> pd.DataFrame:
    """The stored signals (or those of a self-test)."""
    corrupted = context.extra.get("signals")
    return (
        corrupted
        if corrupted is not None
        else read_parquet(context.extra["store"].current("signals").path("signals.parquet"))
    )


def _with_signals(context: AuditContext, table: pd.DataFrame) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "signals": table})


def _one_signal_less(context: AuditContext) -> AuditContext:
    table = _signals(context)
    extra = pd.DataFrame([{**dict.fromkeys(table.columns), "ticker": "!", **dict.fromkeys(KEYS[1:], pd.Timestamp(0))}])
    return _with_signals(context, table.iloc[1:].reset_index(drop=True) if len(table) else extra)


def _nudged_signal(context: AuditContext) -> AuditContext:
    table = _signals(context).copy()
    if not len(table):
        return _one_signal_less(context)
    table.loc[table.index[-1], "p_4"] += 1e-8
    return _with_signals(context, table)


def open_by_scan(context: AuditContext, bars: Bars) -> pd.DataFrame:
    """ticker, start_date, snapshot_date of the patterns open on the last day, by the independent scan."""
    found = []
    for code, ticker in enumerate(bars.tickers):
        rows = slice(int(bars.offsets[code]), int(bars.offsets[code + 1]))
        if bars.date[rows.stop - 1] != bars.last_day:
            continue
        columns = (bars.high[rows], bars.low[rows], bars.close[rows], bars.volume[rows])
        patterns = scan(*columns, context.config.patterns)
        n = rows.stop - rows.start
        if patterns and patterns[-1].end == n:
            found.append((str(ticker), bars.date[rows.start + patterns[-1].start], bars.date[rows.stop - 1]))
    start, last = (to_dates(np.array([f[i] for f in found], dtype=np.int32)) for i in (1, 2))
    return pd.DataFrame(
        {"ticker": pd.Series([f[0] for f in found], dtype="str"), "start_date": start, "snapshot_date": last}
    )


@check(
    "serving",
    proves="Today's signals are the patterns that an independent scan finds open on the last day, each scored alone "
    "by the model of the champion, again from inputs computed independently; calibration, expected value, signal and "
    "order follow.",
    misses="Whether the champion deserves to serve (the check of the champion).",
    needs=("stored", "signals"),
    reads_files=True,
    corruptions=(_one_signal_less, _nudged_signal),
)
def signals_are_those_of_the_champion_one_by_one(context: AuditContext) -> Verdict:
    """Find the open patterns again and score them one at a time."""
    out, store, full = Comparison(), context.extra["store"], context.full
    table, champion = _signals(context), store.current("champion_model")
    made = store.current("signals")
    nights = NIGHT_BARS in made.inputs  # sessions were added to the bars of the last full run
    bars = bars_of_tonight(store) if nights else full.bars
    expected = open_by_scan(context, bars)
    mine = table.sort_values(KEYS).reset_index(drop=True)
    cause = "an open pattern was left out, or one that is not open was added"
    out.merge(compare_tables("signals", mine, expected.sort_values(KEYS), KEYS, [], when="scanned again", cause=cause))
    out.add(bars.n_tickers, 0)
    other = made.meta["bars_fingerprint"] != bars.fingerprint()
    out.add(1, int(other), ["signals were made from other bars than are stored"] * other)
    order = table.sort_values(["ev", "ticker"], ascending=[False, True], kind="stable")
    wrong_order = not order["ticker"].equals(table["ticker"])
    out.add(1, int(wrong_order), ["signals are not in the order of their expected value"] * wrong_order)
    if out.findings or not len(table):
        return verdict_of(out, signals=len(table))
    record = json.loads(champion.path("champion.json").read_text())
    odd = table["champion_as_of"] != record["as_of"]
    out.add(len(table), int(odd.sum()), [f"signals name champion {table['champion_as_of'].iloc[0]}"] * bool(odd.any()))
    refs = context.extra["refs"]
    of_bars: np.ndarray | None
    if nights:
        found = open_patterns(bars, context.config)
        bars, open_now, of_bars = found.bars, found.snapshots, found.context
        panel = FeaturePanel.from_bars(bars)
    else:
        panel = read_panel(refs["market_features"].dir)
        open_now = snapshots.active_snapshots(bars, context.config.patterns)
        of_bars = read_context(refs["context_features"].dir).values if "context_features" in refs else None
    model, meta = load_checkpoint(champion.dir)
    calibrator = Calibrator.from_json(champion.path(model_files.CALIBRATOR).read_text())
    scaler = Scaler.from_json(meta["scaler_json"])
    oracle = InputOracle(bars, np.asarray(panel.values))
    center, scale = scaler.center.astype(np.float64), scaler.scale.astype(np.float64)
    levels = ("upper", "lower", "power")
    for i in np.linspace(0, len(open_now) - 1, min(len(open_now), MAX_SIGNALS)).astype(int):
        one = open_now.iloc[[i]].reset_index(drop=True)
        stored = table.merge(one[KEYS], on=KEYS).iloc[0]
        alone = model_files.score_snapshots(
            champion.dir,
            wanted=one.assign(split="open"),
            sequences=windows.index_sequences(bars, one),
            panel=panel,
            context=of_bars,
            config=context.config,
        ).iloc[0]
        window = oracle.canonical(one.iloc[0])
        x = torch.tensor(oracle.inputs(window, center, scale, scaler.clip_sigmas)[None], dtype=torch.float32)
        with torch.inference_mode():
            beside = []
            if of_bars is not None:
                end = bars.locate(one["ticker"], to_days(one["snapshot_date"]))
                beside = [torch.tensor(np.asarray(of_bars[end]), dtype=torch.float32)]
            logits = model.eval()(x, torch.tensor(window[1][None]), *beside).double().numpy()[0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        z = np.log(np.maximum(alone[RAW].to_numpy(dtype=np.float64), 1e-7)) * calibrator.scale + calibrator.bias
        q = np.exp(z - z.max())
        q /= q.sum()
        ev = float(q @ np.array(CLASS_VALUES))
        where = f"signals: {stored['ticker']}"
        checks: list[tuple[str, Any, Any, float]] = [
            *((c, stored[c], alone[c], 0.0) for c in (*CALIBRATED, "ev")),
            *((c, float(alone[c]), float(p[k]), ORACLE_TOLERANCE * max(float(p[k]), 0.01)) for k, c in enumerate(RAW)),
            *((c, float(stored[c]), float(q[k]), 1e-9) for k, c in enumerate(CALIBRATED)),
            ("ev", float(stored["ev"]), ev, 1e-9),
            *((c, float(stored[c]), float(one[c].iloc[0]), 0.0) for c in levels),
        ]
        for name, a, b, tolerance in checks:
            wrong = not abs(a - b) <= tolerance
            out.add(1, int(wrong), [f"{where}: {name} is {a}, scored alone it is {b}"] * wrong)
        word = "AVOID" if stored["refused"] else signal_of(ev, float(q[5]), context.config.signals)
        out.add(
            1,
            int(word != stored["signal"]),
            [f"{where}: {stored['signal']}, the settings give {word}"] * (word != stored["signal"]),
        )
    return verdict_of(out, signals=len(table))


def _no_champion(context: AuditContext) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "champion": {"as_of": "1999-01-01"}})


def _fails_otherwise(context: AuditContext) -> AuditContext:
    record = json.loads(context.extra["store"].current("champion_model").path("champion.json").read_text())
    failed = {"failed": [*record["failed"], "a check that held"]}
    return dataclasses.replace(context, extra={**context.extra, "champion": failed})


@check(
    "serving",
    proves="The champion is, byte for byte, the model of a partition whose report was promoted; a newer model that "
    "passed everything was passed over only after a comparison that does not show it to be better; the failed checks "
    "it names are those that failed.",
    misses="Candidates whose artifacts are gone by now.",
    needs=("stored", "champion"),
    reads_files=True,
    corruptions=(_no_champion, _fails_otherwise),
)
def the_champion_was_chosen_by_its_rule(context: AuditContext) -> Verdict:
    """Read the candidates again and choose a second time."""
    out, store = Comparison(), context.extra["store"]
    ref = store.current("champion_model")
    record = {**json.loads(ref.path("champion.json").read_text()), **context.extra.get("champion", {})}
    held, passing, known, (weighed, named) = set(record["held_back"]), [], [], _weighed(ref)
    for as_of in store.partitions("validation_report"):
        try:
            chain = {
                n: store.current(n, as_of)
                for n in ("dataset_split", "trained_model", "predictions", "validation_report")
            }
            store.verify_chain(list(chain.values()))
        except Exception:
            continue
        if chain["trained_model"].fingerprint in held:
            continue
        verdicts = [v for r in chain.values() for v in (store.verdict(r) or {}).get("checks", [])]
        failed = sorted(v["name"] for v in verdicts if not v["passed"] or v["findings"] or not v["cases"])
        if json.loads(chain["trained_model"].path("facts.json").read_text())["too_few_k4"]:
            failed = sorted([*failed, ENOUGH_K4])
        known.append(as_of)
        if verdicts and not failed and chain["trained_model"].fingerprint != weighed:
            passing.append(as_of)
        if as_of == record["as_of"] and chain["trained_model"].fingerprint != weighed:
            same = chain["trained_model"].fingerprint == record["model_fingerprint"]
            out.add(
                1, int(not same), ["champion: its record names another model than its partition holds"] * (not same)
            )
            wrong = sorted(record["failed"]) != failed
            out.add(
                1,
                int(wrong),
                [f"champion: it names as failed {sorted(record['failed'])}, failed have {failed}"] * wrong,
            )
            for name, entry in chain["trained_model"].files.items():
                if name == "config.json":
                    continue
                other = ref.files.get(name, {}).get("sha256") != entry["sha256"]
                out.add(1, int(other), [f"champion: {name} is not the file of the model it names"] * other)
    out.add(1, int(not known), ["champion: no candidate is left that it could be compared with"] * (not known))
    newer = [a for a in (passing or (known if not weighed else [])) if a > record["as_of"]]
    out.add(
        1,
        len(newer),
        [f"champion: as_of {record['as_of']} serves although {newer[-1:]} is newer and as good"] * bool(newer),
    )
    lost = not [a for a in known if a == record["as_of"]] and bool(known) and not held and not weighed
    lost |= named not in ("", record["as_of"])
    out.add(1, int(lost), [f"champion: as_of {record['as_of']} is no candidate; there are {known}"] * lost)
    return verdict_of(out, candidates=len(known))


def _weighed(champion: ArtifactRef) -> tuple[str, str]:
    """By its decision: the model that was weighed and is not shown to be better, the as_of that serves; or ""."""
    decision = json.loads(champion.path("decision.json").read_text()) if "decision.json" in champion.files else {}
    high = (decision.get("comparison") or {}).get("high")
    passed_over = decision and not decision["moved"] and (decision["failed"] or high is None or high >= 0.0)
    return (str(decision["candidate"] or "") if passed_over else ""), decision.get("as_of", "")


def _other_row(context: AuditContext) -> AuditContext:
    table = read_parquet(context.extra["store"].current("walk_forward_report").path("walk_forward_report.parquet"))
    table.loc[table.index[0], "rows"] += 1
    return dataclasses.replace(context, extra={**context.extra, "walk_forward": table})


# Column of the walk-forward table -> where its number stands in a report, written down a second time.
WALK_FORWARD = {
    "k4_auc_volatility": ("volatility_20", "k4_auc"),
    "ev_correlation": ("model", "ev_correlation_pearson"),
}


@check(
    "serving",
    proves="The walk-forward table has one row for every report that was promoted, with the numbers of that report.",
    misses="Columns that no metric of a report is named after.",
    needs=("stored", "walk forward"),
    reads_files=True,
    corruptions=(_other_row,),
)
def the_walk_forward_table_is_that_of_its_reports(context: AuditContext) -> Verdict:
    """Read every report and compare number by number."""
    out, store = Comparison(), context.extra["store"]
    ref = store.current("walk_forward_report")
    table = context.extra.get("walk_forward")
    if table is None:
        table = pq.read_table(ref.path("walk_forward_report.parquet")).to_pandas()
    rows = {str(pd.Timestamp(r["as_of"]).date()): r for r in table.to_dict("records")}
    wanted = {key.partition("@")[2] for key in ref.inputs}
    out.add(
        1,
        int(set(rows) != wanted),
        [f"walk-forward: rows of {sorted(rows)}, reports of {sorted(wanted)}"] * (set(rows) != wanted),
    )
    for as_of in store.partitions("validation_report"):
        report_ref = store.last_good("validation_report", as_of)
        if report_ref.fingerprint != ref.inputs.get(report_ref.key):
            continue
        report = json.loads(report_ref.path("report.json").read_text())
        metrics, row = report["metrics"], rows.get(as_of, {})
        expected: dict[str, Any] = {"rows": metrics["n"], "k4_rows": metrics["n_k4"]}
        expected["integrity_passed"] = all(test["passed"] for test in report["integrity"])
        for column in table.columns:
            base, side = next(
                ((column.removesuffix(s), k) for s, k in (("_low", "low"), ("_high", "high")) if column.endswith(s)),
                (column, "value"),
            )
            family, name = WALK_FORWARD.get(base, ("model", base))
            held = metrics["model"] if family == "model" else metrics["baselines"].get(family, {})
            found = held.get(name)
            if isinstance(found, dict) and side in found:
                expected[column] = found[side]
        for column, value in expected.items():
            a, b = row.get(column, math.nan), math.nan if value is None else value
            wrong = not (a == b or (a != a and b != b))
            out.add(1, int(wrong), [f"walk-forward: {as_of}: {column} is {a}, its report says {value}"] * wrong)
    return verdict_of(out, reports=len(rows))
