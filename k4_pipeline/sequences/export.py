"""The original sequence table as Parquet, for tools that read it: one row per sequence, written batch by batch.

Columns: sequence (50 lists of 69 float32, canonical channels, NaN where not available, 0 in padding), attention_mask
(50 of 0 or 1), ticker, start_date, snapshot_date, days_in_pattern (bars since the start bar), outcome_class (the name,
as in `K4_EXCEPTIONAL`; empty when not known), sequence_dates (50 dates; empty in padding). Lists have fixed lengths.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from k4_pipeline.config import CLASS_NAMES, N_FEATURES, SEQUENCE_BARS
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.spec import FEATURE_NAMES, feature_list_hash
from k4_pipeline.progress import Progress
from k4_pipeline.sequences.assemble import SequenceIndex, assemble_canonical
from k4_pipeline.storage import parquet_writer

EXPORT_SCHEMA = pa.schema(
    [
        ("sequence", pa.list_(pa.list_(pa.float32(), N_FEATURES), SEQUENCE_BARS)),
        ("attention_mask", pa.list_(pa.int8(), SEQUENCE_BARS)),
        ("ticker", pa.string()),
        ("start_date", pa.timestamp("us")),
        ("snapshot_date", pa.timestamp("us")),
        ("days_in_pattern", pa.int64()),
        ("outcome_class", pa.string()),
        ("sequence_dates", pa.list_(pa.timestamp("us"), SEQUENCE_BARS)),
    ]
)


def export_sequences(
    path: Path | str,
    panel_values: np.ndarray,
    bar_days: np.ndarray,
    sequences: pd.DataFrame,
    outcomes: pd.Series | None = None,
    *,
    close: np.ndarray | None = None,
    batch_size: int = 1024,
    progress: Progress | None = None,
) -> int:
    """Write all `sequences` and return their number. Memory holds one batch; the file appears when it is complete.

    `bar_days` (n_bars,) days since 1970-01-01 of the panel's rows; `outcomes` classes 0..5 or <NA>, aligned with
    `sequences` by its index. Raises `BadInputError` when the outcomes do not cover the sequences.
    """
    if outcomes is not None and not outcomes.index.equals(sequences.index):
        raise BadInputError("outcomes and sequences have different indexes; merge them on their keys first")
    index = SequenceIndex.from_frame(sequences, close)
    classes = (
        np.full(len(sequences), -1) if outcomes is None else outcomes.astype("Int64").fillna(-1).to_numpy(np.int64)
    )
    names = np.array([*CLASS_NAMES, None], dtype=object)[classes]
    total = len(sequences)
    values = np.empty((min(batch_size, max(total, 1)), SEQUENCE_BARS, N_FEATURES), np.float32)
    metadata = {"features": list(FEATURE_NAMES), "feature_list_hash": feature_list_hash()}
    with parquet_writer(path, EXPORT_SCHEMA, metadata) as writer:
        for start in range(0, total, batch_size):
            rows = np.arange(start, min(start + batch_size, total))
            out, mask = assemble_canonical(_as_float32(panel_values), index, rows, values[: len(rows)])
            part = sequences.iloc[start : start + len(rows)]
            writer.write_batch(_record_batch(out, mask, part, names[rows], bar_days))
            if progress is not None:
                progress(start + len(rows), total)
    return total


def _as_float32(panel_values: np.ndarray) -> np.ndarray:
    if panel_values.dtype != np.float32:
        raise BadInputError(f"the panel is {panel_values.dtype}; export writes float32, pass the stored panel")
    return panel_values


def _record_batch(
    values: np.ndarray, mask: np.ndarray, part: pd.DataFrame, names: np.ndarray, bar_days: np.ndarray
) -> pa.RecordBatch:
    """One batch (b sequences) in the layout of `EXPORT_SCHEMA`; the values are not copied."""
    end = part["end_row"].to_numpy(dtype=np.int64)
    window = end[:, None] + np.arange(1 - SEQUENCE_BARS, 1)  # (b, 50) panel rows, negative at most in padding
    days = np.where(mask, bar_days[np.where(mask, window, 0)], 0).astype("datetime64[D]").astype("datetime64[us]")
    bars = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), N_FEATURES)
    return pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(bars, SEQUENCE_BARS),
            pa.FixedSizeListArray.from_arrays(pa.array(mask.reshape(-1).astype(np.int8)), SEQUENCE_BARS),
            pa.array(part["ticker"].astype(object), pa.string()),
            pa.array(part["start_date"].to_numpy(), pa.timestamp("us")),
            pa.array(part["snapshot_date"].to_numpy(), pa.timestamp("us")),
            pa.array(end - part["start_row"].to_numpy(dtype=np.int64), pa.int64()),
            pa.array(names, pa.string()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(days.reshape(-1), pa.timestamp("us"), mask=~mask.reshape(-1)), SEQUENCE_BARS
            ),
        ],
        schema=EXPORT_SCHEMA,
    )
