"""Why the best-ranked rows of a report got their P(K4): the reasons of tonight's list, for rows of the test span."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from k4_pipeline.config import KEYS
from k4_pipeline.pipeline.reasons import reasons
from k4_pipeline.pipeline.reference import Reference
from k4_pipeline.pipeline.tables import Stored
from k4_pipeline.pipeline.tabular import TABULAR_NAMES
from k4_pipeline.progress import Progress
from k4_pipeline.sequences.assemble import END
from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline.sequences.standardisation import Scaler

SHOWN = 4


def with_reasons(
    top: list[dict[str, Any]],
    model: nn.Module,
    scaler: Scaler,
    reference: Reference | None,
    tables: Stored,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """`top` (ticker, start_date, snapshot_date as texts) with `reasons` added; as it is where the model keeps no
    reference."""
    if reference is None or not top or tables.context is None:
        return top
    keys = pd.DataFrame([{name: row[name] for name in KEYS} for row in top])
    own = tables.sequences[KEYS].reset_index(names="row")
    keys = keys.astype({name: own[name].dtype for name in KEYS})
    rows = keys.merge(own, on=KEYS, how="left", validate="1:1")["row"].to_numpy()
    data = SequenceDataset(tables.panel, tables.index, rows, scaler)
    context = np.array(tables.context[tables.index.rows[rows, END]], dtype=np.float32)
    out = []
    for i, row in enumerate(top):
        batch = data.batch(np.array([i]))
        inputs = np.concatenate([batch.x[0, -1].numpy(), context[i]])
        read = inputs[[TABULAR_NAMES.index(name) for name in reference.names]]
        found = reasons(
            model, batch.x, batch.mask, torch.from_numpy(context[i : i + 1]), reference, TABULAR_NAMES, read, SHOWN
        )
        out.append({**row, "reasons": found["reasons"]})
        if progress is not None:
            progress(i + 1, len(top))
    return out
