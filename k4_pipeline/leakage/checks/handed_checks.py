"""What a fit is handed: panel, closes, context, places, classes and weights, array by array."""

from __future__ import annotations

import dataclasses

import numpy as np

from k4_pipeline.config import KEYS
from k4_pipeline.leakage.checks.twin_fits import TOGETHER, part_to_fit, twin
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.pipeline.sources import Rows
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.verdict import Verdict


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    if a is b:
        return True
    return a is not None and b is not None and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _same_index(a: SequenceIndex, b: SequenceIndex) -> bool:
    return all(_same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))


def _tampered(context: AuditContext, **changes: object) -> AuditContext:
    """The rows that the last fit was handed, with other arrays."""
    heard = twin(context)
    handed = [*heard.handed[:-1], dataclasses.replace(heard.handed[-1], **changes)]  # type: ignore[arg-type]
    return dataclasses.replace(context, extra={**context.extra, "twin": dataclasses.replace(heard, handed=handed)})


def _closes_of_tomorrow(context: AuditContext) -> AuditContext:
    index = twin(context).handed[-1].index
    close = np.array(index.close)
    close[-2] = close[-1]
    return _tampered(context, index=dataclasses.replace(index, close=close))


def _another_class(context: AuditContext) -> AuditContext:
    targets = np.array(twin(context).handed[-1].targets)
    targets[-1] = (targets[-1] + 1) % 6
    return _tampered(context, targets=targets)


def _another_weight(context: AuditContext) -> AuditContext:
    weights = np.ones(len(twin(context).handed[-1]), dtype=np.float32)
    weights[0] = np.nextafter(weights[0], np.float32(2))
    return _tampered(context, weights=weights)


def _another_panel(context: AuditContext) -> AuditContext:
    panel = np.array(twin(context).handed[-1].panel)
    panel[-1, 0] = np.nextafter(panel[-1, 0], np.float32(np.inf))
    return _tampered(context, panel=panel)


def _a_row_twice(context: AuditContext) -> AuditContext:
    handed = twin(context).handed[-1]
    more = {n: getattr(handed, n) for n in ("rows", "targets", "weights")}
    return _tampered(context, **{n: None if a is None else np.concatenate([a, a[:1]]) for n, a in more.items()})


@check(
    "fitted",
    proves="Every array handed to a fit (panel, closes, context, places and geometry, classes, weights) is the stored "
    "one, row by row, for snapshots and for training windows, and no row is handed to one twice.",
    misses="What a member makes of them afterwards (the refits); weights of a refit by uniqueness.",
    needs=("split",),
    corruptions=(_closes_of_tomorrow, _another_class, _another_weight, _another_panel, _a_row_twice),
    together=TOGETHER,
)
def every_array_handed_to_a_fit_is_the_stored_one(context: AuditContext) -> Verdict:
    """Look at what the fits of the part were handed."""
    part, out = part_to_fit(context), Comparison()
    tables = [("snapshots", part.sequences)] + ([("windows", part.windows)] if part.windows is not None else [])
    indexes = {name: SequenceIndex.from_frame(table, part.bars.close) for name, table in tables}
    for i, rows in enumerate((context.extra.get("twin") or twin(context)).handed):
        where = f"set {i + 1} of a fit"
        name = next((n for n, index in indexes.items() if _same_index(index, rows.index)), "")
        wrong = [text for text, odd in _odd(part, rows, name).items() if odd]
        lines = [f"{where}{f' ({name})' * bool(name)}: {text} are not the stored ones" for text in wrong]
        out.add(6 * len(rows), len(wrong), lines)
        twice = len(rows) - len(np.unique(rows.rows))
        lines = [f"{where}{f' ({name})' * bool(name)}: {twice} of {len(rows)} rows were in it before"]
        out.add(len(rows), int(twice > 0), lines * bool(twice))
    return verdict_of(out)


def _odd(part: PipelineRun, rows: Rows, name: str) -> dict[str, bool]:
    """By what was handed, whether it differs from what is stored."""
    odd = {
        "the panel": not _same(rows.panel, part.panel),
        "the context": rows.context is not None and not _same(rows.context, part.context),
        "places, geometry or closes": not name,
    }
    if not name:
        return odd
    if name == "windows":
        assert part.windows is not None
        classes = part.windows["outcome_class"].to_numpy(dtype=np.float64, na_value=np.nan)[rows.rows]
    else:
        keys = part.sequences[KEYS].iloc[rows.rows]
        joined = keys.merge(part.labeled[[*KEYS, "outcome_class"]], on=KEYS, how="left", validate="1:1")
        classes = joined["outcome_class"].to_numpy(dtype=np.float64, na_value=np.nan)
    odd["classes"] = rows.targets is not None and not np.array_equal(rows.targets.astype(np.float64), classes)
    odd["weights"] = rows.weights is not None and not _due_weights(part, rows, name)
    return odd


def _due_weights(part: PipelineRun, rows: Rows, name: str) -> bool:
    weights = rows.weights
    assert weights is not None
    if not part.config.split.weight_by_uniqueness or name == "windows":
        return bool((weights == 1.0).all())
    assert part.split is not None
    keys = part.sequences[KEYS].iloc[rows.rows]
    joined = keys.merge(part.split[[*KEYS, "split", "weight"]], on=KEYS, how="left", validate="1:1")
    if joined["split"].nunique() > 1:
        return True  # a refit: uniqueness among other rows
    return np.array_equal(weights, joined["weight"].to_numpy(dtype=np.float32))
