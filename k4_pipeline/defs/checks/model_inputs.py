"""Propositions about context_features and training_windows."""

from __future__ import annotations

from typing import Any

from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for, schema_proposition
from k4_pipeline.defs.staging import load_bars
from k4_pipeline.verdict import Verdict


def _rows_are_bars(evidence: Evidence) -> Verdict:
    from k4_pipeline.features.context_table import read_context

    table, bars = read_context(evidence.ref.dir), load_bars(evidence.input("daily_bars"))
    findings = []
    if table.bars_fingerprint != bars.fingerprint() or len(table) != len(bars):
        findings.append(
            f"the context has {len(table)} rows of bars {table.bars_fingerprint[:12]}; stored are {len(bars)} bars "
            f"{bars.fingerprint()[:12]}"
        )
    return Verdict.of("every_context_row_is_its_bar", len(bars), findings)


def _context_proof(evidence: Evidence) -> Verdict:
    from k4_pipeline.features.context_table import read_context
    from k4_pipeline.leakage.checks.model_input_proofs import no_context_feature_changes_when_later_bars_are_cut

    bars = load_bars(evidence.input("daily_bars"))
    return no_context_feature_changes_when_later_bars_are_cut(bars, read_context(evidence.ref.dir).values)


def _windows_schema(evidence: Evidence) -> Any:
    from k4_pipeline.schemas.training_windows import TRAINING_WINDOWS

    return TRAINING_WINDOWS


def _windows_proof(evidence: Evidence) -> Verdict:
    from k4_pipeline.leakage.checks.model_input_proofs import training_windows_do_not_depend_on_later_bars
    from k4_pipeline.leakage.engine.artifacts import recorded_config

    config = recorded_config(evidence.config, {"training_windows": evidence.ref})
    bars = load_bars(evidence.input("daily_bars"))
    return training_windows_do_not_depend_on_later_bars(bars, evidence.table, config)


CHECKS = [
    checks_for(
        "context_features",
        [
            Proposition(
                "every_context_row_is_its_bar",
                _rows_are_bars,
                description="As many rows as bars, computed from the bars that are stored.",
            ),
            Proposition(
                "no_context_feature_changes_when_later_bars_are_cut",
                _context_proof,
                description="Recomputed on the universe as it was at a date, every value up to it has the same bits.",
            ),
        ],
    ),
    checks_for(
        "training_windows",
        [
            schema_proposition("training_windows", _windows_schema),
            Proposition(
                "training_windows_do_not_depend_on_later_bars",
                _windows_proof,
                description="On bars cut at a date the windows whose label was known by then are reproduced, no other.",
            ),
        ],
    ),
]
