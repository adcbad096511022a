"""Fitting the members of a recipe: two phases for a network, one fit for trees and a logit.

The first time every network is stopped on validation rows; with `recipe.refit` it is fitted once more on every row
known at as_of, for as many epochs as the first time chose. So are a logit and extremely randomised trees; gradient
boosting is fitted on the train rows alone, where it was better.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from k4_pipeline.config import PipelineConfig, RecipeConfig, TrainConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.models.ensemble import (
    TABULAR_KINDS,
    WITHOUT_CONTEXT,
    Corrected,
    TextModel,
    network_config,
    with_origin,
)
from k4_pipeline.models.forest import ExtraTrees
from k4_pipeline.models.tabular import GradientBoosting, Logit
from k4_pipeline.pipeline.sources import LAST_BAR_KINDS, Rows
from k4_pipeline.progress import Progress
from k4_pipeline.training import loop
from k4_pipeline.training.resume import Resume
from k4_pipeline.training.seeding import resolve_device

_SEEDS_APART = 1000
_PARTS = 1000  # progress of one stage


@dataclass(frozen=True)
class Member:
    """One fitted member, and how it came about (JSON-able)."""

    kind: str
    module: nn.Module
    record: dict[str, Any]


def planned(config: PipelineConfig) -> list[tuple[str, int]]:
    """(kind, seed) of every member, in order; `network` is the architecture of the configuration.

    Raises `ConfigError` when a member reads the context of the last bar and the recipe has none.
    """
    without = [m for m in config.recipe.members if m in LAST_BAR_KINDS or m in TABULAR_KINDS]
    if without and not config.recipe.context:
        raise ConfigError(
            f"recipe.members names {', '.join(without)}, which read the context of the last bar, but recipe.context is "
            "false: set recipe.context=true, or recipe.members=network"
        )
    out = []
    for name in config.recipe.members:
        kind = str(name).replace("network", config.model.architecture) if "network" in name else name
        for i in range(1 if kind in TABULAR_KINDS else max(1, config.recipe.seeds)):
            pair = (kind, config.training.seed + _SEEDS_APART * i)
            if pair not in out:
                out.append(pair)
    return out


def shares(progress: Progress | None, stages: int) -> list[Progress | None]:
    """One progress callback for each of `stages` equal parts of the whole."""
    if progress is None:
        return [None] * stages

    def of(i: int) -> Progress:
        return lambda done, total: progress(i * _PARTS + _PARTS * done // max(total, 1), stages * _PARTS)

    return [of(i) for i in range(stages)]


def fit_network(
    kind: str,
    seed: int,
    config: PipelineConfig,
    snapshots: Rows,
    windows: Rows | None,
    stopping: Rows | None,
    *,
    epochs: int | None = None,
    panel: torch.Tensor | None = None,
    progress: Progress | None = None,
    resume: Resume | None = None,
) -> Member:
    """Trained on the windows, where there are any, then on the snapshots, stopped on the rows of `stopping`.

    Without `stopping` the second phase runs for `epochs`.
    """
    model, recipe = network_config(config.model, kind), config.recipe
    if kind.endswith(WITHOUT_CONTEXT):
        sets = (None if rows is None else rows.without_context() for rows in (snapshots, windows, stopping))
        snapshots, windows, stopping = sets  # type: ignore[assignment]
    device = resolve_device(config.training.device)
    one = dataclasses.replace(config.training, seed=seed)
    first, second = shares(progress, 2)
    initial = None
    if windows is not None and recipe.pretrain_epochs and len(windows):
        found = loop.train(
            model,
            _pretraining(one, recipe, len(windows), repeat=kind not in LAST_BAR_KINDS),
            config.loss,
            windows.source(kind, device, panel),
            None,
            progress=first,
            resume=None if resume is None else resume.phase("windows"),
        )
        initial = found.model.state_dict()
    if epochs is not None:
        one = dataclasses.replace(one, epochs=epochs)
    result = loop.train(
        model,
        one,
        config.loss,
        snapshots.source(kind, device, panel),
        None if stopping is None else stopping.source(kind, device, panel),
        initial=initial,
        progress=second,
        resume=None if resume is None else resume.phase("snapshots"),
    )
    weights = torch.log(torch.tensor(result.class_weights)) if config.training.prior_correction else None
    record = {
        "kind": kind,
        "seed": seed,
        "window_rows": 0 if initial is None or windows is None else len(windows),
        **{k: v for k, v in result.summary().items() if k not in ("seconds", "samples_per_s")},
    }
    return Member(kind, Corrected(result.model, weights).to(device), record)


def _pretraining(config: TrainConfig, recipe: RecipeConfig, rows: int, *, repeat: bool) -> TrainConfig:
    often = recipe.pretrain_steps // -(-rows // recipe.pretrain_batch_size) if repeat else 0
    return dataclasses.replace(
        config,
        epochs=max(recipe.pretrain_epochs, min(often, 2 * recipe.pretrain_epochs)),
        batch_size=recipe.pretrain_batch_size,
        learning_rate=recipe.pretrain_learning_rate,
        ema_decay=0.0,
    )


def fit_tabular(kind: str, seed: int, config: PipelineConfig, snapshots: Rows, windows: Rows | None = None) -> Member:
    """Trees or a logit on the last bars and their context; extremely randomised trees on some windows as well."""
    recipe = config.recipe
    model: Any = Logit(recipe.logit_c)
    if kind == "gradient_boosting":
        model = GradientBoosting(
            recipe.boosting_leaves,
            recipe.boosting_rounds,
            recipe.boosting_learning_rate,
            recipe.boosting_min_leaf_rows,
        )
    x, y = with_origin(snapshots.tabular(), 1.0), snapshots.targets
    assert y is not None
    w = np.ones(len(y)) if snapshots.weights is None else snapshots.weights.astype(np.float64)
    if kind == "extra_trees":
        model = ExtraTrees(recipe.forest_trees, recipe.forest_min_leaf_rows)
        if windows is not None and len(windows) and recipe.forest_window_frac > 0:
            some = windows.some(recipe.forest_window_frac)
            assert some.targets is not None
            share = recipe.forest_window_weight * w.sum() / len(some)
            x = np.concatenate([x, with_origin(some.tabular(), 0.0)])
            y, w = np.concatenate([y, some.targets]), np.concatenate([w, np.full(len(some), share)])
    model.fit(x, y, w, seed)
    return Member(kind, TextModel(kind, model.to_json()), {"kind": kind, "seed": seed, "train_rows": len(snapshots)})
