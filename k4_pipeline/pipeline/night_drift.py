"""The drift of the last nights of a home, measured from its logs and the champion's reference, and written down
once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from k4_pipeline.config import ServingConfig
from k4_pipeline.evaluation import drift_log
from k4_pipeline.evaluation.ledger import open_drift, open_inputs, open_ledger
from k4_pipeline.pipeline.reference import Reference, drifting


def measure_night(
    home: Path, model_folder: Path, model: str, night: pd.Timestamp, config: ServingConfig
) -> dict[str, Any]:
    """`drift_log.measured` of the last nights under `model`, with `night` and how many nights in a row it drifted.

    A night that was measured before keeps its values.
    """
    reference, log = Reference.read(model_folder), open_drift(home)
    first = drift_log.last_nights(open_ledger(home).dates(), night, config.drift_nights)
    inputs, given = (
        rows if rows.empty else rows[rows["model"] == model]
        for rows in (table(home).read(first=first, last=night) for table in (open_inputs, open_ledger))
    )
    if reference is None:
        found = {"patterns": 0, "limits": {}, "months": 0, "why": [], "expected": None}
        found["too_few"] = "the champion was trained before train rows were kept beside it; train a new one"
    else:
        names = drifting(reference.names)
        rows = reference.inputs[:, [reference.names.index(name) for name in names]]
        sides = (names, rows, reference.p_k4)
        found = drift_log.measured(sides, reference.limits, inputs, given)
    known = log.read(first=night, last=night)
    if known.empty or model not in set(known["model"]):
        log.append(drift_log.log_rows(night, model, found), model[:12])
    recent = log.read(first=first, last=night)
    found["in_a_row"] = drift_log.nights_in_a_row(recent[recent["model"] == model])
    return {**found, "night": str(night.date())}
