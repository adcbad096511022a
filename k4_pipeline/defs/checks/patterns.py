"""Propositions about snapshots, labeled_snapshots and sequences."""

from __future__ import annotations

import dataclasses
from typing import Any

import pandas as pd

from k4_pipeline.config import KEYS, LabelConfig, PatternConfig, from_dict
from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for, schema_proposition
from k4_pipeline.defs.checks.leakage import LABEL_PROOF, SEQUENCE_PROOF, SNAPSHOT_PROOF
from k4_pipeline.defs.staging import load_bars, load_json
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.verdict import Verdict

RELABEL_SAMPLE = 200
SEED = 0


def _pattern_config(evidence: Evidence) -> tuple[PatternConfig, bool]:
    """The settings the snapshots were made with, and whether they came from a file."""
    ref = evidence.ref if evidence.ref.asset == "snapshots" else evidence.input("snapshots")
    stored = load_json(ref, "config.json")
    return from_dict(PatternConfig, stored["patterns"]), bool(stored["source"]["snapshots_path"])


def _snapshots_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.snapshots import snapshots_schema

    config, external = _pattern_config(evidence)
    return snapshots_schema(config, external=external)


def _labeled_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.labeled_snapshots import labeled_snapshots_schema

    config, external = _pattern_config(evidence)
    labels = from_dict(LabelConfig, evidence.json("config.json")["labels"])
    return labeled_snapshots_schema(config, labels, external=external)


def _sequences_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.sequences import SEQUENCES

    return SEQUENCES


def _knows_only_its_past(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import every_snapshot_knows_only_its_past

    bars, table = load_bars(evidence.input("daily_bars")), evidence.table
    given = evidence.ref.meta.get("counts", {}).get("boundaries_differ_from_bars", 0)
    if not given:
        return every_snapshot_knows_only_its_past(table, bars)
    # A file may give its own boxes (another adjustment of prices): then only its dates can be proved, and that is said.
    verdict = every_snapshot_knows_only_its_past(_with_boxes_of_the_bars(table, bars), bars)
    note = f"{given} boxes given by the file are not those of its qualifying bars and cannot be proved"
    return dataclasses.replace(verdict, detail={**verdict.detail, "not_proved": note})


def _with_boxes_of_the_bars(table: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    start = bars.locate(table["ticker"], to_days(table["start_date"]))
    end = bars.locate(table["ticker"], to_days(table["activation_date"]))
    spans = [slice(a, b + 1) if a >= 0 else slice(0, 1) for a, b in zip(start, end)]
    return table.assign(upper=[bars.high[s].max() for s in spans], lower=[bars.low[s].min() for s in spans])


def _coverage(evidence: Evidence) -> Verdict:
    from k4_pipeline.market.coverage import universe_coverage

    stored = evidence.json("coverage.json")
    available = load_bars(evidence.input("daily_bars")).tickers.tolist()
    report = universe_coverage(stored["wanted"], available)
    missing = sorted(set(stored["wanted"]) - set(available))
    findings = [report.message()] if missing and stored["policy"] != "filter" else []
    return Verdict.of(
        "universe_coverage", len(stored["wanted"]), findings, missing=len(missing), policy=stored["policy"]
    )


def _label_windows(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import every_label_window_starts_after_its_snapshot
    from k4_pipeline.patterns.labels import label_snapshots

    stored, bars, table = evidence.json("config.json"), load_bars(evidence.input("daily_bars")), evidence.table
    config, exchange = from_dict(LabelConfig, stored["labels"]), stored["cleaning"]["default_exchange"]
    from_file = 0
    if evidence.ref.meta["file"]:
        # Classes of a file that the bars do not give cannot be relabelled; their dates are checked by the schema.
        again = label_snapshots(bars, evidence.input_table("snapshots"), config, default_exchange=exchange)
        same = (again["outcome_class"] == table["outcome_class"]).fillna(False).to_numpy(dtype=bool)
        from_file = int((table["outcome_class"].notna() & ~same).sum())
        table = table[same].reset_index(drop=True)
    verdict = every_label_window_starts_after_its_snapshot(
        table, bars, config, default_exchange=exchange, sample=RELABEL_SAMPLE, seed=SEED
    )
    return dataclasses.replace(verdict, detail={**verdict.detail, "classes_of_the_file_alone": from_file})


def _same_rows(evidence: Evidence) -> Verdict:
    """Row for row the snapshots it was made from: none dropped, none invented."""
    keys = KEYS
    mine, theirs = evidence.table[keys], evidence.input_table("snapshots")[keys]
    findings = []
    if not mine.reset_index(drop=True).equals(theirs.reset_index(drop=True)):
        joined = mine.merge(theirs, on=keys, how="outer", indicator=True)
        odd = joined[joined["_merge"] != "both"].head(5)
        findings.append(f"{len(mine)} rows for {len(theirs)} snapshots; first differences: {odd.to_dict('records')}")
    return Verdict.of(f"{evidence.ref.asset}_are_the_snapshots_row_for_row", len(theirs), findings)


def _ends_at_its_snapshot(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.propositions import every_sequence_ends_at_its_snapshot

    return every_sequence_ends_at_its_snapshot(evidence.table, load_bars(evidence.input("daily_bars")))


def _row_for_row(asset: str) -> Proposition:
    return Proposition(
        f"{asset}_are_the_snapshots_row_for_row", _same_rows, description="No snapshot is dropped, none is invented."
    )


CHECKS = [
    checks_for(
        "snapshots",
        [
            schema_proposition("snapshots", _snapshots_schema),
            Proposition(
                "every_snapshot_knows_only_its_past",
                _knows_only_its_past,
                description="Start, activation and snapshot are bars in this order; the box is that of bars start to "
                "activation.",
            ),
            Proposition(
                "universe_coverage",
                _coverage,
                description="Every ticker of a given snapshot file has bars; missing ones are grouped by suffix.",
            ),
            SNAPSHOT_PROOF,
        ],
    ),
    checks_for(
        "labeled_snapshots",
        [
            schema_proposition("labeled_snapshots", _labeled_schema),
            _row_for_row("labeled_snapshots"),
            Proposition(
                "every_label_window_starts_after_its_snapshot",
                _label_windows,
                description="Labels end after their snapshot, and do not change when all bars up to it are corrupted.",
            ),
            LABEL_PROOF,
        ],
    ),
    checks_for(
        "sequences",
        [
            schema_proposition("sequences", _sequences_schema),
            _row_for_row("sequences"),
            Proposition(
                "every_sequence_ends_at_its_snapshot",
                _ends_at_its_snapshot,
                description="The last of the 50 bars is the snapshot's own bar, and none belongs to another ticker.",
            ),
            SEQUENCE_PROOF,
        ],
    ),
]
