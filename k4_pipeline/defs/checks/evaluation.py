"""Propositions about validation_report, walk_forward_report, champion_model and signals."""

from __future__ import annotations

import functools
from typing import Any

import pandas as pd

from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for, schema_proposition
from k4_pipeline.defs.checks.nights import signals_equal_a_full_computation
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.staging import load_table
from k4_pipeline.defs.verdicts import stored_verdicts
from k4_pipeline.evaluation import champion
from k4_pipeline.report.summary import NOT_ENOUGH, verdict_kind
from k4_pipeline.verdict import Verdict

INTEGRITY_TESTS = {
    "temporal integrity": "dates_of_all_rows_stand_in_order",
    "future contamination": "accuracy_does_not_drop_after_the_median_date",
    "K4 recall consistency": "k4_recall_is_consistent_over_time",
    "EV correlation": "expected_value_correlates_with_what_followed",
    "class distribution drift": "class_mix_does_not_drift",
}


def _report_is_complete(evidence: Evidence) -> Verdict:
    report = evidence.json("report.json")
    wanted = ("as_of", "metrics", "integrity", "verdicts", "provenance", "code", "leak_demo", "classes", "signals")
    held = {**report, **report.get("metrics", {})}
    findings = [f"the report has no {name}" for name in wanted if not held.get(name)]
    if report["as_of"] != evidence.ref.partition:
        findings.append(f"the report is of {report['as_of']}, the partition of {evidence.ref.partition}")
    if set(INTEGRITY_TESTS) != {test["name"] for test in report["integrity"]}:
        findings.append(f"integrity tests: {[test['name'] for test in report['integrity']]}")
    for name, fingerprint in report["provenance"].items():
        if evidence.ref.inputs.get(name) != fingerprint:
            findings.append(f"provenance of {name} is {fingerprint[:12]}, read was {evidence.ref.inputs.get(name)}")
    html = evidence.ref.path("report.html").stat().st_size
    return Verdict.of("validation_report_matches_its_schema", int(report["metrics"]["n"]), findings, html_bytes=html)


def _integrity(title: str, evidence: Evidence) -> Verdict:
    tests = {test["name"]: test for test in evidence.json("report.json")["integrity"]}
    test = tests[title]
    detail = {key: test[key] for key in ("value", "low", "high", "limit") if test[key] is not None}
    findings = [] if test["passed"] else [f"{test['status']}: {test['explanation']}"]
    return Verdict.of(INTEGRITY_TESTS[title], int(test["n"]), findings, **detail)


def _walk_forward_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.walk_forward_report import WALK_FORWARD_REPORT

    return WALK_FORWARD_REPORT


def _reports_as_stored(evidence: Evidence) -> Verdict:
    """The table recomputed from the very reports it names."""
    from k4_pipeline.defs.staging import load_json
    from k4_pipeline.evaluation.walk_forward import walk_forward_table

    reports = []
    fresh = dict(zip(evidence.table["as_of"].dt.strftime("%Y-%m-%d"), evidence.table["inputs_current"]))
    for key in evidence.ref.inputs:
        as_of = key.partition("@")[2]
        ref = evidence.store.current("validation_report", as_of)
        if ref.fingerprint == evidence.ref.inputs[key]:
            reports.append((as_of, load_json(ref, "report.json"), fresh[as_of]))
    findings = []
    if len(reports) != len(evidence.table) or not walk_forward_table(reports).equals(evidence.table):
        findings.append(f"{len(evidence.table)} rows are not those of the {len(reports)} stored reports they name")
    return Verdict.of("every_row_is_its_stored_report", len(evidence.table), findings)


def _champion_is_a_validated_model(evidence: Evidence) -> Verdict:
    """The champion's files equal, byte for byte, those archived when it took over, and its weights load."""
    from k4_pipeline.training.checkpoint import load_checkpoint

    record = champion.Record.read(evidence.ref)
    archived = evidence.store.current(champion.ARCHIVE, champion.archive_key(record))
    archived.verify()
    findings = []
    for name, entry in evidence.ref.files.items():
        if name in champion.NOT_OF_THE_MODEL:
            continue
        if archived.files.get(name, {}).get("sha256") != entry["sha256"]:
            findings.append(f"{name} is not the file archived for as_of {record.as_of}")
    if archived.meta["model_fingerprint"] != record.model_fingerprint:
        findings.append(f"the archive holds model {archived.meta['model_fingerprint'][:12]}")
    load_checkpoint(evidence.ref.dir)
    return Verdict.of("champion_is_a_model_that_was_validated", len(evidence.ref.files), findings)


def _champion_passed_everything(evidence: Evidence) -> Verdict:
    record = champion.Record.read(evidence.ref)
    store, thin = evidence.store, {champion.ENOUGH_K4}
    refs = [store.last_good(a, record.as_of) for a in PARTITIONED_ASSETS if record.as_of in store.partitions(a)]
    thin |= {v.name for v in stored_verdicts(store, refs) if verdict_kind(v.to_dict()) == NOT_ENOUGH}
    failed = [name for name in record.failed if name not in thin]
    # Nothing failed, and something could not be judged: that is not the same, and is not said as if it were.
    what = "serves provisionally although this failed" if failed else f"{NOT_ENOUGH}: serves provisionally without"
    return Verdict.of("champion_passed_every_check", 1, [f"{what}: {name}" for name in failed or record.failed])


def _signals_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.predictions import SIGNALS

    return SIGNALS


def _signals_are_of_the_last_day(evidence: Evidence) -> Verdict:
    days = [evidence.input("daily_bars").meta["last_date"]]
    if "night_bars" in evidence.ref.inputs:
        days.append(evidence.input("night_bars").meta["last_date"])
    last = pd.Timestamp(max(days))
    off = evidence.table[evidence.table["snapshot_date"] != last]
    findings = [f"{row.ticker}: {row.snapshot_date.date()}, the last day is {last.date()}" for row in off.itertuples()]
    if evidence.ref.meta["night"] != str(last.date()):
        findings.append(f"the signals say they are of {evidence.ref.meta['night']}")
    # No open pattern today is a fact about the market; the day itself was looked at.
    return Verdict.of("every_signal_is_of_the_last_day", max(len(evidence.table), 1), findings)


def _refused_again(evidence: Evidence, model_folder: Any) -> Any:
    """(n,) bool: which rows the stored inputs put outside the train rows of the champion."""
    import numpy as np

    from k4_pipeline.config import KEYS
    from k4_pipeline.pipeline.reference import Reference

    reference = Reference.read(model_folder)
    if reference is None or not evidence.json("config.json")["serving"]["refuse_outside"] or evidence.table.empty:
        return np.zeros(len(evidence.table), dtype=bool)
    inputs = evidence.table[KEYS].merge(load_table(evidence.ref, "inputs"), on=KEYS, how="left", validate="1:1")
    return reference.range.too_far(inputs[list(reference.names)].to_numpy(dtype=np.float32))


def _signals_follow_from_probabilities(evidence: Evidence) -> Verdict:
    import numpy as np

    from k4_pipeline.config import N_CLASSES, SignalConfig, from_dict
    from k4_pipeline.evaluation.expected_value import expected_value
    from k4_pipeline.evaluation.predict_table import CERTIFIED_SCORE
    from k4_pipeline.evaluation.signals import assign_signals
    from k4_pipeline.evaluation.tiers import assign_tiers
    from k4_pipeline.pipeline.model_files import certificates_of

    table = evidence.table
    p = table[[f"p_{i}" for i in range(N_CLASSES)]].to_numpy()
    config = from_dict(SignalConfig, evidence.json("config.json")["signals"])
    ev = expected_value(p)
    champion = evidence.input("champion_model")
    refused = (table["refused"] != "").to_numpy()
    given = np.where(refused, "AVOID", assign_signals(p, ev, config))
    wrong = (given != table["signal"].to_numpy(dtype=object)) | (np.abs(ev - table["ev"]) > 1e-9)
    wrong |= refused != _refused_again(evidence, champion.dir)
    wrong |= np.abs(p.sum(axis=1) - 1.0) > 1e-6
    certified = assign_tiers(table[CERTIFIED_SCORE].to_numpy(), certificates_of(champion.dir).tiers)
    certified = np.where(refused, "AVOID", certified)
    wrong |= certified != table["tier"].to_numpy(dtype=object)
    findings = [f"{row.ticker}: {row.signal}, EV {row.ev:.3f}, tier {row.tier}" for row in table[wrong].itertuples()]
    return Verdict.of("every_signal_follows_from_its_probabilities", max(len(table), 1), findings)


CHECKS = [
    checks_for(
        "validation_report",
        [
            Proposition(
                "validation_report_matches_its_schema",
                _report_is_complete,
                description="Every section is there, for this as_of, with the fingerprints that were read.",
            ),
            *(
                Proposition(
                    name,
                    functools.partial(_integrity, title),
                    blocking=title == "temporal integrity",
                    description=f"Integrity test: {title}. Too little evidence fails.",
                )
                for title, name in INTEGRITY_TESTS.items()
            ),
        ],
    ),
    checks_for(
        "walk_forward_report",
        [
            schema_proposition("walk_forward_report", _walk_forward_schema),
            Proposition(
                "every_row_is_its_stored_report",
                _reports_as_stored,
                description="The table recomputed from the stored reports is the same table.",
            ),
        ],
    ),
    checks_for(
        "champion_model",
        [
            Proposition(
                "champion_is_a_model_that_was_validated",
                _champion_is_a_validated_model,
                description="Its files are those archived when it took over; its weights load and match their sha256.",
            ),
            Proposition(
                "champion_passed_every_check",
                _champion_passed_everything,
                blocking=False,
                description="Fails while a model serves provisionally: some check of it failed, or lacked evidence.",
            ),
        ],
    ),
    checks_for(
        "signals",
        [
            schema_proposition("signals", _signals_schema),
            Proposition(
                "every_signal_is_of_the_last_day",
                _signals_are_of_the_last_day,
                description="Signals are for patterns open at the close of the universe's last day.",
            ),
            Proposition(
                "every_signal_follows_from_its_probabilities",
                _signals_follow_from_probabilities,
                description="Expected value, signal and tier recomputed from the stored probabilities, refusals from "
                "the stored inputs.",
            ),
            Proposition(
                "signals_equal_a_full_computation",
                signals_equal_a_full_computation,
                description="A sample of open patterns, others every night: their probabilities from the source read "
                "whole, with every row of features and context computed, are those stored, to the last digit.",
            ),
        ],
    ),
]
