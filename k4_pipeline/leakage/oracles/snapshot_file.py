"""A snapshot file read a second time, plainly: no code of patterns/ is used. Dates other than year-month-day are left
unread ("") and such rows count as disputed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.leakage.oracles.reader import plain_day, plain_table

LEVELS = ("upper", "lower", "power")
_NAMES = {
    "ticker": ("ticker", "symbol"),
    "start": ("startdate",),
    "activation": ("activationdate",),
    "snapshot": ("snapshotdate",),
    "upper": ("upperboundary", "upper"),
    "lower": ("lowerboundary", "lower"),
    "power": ("powerboundary", "power"),
    "outcome": ("outcomeclass", "outcome"),
}


def read_snapshots_plainly(path: str) -> pd.DataFrame:
    """ticker, start, activation, snapshot (`YYYY-MM-DD` or ""), upper, lower, power (float64, NaN where the file gives
    none) and outcome (float64, NaN where it gives none); `odd`: a number or class was given that cannot be read."""
    table = plain_table(Path(path))
    plain = {re.sub(r"[^a-z]", "", str(c).lower()): c for c in reversed(list(table.columns))}
    found = {k: next((plain[n] for n in names if n in plain), None) for k, names in _NAMES.items()}
    lacking = [k for k in ("ticker", "start", "snapshot") if found[k] is None]
    if lacking:
        raise ValueError(f"{path}: no column for {', '.join(lacking)} among {', '.join(map(str, table.columns))}")
    out = pd.DataFrame({"ticker": table[found["ticker"]].astype(str).str.strip()})
    odd = np.zeros(len(out), dtype=bool)
    for name in ("start", "activation", "snapshot"):
        out[name] = "" if found[name] is None else plain_day(table[found[name]]).to_numpy()
    given = _text(table[found["activation"]]) if found["activation"] is not None else pd.Series("", index=out.index)
    odd |= (given.to_numpy() != "") & (out["activation"].to_numpy() == "")
    for name in (*LEVELS, "outcome"):
        text = pd.Series("", index=out.index) if found[name] is None else _text(table[found[name]])
        if name == "outcome":
            text = text.str.extract(r"^[Kk]?([0-5])(?:\.0)?(?:_[A-Za-z]+)?$")[0].where(text != "", "")
        out[name] = pd.to_numeric(text, errors="coerce").to_numpy(dtype=np.float64)
        odd |= (text != "").to_numpy() & np.isnan(out[name].to_numpy())
    return out.assign(odd=odd)


def _text(column: pd.Series) -> pd.Series:
    """As written, "" where nothing is."""
    text = column.astype(object).where(column.notna(), "").map(lambda v: str(v).strip())
    return text.where(~text.str.lower().isin(("nan", "none", "null", "na", "nat")), "").reset_index(drop=True)
