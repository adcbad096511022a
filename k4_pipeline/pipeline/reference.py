"""What a model was trained on, kept beside its weights: train rows as the model reads them, with what became of them.

From these rows come, without any other table, the bounds outside which a row is refused, the measures of drift, the
average that reasons are measured against, and the historical patterns most like a new one.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_NAMES, K4, KEYS, PipelineConfig
from k4_pipeline.evaluation.drift import Limits, ReferenceRange
from k4_pipeline.features.context import CONTEXT_NAMES, MARKET_MEANS
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.storage import read_parquet, write_parquet

if TYPE_CHECKING:
    from k4_pipeline.pipeline.sources import Rows
    from k4_pipeline.pipeline.tables import Stored
    from k4_pipeline.sequences.standardisation import Scaler

ROWS, FACTS = "reference_rows", "reference.json"
HISTORY = "log_history"
FIT_ROWS, KEPT_ROWS = 40_000, 8_000  # evenly spaced over the train rows


def names_read(config: PipelineConfig) -> tuple[str, ...]:
    """The inputs of the last bar that a model of this recipe reads: 69 channels and, where used, the context."""
    unread = set() if config.recipe.market_context else {CONTEXT_NAMES[i] for i in MARKET_MEANS}
    context = [name for name in CONTEXT_NAMES if name not in unread] if config.recipe.context else []
    return (*FEATURE_NAMES, *context)


def drifting(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the inputs whose distribution over tickers can drift: a mean over the date is one number a night, and
    the length of a history grows with every night, so any two months are told apart by them."""
    told_apart = {CONTEXT_NAMES[i] for i in MARKET_MEANS} | {HISTORY}
    return tuple(name for name in names if name not in told_apart)


def inputs_read(rows: Rows, names: tuple[str, ...]) -> np.ndarray:
    """(n, len(names)) float32: the standardised last bars and the context of `rows`."""
    last = rows.last_bars()
    if len(names) == last.shape[1]:
        return last
    context = rows.contexts()
    assert context is not None
    chosen = [CONTEXT_NAMES.index(name) for name in names[last.shape[1] :]]
    return np.concatenate([last, context[:, chosen]], axis=1)


def spaced(n: int, most: int) -> np.ndarray:
    """At most `most` of n row numbers, evenly spaced."""
    return np.arange(n) if n <= most else np.linspace(0, n - 1, most).astype(int)


def write_reference(
    folder: Path, tables: Stored, scaler: Scaler, config: PipelineConfig, held: pd.DataFrame, p_k4: np.ndarray
) -> None:
    """`reference_rows.parquet` and `reference.json` from the train rows, and the limit for P(K4) from the calibration
    rows `held` (n rows) with P(K4) (n,); from no other row."""
    from k4_pipeline.pipeline.members import member_of
    from k4_pipeline.pipeline.sources import Rows

    rows, table = member_of(tables.split, tables.sequences, "train")
    some = spaced(len(rows), FIT_ROWS)
    rows, table = rows[some], table.iloc[some].reset_index(drop=True)
    names = names_read(config)
    inputs = inputs_read(Rows(tables.panel, tables.index, rows, scaler, context=tables.context), names)
    single, single_held = (~t.duplicated("pattern_id").to_numpy() for t in (table, held))
    months, held_months = (t["snapshot_date"].dt.strftime("%Y-%m").to_numpy(dtype=str) for t in (table, held))
    compared = [names.index(name) for name in drifting(names)]
    limits = Limits.of(inputs[single][:, compared], months[single], p_k4[single_held], held_months[single_held])
    facts = {
        "names": list(names),
        "rows": len(table),
        "range": ReferenceRange.of(inputs, table["snapshot_date"].to_numpy()).to_dict(),
        "limits": limits.to_dict(),
        "p_k4_calibration": p_k4[single_held].tolist(),
    }
    (folder / FACTS).write_text(json.dumps(facts, sort_keys=True))
    kept = spaced(len(table), KEPT_ROWS)
    columns = [*KEYS, "pattern_id", "outcome_class", "label_end_date"]
    frame = pd.DataFrame(inputs[kept], columns=list(names))
    write_parquet(
        pd.concat([table.loc[kept, columns].reset_index(drop=True), frame], axis=1), folder / f"{ROWS}.parquet"
    )


@dataclass(frozen=True, eq=False)
class Reference:
    """Train rows of a model: `table` (KEYS, pattern_id, outcome_class, label_end_date) and `inputs` (n, d)."""

    names: tuple[str, ...]
    table: pd.DataFrame
    inputs: np.ndarray
    range: ReferenceRange
    limits: Limits
    p_k4: np.ndarray  # of the calibration rows, one per pattern

    @classmethod
    def read(cls, folder: Path) -> Reference | None:
        """Of a model folder; None where the model was trained before this was kept."""
        if not (folder / FACTS).is_file():
            return None
        return _read(folder, (folder / FACTS).stat().st_mtime_ns)

    @classmethod
    def _of(cls, folder: Path) -> Reference:
        facts = json.loads((folder / FACTS).read_text())
        rows, names = read_parquet(folder / f"{ROWS}.parquet"), tuple(facts["names"])
        inputs = rows[list(names)].to_numpy(dtype=np.float32)
        table = rows.drop(columns=list(names))
        p_k4 = np.array(facts["p_k4_calibration"], dtype=np.float64)
        return cls(names, table, inputs, ReferenceRange.from_dict(facts["range"]), Limits(**facts["limits"]), p_k4)

    def refusals(self, inputs: np.ndarray) -> list[str]:
        """Why each row of inputs (n, d) is too far from the train rows to be scored; "" where it is not."""
        outside, far = self.range.outside(inputs), self.range.too_far(inputs)
        width = np.maximum(self.range.high - self.range.low, 1e-9)
        beyond = np.nan_to_num(np.maximum(self.range.low - inputs, inputs - self.range.high) / width, nan=-np.inf)
        out = []
        for i in range(len(inputs)):
            worst = [self.names[j] for j in np.argsort(-beyond[i], kind="stable")[:3] if outside[i, j]]
            why = f"{int(outside[i].sum())} of {len(self.names)} inputs lie outside the train rows: {', '.join(worst)}"
            out.append(why if far[i] else "")
        return out

    def percentiles(self, row: np.ndarray) -> np.ndarray:
        """Where the inputs (d,) lie among the train rows, in percent; NaN where not available."""
        below = (self.inputs < row).mean(axis=0) + (self.inputs == row).mean(axis=0) / 2
        return np.where(np.isfinite(row), 100 * below, np.nan)

    def similar(self, row: np.ndarray, day: pd.Timestamp, most: int = 3) -> list[dict[str, Any]]:
        """The patterns most like the inputs (d,) among those whose outcome was known before `day`, one row of each:
        distance over all inputs, in standard deviations of the train rows."""
        known = np.flatnonzero((self.table["label_end_date"] < day).to_numpy())
        if not len(known):
            return []
        deviation = np.nanstd(self.inputs, axis=0)
        z = (self.inputs[known] - row) / np.where(deviation > 1e-9, deviation, np.inf)
        with np.errstate(invalid="ignore"):
            distance = np.sqrt(np.nanmean(z**2, axis=1))
        out: dict[str, dict[str, Any]] = {}
        for i in np.argsort(distance, kind="stable"):
            entry = self.table.iloc[known[i]]
            if entry["pattern_id"] not in out:
                out[entry["pattern_id"]] = {
                    "ticker": str(entry["ticker"]),
                    "snapshot_date": str(entry["snapshot_date"].date()),
                    "outcome": CLASS_NAMES[int(entry["outcome_class"])],
                    "known_on": str(entry["label_end_date"].date()),
                    "distance": float(distance[i]),
                }
            if len(out) == most:
                break
        return list(out.values())

    def base_rate(self) -> float:
        """The share of K4 among the rows kept."""
        return float((self.table["outcome_class"] == K4).mean())


@functools.lru_cache(maxsize=2)
def _read(folder: Path, written_at: int) -> Reference:
    return Reference._of(folder)
