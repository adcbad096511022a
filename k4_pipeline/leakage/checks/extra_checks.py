"""Two checks that planted leaks have asked for: what a fit reads, and whether the checks of stored tables can fail.

Repeating a fit without the forbidden rows shows a leak that changes the result. A choice made on test rows may by
chance fall on the same model; listening to what is read finds it all the same.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.leakage.checks import feature_proofs, propositions, stage_checks
from k4_pipeline.leakage.checks.twin_fits import TOGETHER, part_to_fit, place, twin
from k4_pipeline.leakage.engine.audit import AuditContext, check
from k4_pipeline.leakage.engine.compare import key_text
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.splits import verify
from k4_pipeline.verdict import Verdict


def _moved(context: AuditContext, rows: pd.Series, at: int, member: str) -> AuditContext:
    """A labelled row among `rows`, of a ticker that is fitted, moved to another member."""
    assert context.full.split is not None
    split = context.full.split.copy()
    fitted = split["ticker"].isin(part_to_fit(context).split["ticker"])  # type: ignore[index]
    split.loc[split.index[np.flatnonzero((rows & fitted & split["outcome_class"].notna()).to_numpy())[at]], "split"] = (
        member
    )
    return context.with_full(split=split)


def _test_row_into_train(context: AuditContext) -> AuditContext:
    return _moved(context, context.full.split["split"] == "test", -1, "train")  # type: ignore[index]


def _unlabelled_span_into_validation(context: AuditContext) -> AuditContext:
    split = context.full.split
    assert split is not None
    late = (split["reason"] == "label_not_known_at_as_of") | (split["split"] == "test")
    return _moved(context, late, 0, "validation")


@check(
    "fitted",
    proves="While scaler, weights and calibrator are fitted and chosen on a part of the tickers, no sequence is "
    "assembled whose label was not known before the as-of date, whatever it is used for; and the model is shown every "
    "train row.",
    misses="Forbidden rows that are read from a copy of the panel, past the function that assembles model inputs.",
    needs=("split",),
    corruptions=(_test_row_into_train, _unlabelled_span_into_validation),
    together=TOGETHER,
)
def fitting_reads_only_rows_known_at_as_of(context: AuditContext) -> Verdict:
    """Listen at the one place that makes model inputs while a part of the path is fitted once more."""
    full, fit = part_to_fit(context), twin(context)
    read, learned = fit.read, fit.learned
    labeled = full.labeled
    known = to_days(labeled["label_end_date"].fillna(pd.Timestamp("2200-01-01"))) < context.as_of_day
    known &= labeled["outcome_class"].notna().to_numpy()
    keyed = full.sequences[[*KEYS, "end_row", "start_row"]].merge(
        labeled.loc[known, KEYS], on=KEYS, how="left", indicator=True, validate="1:1"
    )
    allowed = keyed["_merge"] == "both"
    where = ["end_row", "start_row"]
    permitted = place(keyed.loc[allowed, where].to_numpy())
    if full.windows is not None:
        early = to_days(full.windows["label_end_date"]) < context.as_of_day
        permitted = np.concatenate([permitted, place(full.windows.loc[early, where].to_numpy())])
    train = place(full.sequences.iloc[production.members(full, "train")[0]][where].to_numpy())
    places, findings = place(keyed[where].to_numpy()), []
    for odd, what in (
        (np.setdiff1d(read, permitted), f"was read while fitting as of {full.as_of}; its label was not known then"),
        (np.setdiff1d(train, learned), "is a train row that no fit was shown"),
    ):
        for at in odd[:10]:
            row = keyed[places == at]
            findings.append(f"sequences: {key_text(row.iloc[0], KEYS) if len(row) else 'a training window'} {what}")
    test = int((full.split["split"] == "test").sum())  # type: ignore[index]
    detail = {"permitted": len(permitted), "train_rows": len(train), "test_rows": test}
    return Verdict.of("fitting_reads_only_rows_known_at_as_of", len(read), findings, **detail)


def _proof_holds(name: str, bars: Bars, panel: Any) -> bool:
    return feature_proofs.prove(name, bars, panel, tickers=8, cuts=3).holds


def _corrupted(table: pd.DataFrame, row: int, **values: Any) -> pd.DataFrame:
    out = table.copy()
    for column, value in values.items():
        out.loc[out.index[row], column] = value
    return out


def stored_table_trials(full: PipelineRun) -> dict[str, Callable[[], bool]]:
    """By name: whether a check of stored tables accepts a table that it has to refuse."""
    assert full.split is not None
    split, config = full.split, full.config
    manifest = dataclasses.asdict(full.manifest)
    test = int(np.flatnonzero((split["split"] == "test").to_numpy())[0])
    train = int(np.flatnonzero((split["split"] == "train").to_numpy())[0])
    pattern = split["pattern_id"].iloc[train]
    moved, torn = _corrupted(split, test, split="train", reason=""), _corrupted(split, test, pattern_id=pattern)
    late = _corrupted(full.sequences, 0, end_row=int(full.sequences["end_row"].iloc[0]) + 1)
    wide = _corrupted(full.snapshots, 0, upper=float(full.snapshots["upper"].iloc[0]) * 1.01)
    known = int(np.flatnonzero(full.labeled["label_end_date"].notna().to_numpy())[0])
    early = _corrupted(full.labeled, known, label_end_date=full.labeled["snapshot_date"].iloc[known])
    exchange = config.cleaning.default_exchange
    # One of the tables in the way that blocking checks of a run see them: several checks as one verdict.
    member_check = ["nothing_lies_in_two_members"]
    twice = AuditContext(dataclasses.replace(full, split=torn, _cache={}))
    panel = np.array(full.panel)
    panel[len(panel) // 2 :, 0] = np.nextafter(panel[len(panel) // 2 :, 0], np.float32(np.inf))
    return {
        "combined accepts a check that fails": lambda: stage_checks.combined("x", twice, member_check).holds,
        "combined accepts a check that does not apply": (
            lambda: stage_checks.combined("x", twice, ["signals_are_those_of_the_champion_one_by_one"]).holds
        ),
        **{
            f"prove accepts another panel ({name})": (
                functools.partial(_proof_holds, name, full.bars, SimpleNamespace(values=panel))
            )
            for name in feature_proofs.WITH_CUTS - {feature_proofs.WARM_UP}
        },
        "verify_split accepts a test row in train": lambda: not verify.verify_split(moved, full.manifest),
        "verify_split accepts a pattern in two members": lambda: not verify.verify_split(torn, full.manifest),
        "purge_holds accepts a test row in train": lambda: (
            propositions.purge_holds(moved, manifest, config.split).holds
        ),
        "no_pattern_in_two_splits accepts one": lambda: propositions.no_pattern_in_two_splits(torn).holds,
        "every_sequence_ends_at_its_snapshot accepts a later end": (
            lambda: propositions.every_sequence_ends_at_its_snapshot(late, full.bars).holds
        ),
        "every_snapshot_knows_only_its_past accepts a wider box": (
            lambda: propositions.every_snapshot_knows_only_its_past(wide, full.bars).holds
        ),
        "every_label_window_starts_after_its_snapshot accepts an empty window": (
            lambda: (
                propositions.every_label_window_starts_after_its_snapshot(
                    early, full.bars, config.labels, default_exchange=exchange, sample=0, seed=0
                ).holds
            )
        ),
    }


def _sound_tables_only(context: AuditContext) -> AuditContext:
    return context.with_full(split=None)  # nothing to corrupt: no evidence


@check(
    "self-test",
    proves="The checks that stand beside the stored tables (split verifier, propositions) refuse tables corrupted on "
    "purpose, so that none of them has been weakened to pass always.",
    misses="A check that refuses these tables and no others.",
    needs=("split",),
    corruptions=(_sound_tables_only,),
)
def checks_of_stored_tables_can_fail(context: AuditContext) -> Verdict:
    """Hand each of them a table that it must refuse."""
    if context.full.split is None:
        return Verdict.of("checks_of_stored_tables_can_fail", 0, [])
    trials = stored_table_trials(context.full)
    findings = [f"{name}: it has been weakened and proves nothing" for name, accepts in trials.items() if accepts()]
    return Verdict.of("checks_of_stored_tables_can_fail", len(trials), findings)
