"""The tabular inputs are the last bar of the model's own inputs, and the context of that bar."""

from __future__ import annotations

import numpy as np

from k4_pipeline.features.context import CONTEXT_NAMES, compute_context
from k4_pipeline.pipeline.tabular import TABULAR_NAMES, tabular_inputs
from k4_pipeline.sequences.model_inputs import assemble_scale_free


def test_the_last_bar_and_its_context_side_by_side(context):
    full = context.full
    rows = np.array([0, 5, 7, len(full.sequences) - 1])
    bar_context = compute_context(full.bars)
    x, names = tabular_inputs(full.panel, full.index, rows, bar_context)
    whole, _ = assemble_scale_free(full.panel, full.index, rows)
    expected = np.where(np.isfinite(whole[:, -1]), whole[:, -1], np.nan)
    assert names == TABULAR_NAMES
    assert x.dtype == np.float32
    assert np.array_equal(x[:, :69], expected, equal_nan=True)
    ends = full.sequences["end_row"].to_numpy()[rows]
    assert np.array_equal(x[:, 69:], bar_context[ends], equal_nan=True)
    assert len(names) == 69 + len(CONTEXT_NAMES)
