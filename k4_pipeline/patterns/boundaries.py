"""When the boundaries of a pattern can be used: finite, positive, lower below upper. One rule for every source."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS

BOUNDARY_COLUMNS = ("upper", "lower", "power")


def boundary_reasons(upper: np.ndarray, lower: np.ndarray, power: np.ndarray) -> np.ndarray:
    """Why each row is unusable, object (n,); the empty string where it is fine."""
    reasons = np.full(len(upper), "", dtype=object)
    for name, values in (("upper", upper), ("lower", lower), ("power", power)):
        values = np.asarray(values, dtype=np.float64)
        free = reasons == ""
        reasons[free & ~np.isfinite(values)] = f"{name} boundary is not a finite number"
        free = reasons == ""
        reasons[free & (values <= 0)] = f"{name} boundary is not positive"
    order = (reasons == "") & ~(np.asarray(lower) < np.asarray(upper))
    reasons[order] = "lower boundary is not below the upper one"
    return reasons


def check_boundaries(snapshots: pd.DataFrame) -> pd.DataFrame:
    """The rows whose boundaries cannot be used, with `row` (position in `snapshots`), the keys, the values, `reason`.

    Empty when all are fine. Needs the columns ticker, start_date, snapshot_date, upper, lower, power.
    """
    reasons = boundary_reasons(*(snapshots[c].to_numpy(dtype=np.float64) for c in BOUNDARY_COLUMNS))
    bad = np.flatnonzero(reasons != "")
    columns = [*KEYS, *BOUNDARY_COLUMNS]
    out = snapshots.iloc[bad][columns].reset_index(drop=True)
    out.insert(0, "row", bad.astype(np.int64))
    out["reason"] = pd.Series(reasons[bad], dtype="str")
    return out


def describe_rejects(rejects: pd.DataFrame, limit: int = 5) -> str:
    """The first rejected rows in words, for an error message."""
    lines = [
        f"row {r.row} ({r.ticker}, start {r.start_date:%Y-%m-%d}, snapshot {r.snapshot_date:%Y-%m-%d}): {r.reason} "
        f"(upper {r.upper:g}, lower {r.lower:g}, power {r.power:g})"
        for r in rejects.head(limit).itertuples(index=False)
    ]
    more = len(rejects) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")
