"""The prediction ledger: every signal that was ever given, one immutable row each, and the outcomes that came.

A row is written in the night it was given and never pruned. What is known later (the label) is joined when the ledger
is read and never written into it, so that nobody can improve what was said by what happened afterwards.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_VALUES, KEYS
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.ledger import AppendOnlyTable

FOLDER, INPUTS_FOLDER, DRIFT_FOLDER = "ledger", "ledger_inputs", "ledger_drift"
LEDGER_KEY = ("night", "ticker", "pattern_id", "model")
# Columns that settings alone can change: thresholds, filters, the stop.
BY_SETTINGS = ("signal", "tier", "stop", "refused", "left_out", "dollar_volume", "price")
DRIFT_KEY = ("night", "model", "measure")


def open_ledger(home: Path) -> AppendOnlyTable:
    """The ledger of a home folder; `StaleArtifactError` where it no longer holds what its last night left: a chain that
    was cut short follows from its own lines."""
    ledger = AppendOnlyTable(home / FOLDER, LEDGER_KEY)
    try:
        left = ArtifactStore(home / "artifacts").newest("prediction_ledger")
    except StaleArtifactError:
        return ledger  # no night yet
    entries = ledger.entries()
    if left.meta["head"] and left.meta["head"] not in {entry["head"] for entry in entries}:
        raise StaleArtifactError(
            f"{ledger.folder} was cut short: its last night left {left.meta['rows']} rows, "
            f"{sum(entry['rows'] for entry in entries)} are there. Restore the folder from a backup; to go on without "
            f"the lost rows, move {left.dir.parent} away"
        )
    return ledger


def open_inputs(home: Path) -> AppendOnlyTable:
    """What the model read of every row of the ledger, under the same key."""
    return AppendOnlyTable(home / INPUTS_FOLDER, LEDGER_KEY)


def open_drift(home: Path) -> AppendOnlyTable:
    """What each night measured of drift: one value per measure, written once."""
    return AppendOnlyTable(home / DRIFT_FOLDER, DRIFT_KEY)


def ledger_rows(signals: pd.DataFrame, *, model: str, data_fingerprint: str) -> pd.DataFrame:
    """The rows of one night from the signals table (or the inputs beside it): its columns behind `night`, `model` and
    `data_fingerprint`.

    The night is the last bar any open pattern has; `model` is the fingerprint of the champion's weights.
    """
    rows = signals.copy()
    night = rows["snapshot_date"].max()
    rows.insert(0, "night", pd.Series(night, index=rows.index, dtype=rows["snapshot_date"].dtype))
    rows["model"] = pd.Series(model, index=rows.index, dtype="str")
    rows["data_fingerprint"] = pd.Series(data_fingerprint, index=rows.index, dtype="str")
    return rows


def matured(ledger: pd.DataFrame, labelled: pd.DataFrame, known_by: pd.Timestamp) -> pd.DataFrame:
    """Ledger rows whose label is known before `known_by`, with `outcome_class`, `label_end_date` and `value`.

    `labelled` holds snapshots with their race label (any snapshots: rows are joined on the snapshot's key). `value` is
    the strategic value of the class that came. Rows without a label, or whose label ends later, are left out.
    """
    known = labelled[labelled["outcome_class"].notna() & (labelled["label_end_date"] < known_by)]
    columns = [*KEYS, "outcome_class", "label_end_date"]
    out = ledger.merge(known[columns], on=KEYS, how="inner", validate="m:1")
    out["outcome_class"] = out["outcome_class"].astype(np.int64)
    return out.assign(value=np.asarray(CLASS_VALUES)[out["outcome_class"].to_numpy()])


def first_of_pattern(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per pattern, model and tier: the first night on which it was given.

    The nights of one pattern share almost the whole race that follows, so they are one piece of evidence, not many.
    """
    ordered = rows.sort_values(["night", "ticker", "pattern_id"], kind="stable")
    groups = ["pattern_id", "model"] + (["tier"] if "tier" in rows else ["signal"])
    return ordered.drop_duplicates(groups).reset_index(drop=True)


def record_night(ledger: AppendOnlyTable, rows: pd.DataFrame) -> dict[str, Any]:
    """Append the rows of one night that are not there yet; what is in the ledger afterwards, JSON-safe.

    A key that is stored with another `data_fingerprint` (the vendor restated its bars since), or that other settings
    would now call by another tier, keeps what was said first; such rows are counted in `restated`. Other probabilities
    from the same bars and model are an error. `head` is the hash of the whole chain up to now.
    """
    stored = ledger.read(first=rows["night"].min(), last=rows["night"].max()) if len(rows) else pd.DataFrame()
    restated = 0
    if len(stored):
        columns = [c for c in ("data_fingerprint", *BY_SETTINGS) if c in rows and c in stored]
        both = rows[[*LEDGER_KEY, *columns]].merge(
            stored[[*LEDGER_KEY, *columns]], on=list(LEDGER_KEY), how="left", validate="1:1", suffixes=("", "_stored")
        )
        known = both["data_fingerprint_stored"].notna().to_numpy()
        other = np.zeros(len(both), dtype=bool)
        for column in columns:
            other |= known & (both[column] != both[f"{column}_stored"]).to_numpy()
        restated = int(other.sum())
        rows = rows[~other].reset_index(drop=True)
    added = ledger.append(rows, rows["model"].iloc[0][:12]) if len(rows) else 0
    entries = ledger.entries()
    return {
        "added": added,
        "restated": restated,
        "rows": sum(e["rows"] for e in entries),
        "files": len(entries),
        "head": entries[-1]["head"] if entries else "",
    }
