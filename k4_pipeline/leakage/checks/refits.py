"""The worlds in which a fit is made again: on the eve of the as-of date, or of stored rows, later bars corrupted."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch

from k4_pipeline._numba import n_threads
from k4_pipeline.config import KEYS
from k4_pipeline.leakage.checks.replay_at_cutoffs import rebuilt_at
from k4_pipeline.leakage.engine.audit import AuditContext
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import Fitted, PipelineRun


def permitted_only(full: PipelineRun) -> PipelineRun:
    """The path with the rows and windows alone that may be fitted on, and NaN for every bar dated as_of or later.

    These are the train and validation rows, and those of patterns without test rows whose label is known before as_of.
    """
    whole, as_of = full.split, pd.Timestamp(str(full.as_of))
    assert whole is not None
    tested = whole["pattern_id"].isin(whole.loc[whole["split"] == "test", "pattern_id"])
    known = whole["outcome_class"].notna() & (whole["label_end_date"] < as_of) & ~tested
    split = whole[whole["split"].isin(["train", "validation"]) | known].reset_index(drop=True)
    kept = pd.MultiIndex.from_frame(split[KEYS])

    def part(table: pd.DataFrame) -> pd.DataFrame:
        return table[pd.MultiIndex.from_frame(table[KEYS]).isin(kept)].reset_index(drop=True)

    panel = np.array(full.panel)
    late = full.bars.date >= np.datetime64(str(full.as_of), "D").astype(np.int64)
    panel[late] = np.nan
    context = windows = None
    if full.context is not None:
        context = np.array(full.context)
        context[late] = np.nan
    if full.windows is not None:
        windows = full.windows[full.windows["label_end_date"] < as_of].reset_index(drop=True)
    return full.unfitted(
        context=context,
        windows=windows,
        raw=None,
        panel=panel,
        snapshots=part(full.snapshots),
        labeled=part(full.labeled),
        sequences=part(full.sequences),
        split=split,
    )


def world_of_as_of(context: AuditContext) -> PipelineRun:
    """The path as it stood on the eve of the as-of date: no bar, row, label, window or array dated later exists.

    Where a snapshot file gives the classes, no race can give them again: then the permitted rows of the stored tables.
    """
    if context.extra.get("labels_of_file"):
        return permitted_only(context.full)
    rebuilt = dataclasses.replace(rebuilt_at(context, context.as_of_day - 1), _cache={})
    return production.split_at(rebuilt, context.as_of_day)


@contextmanager
def threads_of(context: AuditContext) -> Iterator[None]:
    """As many threads as the stored fit had: on another number sums are rounded otherwise."""
    torch_threads, kernels = context.extra.get("threads") or (torch.get_num_threads(), n_threads())
    before, environment = torch.get_num_threads(), os.environ.get("K4_THREADS")
    torch.set_num_threads(int(torch_threads))
    os.environ["K4_THREADS"] = str(kernels)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        os.environ.pop("K4_THREADS")
        if environment is not None:
            os.environ["K4_THREADS"] = environment


def fitted_again(context: AuditContext, kind: str, make: Callable[[], PipelineRun]) -> Fitted:
    """The fit of `make()`, made once for one split, panel and set of settings: self-tests change what is compared."""
    full = context.full

    def fit() -> Fitted:
        with threads_of(context):
            return production.fit(make())

    return context.once(("refit", kind, full.config), fit, full.split, full.panel, full.sequences)
