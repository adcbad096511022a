"""Every kind of damage to a sound split must be found; the undamaged one must pass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from k4_pipeline.config import SplitConfig
from k4_pipeline.leakage.checks.propositions import no_pattern_in_two_splits, purge_holds
from k4_pipeline.splits.boundaries import SplitBoundaries
from k4_pipeline.splits.manifest import SplitManifest, summarise
from k4_pipeline.splits.verify import verify_split
from k4_pipeline.splits.walk_forward import split_snapshots
from k4_pipeline_tests.splits.tables import weekly_table

AS_OF = "2016-07-01"
CONFIG = SplitConfig(weight_by_uniqueness=True)
TABLE = weekly_table()
SPLIT, MANIFEST = split_snapshots(TABLE, AS_OF, CONFIG)

Damage = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]


def resealed(split: pd.DataFrame) -> SplitManifest:
    """A manifest whose counts and fingerprints agree with the damaged table: the damage itself must be found."""
    return summarise(split, SplitBoundaries.of(AS_OF, CONFIG), CONFIG, [])


def pick(split: pd.DataFrame, rng: np.random.Generator, name: str, reason: str = "") -> int:
    return int(rng.choice(split.index[(split["split"] == name) & (split["reason"] == reason)]))


def move(source: str, reason: str, target: str) -> Damage:
    def damage(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        row = pick(split, rng, source, reason)
        split.loc[row, ["split", "reason"]] = [target, ""]
        return split

    return damage


def leave_out(name: str, reason: str) -> Damage:
    def damage(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        split.loc[pick(split, rng, name), ["split", "reason"]] = ["excluded", reason]
        return split

    return damage


def duplicate_a_row(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    row = pick(split, rng, "train")
    return pd.concat([split, split.loc[[row]]], ignore_index=True)


def copy_a_train_row_to_validation(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    copied = split.loc[[pick(split, rng, "train")]].assign(split="validation")
    return pd.concat([split, copied], ignore_index=True)


def forget_a_train_label(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "train"), "outcome_class"] = pd.NA
    return split


def forget_a_validation_label_end(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "validation"), "label_end_date"] = pd.NaT
    return split


def end_a_train_label_late(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "train"), "label_end_date"] = pd.Timestamp(MANIFEST.validation_start)
    return split


def end_a_train_label_in_the_embargo(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "train"), "label_end_date"] = pd.Timestamp(MANIFEST.train_end)
    return split


def end_a_validation_label_on_the_as_of_date(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "validation"), "label_end_date"] = pd.Timestamp(AS_OF)
    return split


def end_a_label_at_its_snapshot(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    row = pick(split, rng, "train")
    split.loc[row, "label_end_date"] = split.loc[row, "snapshot_date"]
    return split


def share_a_pattern(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    train, test = pick(split, rng, "train"), pick(split, rng, "test")
    split.loc[test, ["pattern_id", "ticker", "start_date"]] = split.loc[train, ["pattern_id", "ticker", "start_date"]]
    return split


def share_a_pattern_under_another_name(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    train, test = pick(split, rng, "train"), pick(split, rng, "test")
    split.loc[test, ["ticker", "start_date"]] = split.loc[train, ["ticker", "start_date"]]
    split.loc[test, "pattern_id"] = split.loc[train, "pattern_id"] + "x"
    return split


def change_a_weight(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "train"), "weight"] *= 1.01
    return split


def weigh_a_row_with_nan(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "validation"), "weight"] = np.nan
    return split


def split_by_random_rows(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    member = split["split"] != "excluded"
    split.loc[member, "split"] = rng.permutation(split.loc[member, "split"].to_numpy())
    return split


def split_by_pattern(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    member = split["split"] != "excluded"
    names = {p: rng.choice(["train", "validation", "test"]) for p in split["pattern_id"].unique()}
    split.loc[member, "split"] = split.loc[member, "pattern_id"].map(names)
    return split


def split_by_ticker(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    member = split["split"] != "excluded"
    names = dict(zip(["T0", "T1", "T2"], rng.permutation(["train", "validation", "test"])))
    split.loc[member, "split"] = split.loc[member, "ticker"].map(names)
    return split


def misname_a_split(split: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    split.loc[pick(split, rng, "test"), "split"] = "holdout"
    return split


NOT_BEFORE_V, NOT_AT_T = "label_not_known_before_validation", "label_not_known_at_as_of"
DAMAGES: dict[str, tuple[Damage, str]] = {
    "purge of zero into train": (move("excluded", NOT_BEFORE_V, "train"), "split=train"),
    "embargo dropped": (move("excluded", "embargo", "train"), "split=train"),
    "purge of zero into validation": (move("excluded", NOT_AT_T, "validation"), "split=validation"),
    "validation row trained on": (move("validation", "", "train"), "split=train"),
    "test row trained on": (move("test", "", "train"), "split=train"),
    "test row validated on": (move("test", "", "validation"), "split=validation"),
    "train row validated on": (move("train", "", "validation"), "split=validation"),
    "train row tested on": (move("train", "", "test"), "split=test"),
    "row after the test span": (move("excluded", "after_test", "test"), "split=test"),
    "train row left out as embargo": (leave_out("train", "embargo"), "excluded as embargo without cause"),
    "train row left out as purged": (leave_out("train", NOT_BEFORE_V), f"excluded as {NOT_BEFORE_V} without cause"),
    "validation row left out": (leave_out("validation", NOT_AT_T), f"excluded as {NOT_AT_T} without cause"),
    "test row left out": (leave_out("test", "after_test"), "excluded as after_test without cause"),
    "pattern said to be elsewhere": (
        leave_out("train", "pattern_in_earlier_split"),
        "excluded as pattern_in_earlier_split without cause",
    ),
    "row left out for no known reason": (leave_out("train", "outlier"), "has no known reason"),
    "duplicated row": (duplicate_a_row, "a row is duplicated"),
    "row in two splits": (copy_a_train_row_to_validation, "lies in 2 splits"),
    "train row without class": (forget_a_train_label, "split=train"),
    "validation row without label end": (forget_a_validation_label_end, "split=validation"),
    "train label ends in validation": (end_a_train_label_late, "split=train"),
    "train label ends in the embargo": (end_a_train_label_in_the_embargo, "split=train"),
    "validation label ends at as-of": (end_a_validation_label_on_the_as_of_date, "split=validation"),
    "label ends at its snapshot": (end_a_label_at_its_snapshot, "ends on or before its snapshot"),
    "pattern shared": (share_a_pattern, "lies in 2 splits"),
    "pattern shared under another name": (
        share_a_pattern_under_another_name,
        "pattern_id is not its ticker and start date",
    ),
    "weight changed": (change_a_weight, "weights differ from the label overlap"),
    "weight not finite": (weigh_a_row_with_nan, "not a positive finite number"),
    "random rows": (split_by_random_rows, "label_end_date="),
    "random patterns": (split_by_pattern, "label_end_date="),
    "by ticker": (split_by_ticker, "label_end_date="),
    "unknown split name": (misname_a_split, "unknown split name"),
}


def test_the_undamaged_split_has_no_violation() -> None:
    assert verify_split(SPLIT, MANIFEST, TABLE) == []
    assert verify_split(SPLIT, MANIFEST) == []
    assert no_pattern_in_two_splits(SPLIT).holds
    assert purge_holds(SPLIT, {"as_of": AS_OF}, CONFIG).holds


@pytest.mark.parametrize("name", DAMAGES)
@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_damage_is_found_even_when_the_manifest_was_made_to_fit(name: str, seed: int) -> None:
    damage, sentence = DAMAGES[name]
    split = damage(SPLIT.copy(), np.random.default_rng(seed))
    found = verify_split(split, resealed(split)) + list(no_pattern_in_two_splits(split).findings)
    found += purge_holds(split, {"as_of": AS_OF}, CONFIG).findings
    assert any(sentence in line for line in found), found


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_found_by_the_stored_fingerprint(name: str) -> None:
    split = DAMAGES[name][0](SPLIT.copy(), np.random.default_rng(3))
    found = verify_split(split, MANIFEST)
    assert any("the manifest's fingerprint is not that of the rows" in line for line in found)


def test_rows_dropped_or_relabelled_are_found_against_the_labelled_table() -> None:
    short = SPLIT.drop(index=5).reset_index(drop=True)
    found = verify_split(short, resealed(short), TABLE)
    assert any("1 rows are missing from the split" in line for line in found)
    relabelled = SPLIT.copy()
    row = relabelled.index[relabelled["split"] == "train"][0]
    relabelled.loc[row, "outcome_class"] = 4 if relabelled.loc[row, "outcome_class"] != 4 else 3
    relabelled.loc[row, "label_end_date"] -= pd.Timedelta(days=30)
    found = verify_split(relabelled, resealed(relabelled), TABLE)
    assert any("outcome_class differs from the labelled snapshots in 1 rows" in line for line in found)
    assert any("label_end_date differs from the labelled snapshots in 1 rows" in line for line in found)


def test_a_manifest_with_moved_boundaries_is_found() -> None:
    moved = dataclasses.replace(MANIFEST, validation_start="2015-02-01")
    assert any("the manifest says validation_start 2015-02-01" in line for line in verify_split(SPLIT, moved))


def test_an_empty_split_is_no_evidence_of_soundness() -> None:
    assert verify_split(SPLIT[:0], MANIFEST) == ["the split has no rows: there is no evidence that it is sound"]
