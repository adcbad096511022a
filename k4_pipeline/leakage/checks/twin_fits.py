"""Two fits of a part of the rows that differ in their validation rows alone, listened to while they read.

They ask about the code that fits, not about the stored weights (the refit in the world of the as-of date proves those
to the bit). So whole tickers are drawn until `FIT_ROWS` train rows are there, and two epochs of each phase are run: the
cost does not grow with the market. A rule that reads or trains on a share s of the forbidden rows touches one of the n
in the part with probability 1 - (1 - s)^n; n stands in the details of the verdicts.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from k4_pipeline.leakage.checks.refits import threads_of
from k4_pipeline.leakage.engine.audit import AuditContext
from k4_pipeline.pipeline import fit as candidate, stages as production
from k4_pipeline.pipeline.sources import Rows
from k4_pipeline.pipeline.stages import Fitted, PipelineRun
from k4_pipeline.sequences import assemble, model_inputs
from k4_pipeline.training.monitor import Monitor

FIT_ROWS = 500  # train rows
EPOCHS = 2
TOGETHER = "twin fits"  # the checks that look at them share one process

# A sequence is known by where it ends and where its pattern starts.
_WHERE = [assemble.END, assemble.START]


@dataclass(frozen=True)
class Heard:
    """A fit, the places of the sequences that it assembled (all, and those after the scaler was fitted), and the sets
    of rows that its members were handed."""

    fitted: Fitted
    read: np.ndarray
    learned: np.ndarray
    handed: list[Rows]


def place(rows: np.ndarray) -> np.ndarray:
    """One number per sequence from its (end_row, start_row), int64."""
    return rows[:, 0].astype(np.int64) << 32 | rows[:, 1].astype(np.int64)


def part_to_fit(context: AuditContext) -> PipelineRun:
    """The path with the rows and windows of some tickers, bars and panel whole, and few epochs to run.

    Drawn by the labelled rows of any member: moving a row to another member draws the same tickers.
    """
    full, config = context.full, context.full.config
    assert full.split is not None
    config = dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, epochs=min(config.training.epochs, EPOCHS), device="cpu"),
        recipe=dataclasses.replace(config.recipe, pretrain_epochs=min(config.recipe.pretrain_epochs, EPOCHS)),
    )
    known = full.split.loc[full.split["outcome_class"].notna(), "ticker"].astype(object).value_counts().sort_index()
    train = int((full.split["split"] == "train").sum())
    share = min(1.0, FIT_ROWS / max(train, 1))
    order = known.index.to_numpy(dtype=object)[context.rng(23).permutation(len(known))]
    count = int(np.searchsorted(np.cumsum(known[order].to_numpy()), share * known.sum())) + 1
    fitted = [full.split.loc[full.split["split"] == name, "ticker"] for name in ("train", "validation")]
    while count < len(order) and not all(rows.isin(order[:count]).any() for rows in fitted):
        count += 1
    names = set(order[:count])

    def part(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["ticker"].isin(names)].reset_index(drop=True)

    tables = {name: part(getattr(full, name)) for name in ("snapshots", "labeled", "sequences", "split")}
    return full.unfitted(config=config, windows=None if full.windows is None else part(full.windows), **tables)


def corrupted_validation(full: PipelineRun, rng: np.random.Generator) -> PipelineRun:
    """The path with every second validation row excluded and the classes of the others permuted."""
    assert full.split is not None
    split = full.split.copy()
    rows = np.flatnonzero((split["split"] == "validation").to_numpy())
    gone, kept = rows[1::2], rows[0::2]
    split.loc[split.index[gone], "split"] = "excluded"
    classes = split["outcome_class"].to_numpy(copy=True)
    classes[kept] = rng.permutation(classes[kept])
    split["outcome_class"] = pd.array(classes, dtype=split["outcome_class"].dtype)
    return full.unfitted(split=split)


def heard(path: PipelineRun) -> Heard:
    """Fit a path and note every sequence that is assembled meanwhile, by whatever way.

    The last epoch is kept, whatever validation says of it: the weights of two such fits can always be compared.
    """
    read: dict[str, list[np.ndarray]] = {"scaler": [], "model": []}
    phase = ["scaler"]
    gate, fit, handed, calls = model_inputs._run, candidate.fit, [], itertools.count()

    def listening(panel: np.ndarray, index: assemble.SequenceIndex, rows: np.ndarray, *rest: Any) -> Any:
        read[phase[0]].append(place(index.rows[np.asarray(rows, dtype=np.int64)][:, _WHERE]))
        return gate(panel, index, rows, *rest)

    def fitting(*arguments: Any, **named: Any) -> Any:
        phase[0] = "model"
        return fit(*arguments, **named)

    def latest(*_: Any) -> tuple[float, ...]:
        return (float(next(calls)),)

    def kept(*arguments: Any, **named: Any) -> Rows:
        handed.append(Rows(*arguments, **named))
        return handed[-1]

    with (
        mock.patch.object(model_inputs, "_run", listening),
        mock.patch.object(candidate, "fit", fitting),
        mock.patch.object(candidate, "Rows", kept),
        mock.patch.object(Monitor, "key", latest),
    ):
        fitted = production.fit(path)
    scaled, learned = (np.unique(np.concatenate([np.zeros(0, np.int64), *read[p]])) for p in read)
    return Heard(fitted, np.union1d(scaled, learned), learned, handed)


def twin(context: AuditContext, *, corrupted: bool = False) -> Heard:
    """The fit of the part, as it is or with its validation rows corrupted; made once for one split and panel."""
    full = context.full

    def fit() -> Heard:
        path = part_to_fit(context)
        if corrupted:
            path = corrupted_validation(path, context.rng(13))
            # A refit takes validation rows in, as it may.
            recipe = dataclasses.replace(path.config.recipe, refit=False)
            path = dataclasses.replace(path, config=dataclasses.replace(path.config, recipe=recipe), _cache={})
        with threads_of(context):
            return heard(path)

    of = full.split, full.panel, full.sequences, full.labeled, full.windows, full.context
    return context.once(("twin", corrupted, full.config), fit, *of)
