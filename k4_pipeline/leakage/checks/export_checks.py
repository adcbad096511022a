"""Exported files against the stored tables, read plainly."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from k4_pipeline.config import CLASS_NAMES, KEYS
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.verdict import Verdict

EXPORTED = (
    "daily_bars",
    "rejects",
    "snapshots",
    "labeled_snapshots",
    "dataset_split",
    "predictions",
    "signals",
    "walk_forward_report",
)


def _stored_for_export(context: AuditContext, name: str) -> pd.DataFrame:
    asset = "daily_bars" if name == "rejects" else name
    store, partitioned = context.extra["store"], asset in ("dataset_split", "predictions")
    ref = store.current(asset, context.full.as_of if partitioned else None)
    table = pq.read_table(ref.path(f"{name}.parquet")).to_pandas()
    return table if name != context.extra.get("corrupted_export") else table.iloc[1:]


def _one_row_less(context: AuditContext) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "corrupted_export": "predictions"})


@check(
    "serving",
    proves="Exported files hold the stored tables, row by row and number by number; exported sequences hold the "
    "windows, masks and classes of the stored ones.",
    misses="CSV files of other tables than labels and predictions.",
    needs=("stored", "exports", "split"),
    reads_files=True,
    corruptions=(_one_row_less,),
)
def exported_files_are_the_stored_tables(context: AuditContext) -> Verdict:
    """Export, read the file plainly, compare."""
    out, export = Comparison(), context.extra["export"]
    with tempfile.TemporaryDirectory(prefix="k4-audit-") as folder:
        for name in EXPORTED:
            if name in ("signals", "walk_forward_report") and not _there(context, name):
                continue
            file = Path(folder) / f"{name}.parquet"
            as_of = context.full.as_of if name in ("dataset_split", "predictions") else None
            export(name, file, as_of)
            known, made = _stored_for_export(context, name), pq.read_table(file).to_pandas()
            same = known.shape == made.shape and list(known.columns) == list(made.columns)
            wrong = [c for c in known.columns if not _equal(known[c], made[c])] if same else list(known.columns)
            out.add(
                known.size or 1,
                len(wrong),
                [f"export {name}: {', '.join(map(str, wrong[:5]))} differ from what is stored"] * bool(wrong),
            )
        for name in ("labeled_snapshots", "predictions"):
            out.merge(_as_text(context, name, Path(folder) / f"{name}.csv"))
        file = Path(folder) / "sequences.parquet"
        export("sequences", file, None)
        out.merge(_sequences(context, pq.read_table(file).to_pandas()))
        file = Path(folder) / "market_features.parquet"
        export("market_features", file, None)
        values = pq.read_table(file).to_pandas().iloc[:, 2:].to_numpy(dtype=np.float32)
        stored = np.asarray(context.full.panel)
        wrong_panel = values.shape != stored.shape or not np.array_equal(values, stored, equal_nan=True)
        out.add(
            stored.size, int(wrong_panel), ["export market_features: values differ from the stored panel"] * wrong_panel
        )
    return verdict_of(out)


def _as_text(context: AuditContext, name: str, file: Path) -> Comparison:
    """An exported CSV file against the stored table: rows, columns and numbers."""
    context.extra["export"](name, file, context.full.as_of if name == "predictions" else None)
    known, made, out = _stored_for_export(context, name), pd.read_csv(file), Comparison()
    same = known.shape == made.shape and list(known.columns) == list(made.columns)
    numbers = [c for c in known.columns if known[c].dtype.kind in "fiI" or str(known[c].dtype).startswith("Int")]
    wrong = [c for c in numbers if not _near(known[c], made[c])] if same else list(known.columns)
    text = f"export {name} as CSV: {', '.join(map(str, wrong[:5]))} differ from what is stored"
    out.add(known.size or 1, len(wrong), [text] * bool(wrong))
    return out


def _near(a: pd.Series, b: pd.Series) -> bool:
    left, right = (s.to_numpy(dtype=np.float64, na_value=np.nan) for s in (a, b))
    return bool(np.allclose(left, right, rtol=1e-9, atol=0.0, equal_nan=True))


def _there(context: AuditContext, asset: str) -> bool:
    try:
        context.extra["store"].current(asset)
    except Exception:
        return False
    return True


def _equal(a: pd.Series, b: pd.Series) -> bool:
    return len(a) == len(b) and bool(((a == b) | (a.isna() & b.isna())).all())


def _sequences(context: AuditContext, made: pd.DataFrame) -> Comparison:
    out, full = Comparison(), context.full
    if len(made) != len(full.sequences):
        out.add(1, 1, [f"export sequences: {len(made)} rows for {len(full.sequences)} sequences"])
        return out
    some = np.unique(np.linspace(0, len(made) - 1, min(len(made), 200)).astype(int))
    x, mask = full.canonical(some)
    labels = full.sequences[KEYS].merge(full.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left")["outcome_class"]
    for i, row in enumerate(some):
        values = np.stack(made["sequence"].iloc[row]).astype(np.float32)
        same = np.array_equal(values, x[i].astype(np.float32), equal_nan=True)
        same &= np.array_equal(np.asarray(made["attention_mask"].iloc[row]).astype(bool), mask[i])
        stored, exported = labels.iloc[row], made["outcome_class"].iloc[row]
        name = None if pd.isna(stored) else CLASS_NAMES[int(stored)]
        same &= name == (None if pd.isna(exported) else exported)
        same &= made["sequence_dates"].iloc[row][-1] == full.sequences["snapshot_date"].iloc[row]
        out.add(1, int(not same), [f"export sequences: row {row} differs from the stored sequence"] * (not same))
    return out
