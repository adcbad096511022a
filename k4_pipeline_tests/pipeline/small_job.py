"""A training job of the small universe, and the arguments of the same training here."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from k4_pipeline.config import RecipeConfig
from k4_pipeline.features.context_table import CONTEXT_FILE, read_context, write_context
from k4_pipeline.features.panel import PANEL_FILE, read_panel, write_panel
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market.sources import read_bars
from k4_pipeline.pipeline import stages
from k4_pipeline.pipeline.job import write_job
from k4_pipeline.pipeline.tables import fit_scaler


def small_job(folder: Path) -> dict[str, Any]:
    """Write the job into `folder`/in; returns what `train_candidate` takes for the same training."""
    config = small_config(0)
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, architecture="bilstm", preset="micro", dropout=0.0),
        recipe=RecipeConfig(members=("network", "logit"), context=True, stopping_frac=1.0),
        training=dataclasses.replace(config.training, epochs=2, batch_size=64),
    )
    path = stages.run_path(read_bars(config.source, config.simulation), config, SMALL_AS_OF, model=None)
    write_panel(path.bars, folder)
    write_context(path.bars, folder)
    scaler = fit_scaler(stages.tables(path), config).to_json()
    fingerprints = {"dataset_split": "a", "sequences": "b"}
    common = {"split": path.split, "sequences": path.sequences, "windows": path.windows, "scaler_json": scaler}
    common |= {"config": config, "fingerprints": fingerprints, "as_of": str(path.as_of)}
    write_job(folder / "in", panel_file=folder / PANEL_FILE, context_file=folder / CONTEXT_FILE, **common)
    here = {**common, "panel": read_panel(folder), "context": read_context(folder).values}
    return here
