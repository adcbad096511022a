"""A cheap copy of a path: whole tickers drawn until a row budget is spent, and a small model with plain settings.

For trainings that ask a question about the pipeline and not about the market (negative controls, the leak demo): same
functions, same settings of patterns, labels and split, fewer rows and the smallest model. Whole tickers are drawn,
because a draw of single rows would part the near-identical neighbours that a leak lives on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch

from k4_pipeline.config import LossConfig, ModelConfig, PipelineConfig, RecipeConfig, TrainConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun

FAR_MONTHS = 1200  # a test span without end: every later row


def cheap_config(config: PipelineConfig, *, epochs: int, seed: int) -> PipelineConfig:
    """`config` with the smallest model on a CPU and equal class weights: every class is evidence, not K4 alone."""
    return dataclasses.replace(
        config,
        model=ModelConfig(preset="tiny", dropout=0.0),
        recipe=RecipeConfig(),
        loss=LossConfig(gamma_neg=0.0, label_smoothing=0.0, class_weights=(1.0,) * 6),
        training=TrainConfig(
            seed=seed,
            epochs=epochs,
            batch_size=64,
            learning_rate=3e-3,
            patience=epochs,
            monitor="loss",
            device="cpu",
        ),
    )


def with_far_test(config: PipelineConfig) -> PipelineConfig:
    """`config` with a test span that reaches to the end of the data."""
    months = max(config.split.test_months, FAR_MONTHS)
    return dataclasses.replace(config, split=dataclasses.replace(config.split, test_months=months))


def earlier_as_of(labeled: pd.DataFrame, as_of: str, wanted: int) -> str:
    """`as_of`, or the latest earlier date that leaves `wanted` labelled rows (at most two fifths of all) to test on."""
    known = labeled.loc[labeled["outcome_class"].notna(), "snapshot_date"].sort_values()
    if known.empty:
        return as_of
    count = max(1, min(wanted, int(0.4 * len(known))))
    return str(min(pd.Timestamp(as_of), known.iloc[-count]).date())


def split_with_evidence(path: PipelineRun, as_of: str, wanted: int) -> PipelineRun:
    """The path split at a date that leaves `wanted` rows to test on, or at `as_of` where that leaves none to train on.

    Raises `BadInputError` when neither can be split.
    """
    earlier = earlier_as_of(path.labeled, as_of, wanted)
    try:
        return production.split_at(path, earlier)
    except BadInputError:
        if earlier == as_of:
            raise
        return production.split_at(path, as_of)


def labelled_only(path: PipelineRun) -> PipelineRun:
    """The path without the snapshots whose label is not known yet: nothing can be trained or scored on them."""
    kept = path.labeled["outcome_class"].notna().to_numpy()
    tables = {name: getattr(path, name)[kept].reset_index(drop=True) for name in ("snapshots", "labeled", "sequences")}
    return dataclasses.replace(path, **tables, _cache={})


def draw_tickers(labeled: pd.DataFrame, max_rows: int, rng: np.random.Generator) -> list[str]:
    """Tickers with snapshots in random order, as many as together have at most `max_rows` rows (at least one)."""
    counts = labeled["ticker"].astype(object).value_counts().sort_index()
    order = rng.permutation(len(counts))
    within = int(np.searchsorted(np.cumsum(counts.to_numpy()[order]), max_rows, side="right"))
    return sorted(str(t) for t in counts.index.to_numpy(dtype=object)[order[: max(within, 1)]])


def with_rows_of(path: PipelineRun, tickers: list[str], *, bars: bool = False) -> PipelineRun:
    """The path with the rows of `tickers` alone. The panel stays whole unless `bars` (then it must be made again)."""

    def part(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["ticker"].isin(tickers)].reset_index(drop=True)

    changed = {name: part(getattr(path, name)) for name in ("snapshots", "labeled", "sequences")}
    if bars:
        changed["bars"] = path.bars.subset(tickers)
    return path.unfitted(**changed, raw=None, split=None, manifest=None)


def capped_members(split: pd.DataFrame, caps: dict[str, int], rng: np.random.Generator) -> pd.DataFrame:
    """The split with the rows beyond the cap of their member left out, whole tickers at a time."""
    out = split.copy()
    for name, cap in caps.items():
        rows = out[out["split"] == name]
        if len(rows) > cap:
            kept = draw_tickers(rows, cap, rng)
            gone = rows.index[~rows["ticker"].isin(kept)]
            out.loc[gone, ["split", "reason"]] = ["excluded", "after_test"]
    return out


def reduced(path: PipelineRun, max_rows: int, rng: np.random.Generator) -> PipelineRun:
    """The path with at most `max_rows` snapshots, of whole tickers drawn at random."""
    return path if len(path.labeled) <= max_rows else with_rows_of(path, draw_tickers(path.labeled, max_rows, rng))


@contextmanager
def one_thread() -> Iterator[None]:
    """The smallest model on one thread: several wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def bars_budget(bars: Bars, labeled: pd.DataFrame, max_bars: int, rng: np.random.Generator) -> list[str]:
    """Tickers with snapshots, drawn at random, as many as together have at most `max_bars` bars (at least one)."""
    lengths = dict(zip((str(t) for t in bars.tickers), np.diff(bars.offsets).tolist()))
    names = sorted({str(t) for t in labeled["ticker"]})
    order = rng.permutation(len(names))
    total = np.cumsum([lengths[names[i]] for i in order])
    within = int(np.searchsorted(total, max_bars, side="right"))
    return sorted(names[i] for i in order[: max(within, 1)])
