"""The nights' measures of drift: computed from the last nights together, kept as one value per night and measure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.evaluation.drift import JUDGED, MIN_ROWS, Limits, input_drift, prediction_drift, reasons
from k4_pipeline.evaluation.monitoring import expected_performance
from k4_pipeline.evaluation.predict_table import CERTIFIED_SCORE

DRIFTED = "drifted"


def last_nights(dates: list[pd.Timestamp], night: pd.Timestamp, most: int) -> pd.Timestamp:
    """The first of the last `most` nights up to `night`."""
    known = [date for date in dates if date <= night]
    return known[-most:][0] if known else night


def measured(
    reference: tuple[tuple[str, ...], np.ndarray, np.ndarray],
    limits: Limits,
    inputs: pd.DataFrame,
    given: pd.DataFrame,
) -> dict[str, Any]:
    """The drift of the nights in `inputs` and `given` (rows of both logs), JSON-safe.

    `reference`: names of the inputs, train rows (n, d) and P(K4) of the calibration rows. A pattern open for many
    nights counts once, with its newest row: its nights are no evidence of their own. `why` has a sentence for each
    measure above its limit; with too few patterns it is empty and `too_few` says so.
    """
    names, train_rows, p_calibration = reference
    keys = ["pattern_id"]
    rows = inputs.sort_values("night", kind="stable").drop_duplicates(keys, keep="last") if len(inputs) else inputs
    said = given.sort_values("night", kind="stable").drop_duplicates(keys, keep="last") if len(given) else given
    out: dict[str, Any] = {"patterns": len(rows), "limits": limits.values, "months": limits.months, "why": []}
    out["expected"] = expected_performance(given) if len(given) else None
    if len(rows) < MIN_ROWS:
        return {**out, "too_few": f"{len(rows)} patterns in these nights; {MIN_ROWS} are needed"}
    out |= input_drift(train_rows, rows[list(names)].to_numpy(dtype=np.float32), names)
    if len(p_calibration) >= MIN_ROWS:
        out |= prediction_drift(p_calibration, said[CERTIFIED_SCORE].to_numpy())
    # The share outside is that of the rows as they were judged: one row in a thousand is there by chance.
    out["outside_frac"] = float((said["refused"] != "").mean()) if "refused" in said else out["outside_frac"]
    return {**out, "too_few": "", "why": reasons(out, limits)}


def log_rows(night: pd.Timestamp, model: str, found: dict[str, Any]) -> pd.DataFrame:
    """`night`, `model`, `measure`, `value` of one night: the judged measures, those of every input, what is
    expected."""
    values: dict[str, float | None] = {name: found.get(name) for name in (*JUDGED, "p_k4_ks_p", "p_k4_mean")}
    values |= {"patterns": found["patterns"], DRIFTED: float(bool(found["why"]))}
    values |= {f"expected_{name}": value for name, value in (found["expected"] or {}).items()}
    for row in found.get("inputs", []):
        values |= {f"psi {row['input']}": row["psi"], f"ks_p {row['input']}": row["ks_p"]}
    table = pd.DataFrame(
        {"measure": list(values), "value": [np.nan if v is None else float(v) for v in values.values()]}
    )
    table.insert(0, "model", model)
    table.insert(0, "night", night)
    return table.astype({"model": "str", "measure": "str"})


def nights_in_a_row(log: pd.DataFrame) -> int:
    """On how many of the newest nights drift showed without a break."""
    if log.empty:
        return 0
    rows = log[log["measure"] == DRIFTED].sort_values("night")["value"].to_numpy()[::-1]
    clear = np.flatnonzero(rows == 0)
    return int(clear[0]) if len(clear) else len(rows)


def by_month(log: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Month -> the mean of each judged measure and the share of nights with drift."""
    if log.empty:
        return {}
    rows = log[log["measure"].isin([*JUDGED, DRIFTED])]
    table = rows.groupby([rows["night"].dt.strftime("%Y-%m"), "measure"])["value"].mean().unstack()
    return {
        str(month): {name: None if np.isnan(v) else float(v) for name, v in row.items()}
        for month, row in table.to_dict("index").items()
    }
