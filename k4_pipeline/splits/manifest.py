"""What is stored beside a split: its boundaries, counts, warnings and fingerprints, as plain JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_NAMES, EXCLUDED, K4, SPLIT_NAMES, SplitConfig, from_dict, to_dict
from k4_pipeline.errors import BadInputError
from k4_pipeline.splits.boundaries import SplitBoundaries, iso


@dataclass(frozen=True)
class SplitManifest:
    """Summary of one `dataset_split` partition. Dates are ISO strings; hashes are sha256 in hex.

    `fit_fingerprint` covers train and validation rows only: it is what an as-of replay must reproduce, because the
    rows of test may not yet exist on the as-of date. `fingerprint` covers every row, the dates and the settings.
    """

    as_of: str
    train_start: str | None
    train_end: str
    validation_start: str
    test_end: str
    config: dict[str, Any]
    rows: dict[str, int]
    excluded: dict[str, int]
    classes: dict[str, dict[str, int]]
    tickers: dict[str, int]
    patterns: dict[str, int]
    date_ranges: dict[str, dict[str, str | None]]
    warnings: list[str]
    fit_fingerprint: str
    fingerprint: str

    def split_config(self) -> SplitConfig:
        """The settings the split was made with."""
        return from_dict(SplitConfig, self.config)

    def to_json(self) -> str:
        """JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> SplitManifest:
        """The inverse of `to_json`; unknown or missing fields raise `BadInputError`."""
        values = json.loads(text)
        names = {f.name for f in dataclasses.fields(cls)}
        if set(values) != names:
            odd = ", ".join(sorted(set(values) ^ names))
            raise BadInputError(f"the split manifest lacks or has too much: {odd}; make the split again")
        return cls(**values)


def membership_fingerprint(split: pd.DataFrame) -> str:
    """sha256 over every row's key, label and membership, in key order: equal only for equal membership.

    Independent of the order of the rows and of how the strings are stored.
    """
    order = split.sort_values(["pattern_id", "snapshot_date"], kind="stable")
    columns = [
        order["pattern_id"].astype(object).to_numpy(),
        order["snapshot_date"].to_numpy(dtype="datetime64[D]").astype(str),
        order["label_end_date"].to_numpy(dtype="datetime64[D]").astype(str),
        order["outcome_class"].astype("Int64").fillna(-1).to_numpy(dtype=np.int64),
        order["split"].astype(object).to_numpy(),
        order["reason"].astype(object).to_numpy(),
        [float(w).hex() for w in order["weight"]],
    ]
    digest = hashlib.sha256()
    for row in zip(*columns):
        digest.update("\x1f".join(map(str, row)).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def summarise(split: pd.DataFrame, bounds: SplitBoundaries, config: SplitConfig, warnings: list[str]) -> SplitManifest:
    """Count what a split holds and fingerprint it. `split` is the dataset_split table."""
    rows, classes, tickers, patterns, ranges = {}, {}, {}, {}, {}
    for name in (*SPLIT_NAMES, EXCLUDED):
        part = split[split["split"] == name]
        rows[name] = len(part)
        if name == EXCLUDED:
            continue
        codes = part["outcome_class"].dropna().to_numpy(dtype=np.int64)
        counts = np.bincount(codes, minlength=len(CLASS_NAMES))
        classes[name] = {label: int(n) for label, n in zip(CLASS_NAMES, counts)}
        classes[name]["unlabelled"] = int(part["outcome_class"].isna().sum())
        tickers[name] = int(part["ticker"].nunique())
        patterns[name] = int(part["pattern_id"].nunique())
        ranges[name] = {
            "first_snapshot": _date(part["snapshot_date"].min()),
            "last_snapshot": _date(part["snapshot_date"].max()),
            "last_label_end": _date(part["label_end_date"].max()),
        }
    reasons = split.loc[split["split"] == EXCLUDED, "reason"].value_counts()
    fit_fingerprint = membership_fingerprint(split[split["split"].isin(["train", "validation"])])
    settings = to_dict(config)
    head = json.dumps([dataclasses.asdict(bounds), settings], sort_keys=True)
    fingerprint = hashlib.sha256((head + membership_fingerprint(split)).encode()).hexdigest()
    return SplitManifest(
        as_of=iso(bounds.as_of),
        train_start=None if bounds.train_start is None else iso(bounds.train_start),
        train_end=iso(bounds.train_end),
        validation_start=iso(bounds.validation_start),
        test_end=iso(bounds.test_end),
        config=settings,
        rows=rows,
        excluded={str(reason): int(n) for reason, n in sorted(reasons.items())},
        classes=classes,
        tickers=tickers,
        patterns=patterns,
        date_ranges=ranges,
        warnings=list(warnings),
        fit_fingerprint=fit_fingerprint,
        fingerprint=fingerprint,
    )


def class_warnings(split: pd.DataFrame) -> list[str]:
    """Sentences about classes a split cannot teach or measure; a warning, not an error, since rarity is the subject."""
    found = []
    for name in SPLIT_NAMES:
        part = split[split["split"] == name]
        labelled = part["outcome_class"].dropna()
        n_k4 = int((labelled == K4).sum())
        if len(labelled) == 0:
            found.append(f"{name} has no labelled row: nothing can be measured on it yet")
        elif n_k4 == 0:
            found.append(
                f"{name} has no {CLASS_NAMES[K4]} row among {len(labelled)} labelled ones: K4 metrics are undefined"
            )
    return found


def _date(value: pd.Timestamp) -> str | None:
    return None if pd.isna(value) else str(value.date())
