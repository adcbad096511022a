"""One row per snapshot for the models without a sequence: the last bar's model inputs and the context of that bar."""

from __future__ import annotations

import numpy as np

from k4_pipeline.features.context import CONTEXT_NAMES
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.sequences.assemble import END, N_VALID, SequenceIndex
from k4_pipeline.sequences.model_inputs import assemble_scale_free

TABULAR_NAMES: tuple[str, ...] = (*FEATURE_NAMES, *CONTEXT_NAMES)
_CHUNK = 2048


def last_bar(panel: np.ndarray, index: SequenceIndex, rows: np.ndarray) -> np.ndarray:
    """The scale-free model inputs of the last bar of sequences `rows` (n,): (n, 69) float32, NaN where not available.

    Only the last bar is computed, a few rows at a time: nothing of the size of a sequence is ever held for all rows.
    """
    rows = np.asarray(rows, dtype=np.int64)
    out = np.empty((len(rows), len(FEATURE_NAMES)), dtype=np.float32)
    for start in range(0, len(rows), _CHUNK):
        chosen = index.take(rows[start : start + _CHUNK])
        chosen.rows[:, N_VALID] = 1
        values, _ = assemble_scale_free(panel, chosen, np.arange(len(chosen)))
        out[start : start + _CHUNK] = values[:, -1]
    out[~np.isfinite(out)] = np.nan
    return out


def tabular_inputs(
    panel: np.ndarray, index: SequenceIndex, rows: np.ndarray, context: np.ndarray
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(n, 69 + context features) float32 of sequences `rows` (n,), NaN where not available, and the column names.

    `panel` (n_bars, 55) and `context` (n_bars, N_CONTEXT) have one row per bar; the snapshot's own bar is read.
    """
    bars = index.rows[np.asarray(rows, dtype=np.int64), END]
    return np.concatenate([last_bar(panel, index, rows), np.asarray(context[bars])], axis=1), TABULAR_NAMES
