"""What leaves the house, each a second time: champion, walk-forward table, exported files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from k4_pipeline.evaluation.champion import ENOUGH_K4
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.storage import ArtifactRef, read_parquet
from k4_pipeline.verdict import Verdict

OF_THE_COMPARISON = "against_the_champion"  # of a move: in its decision, and in no report


def _no_champion(context: AuditContext) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "champion": {"as_of": "1999-01-01"}})


def _with_metric(name: str, value: float) -> Callable[[AuditContext], AuditContext]:
    """The last move to the champion tells another number, or one that no report has."""

    def corrupt(context: AuditContext) -> AuditContext:
        history = json.loads(json.dumps(context.extra["store"].current("champion_model").meta["history"]))
        history[-1]["metrics"] = {**(history[-1].get("metrics") or {}), name: value}
        return dataclasses.replace(context, extra={**context.extra, "history": history})

    corrupt.__name__ = f"another_{name}_of_the_move"
    return corrupt


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
    corruptions=(
        _no_champion,
        _fails_otherwise,
        _with_metric("k4_auc", 0.99),
        _with_metric("profit_of_next_year", 1.0),
    ),
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
            history = context.extra.get("history") or ref.meta["history"]
            out.merge(_metrics_of_the_move(history, record, chain["validation_report"]))
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


def _metrics_of_the_move(history: list[dict[str, Any]], record: dict[str, Any], report: ArtifactRef) -> Comparison:
    """The numbers that stand beside the last move to this model are those of its report."""
    out, told = Comparison(), json.loads(report.path("report.json").read_text())["metrics"]["model"]
    moves = [m for m in history if m["model"] == record["model_fingerprint"]]
    said = (moves[-1].get("metrics") or {}) if moves else {}
    for name in sorted(set(said) - {OF_THE_COMPARISON}):
        value, due = said[name], told.get(name, {}).get("value", "lacks it")
        wrong = value != due
        out.add(1, int(wrong), [f"champion: its history says {name} {value}, its report {due}"] * wrong)
    return out


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
