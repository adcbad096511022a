"""A small, quick universe with the settings that go with it: what the audit of the code itself runs on.

The thresholds are loosened so that 24 tickers of 760 bars hold about a thousand snapshots with every class, and spans
are shortened in proportion; every function is the production one.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from k4_pipeline.config import (
    IntegrityConfig,
    LabelConfig,
    LossConfig,
    ModelConfig,
    PatternConfig,
    PipelineConfig,
    RecipeConfig,
    SimulationConfig,
    SplitConfig,
    TrainConfig,
)

SMALL_TICKERS = 24
SMALL_BARS = 760
SMALL_AS_OF = "2024-04-01"
REAL_FILE = "us_daily_bars_small.parquet"


def real_file() -> Path | None:
    """The file of real bars, or None when `K4_REAL_DATA` names none."""
    folder = os.environ.get("K4_REAL_DATA", "")
    path = Path(folder) / REAL_FILE
    return path if folder and path.is_file() else None


def small_config(seed: int = 0, **simulation: object) -> PipelineConfig:
    """Settings of the small universe; `simulation` overrides fields of `SimulationConfig`."""
    return PipelineConfig(
        simulation=replace(
            SimulationConfig(n_tickers=SMALL_TICKERS, n_bars=SMALL_BARS, seed=100 + seed),
            **simulation,  # type: ignore[arg-type]
        ),
        patterns=PatternConfig(
            bbw_percentile_max=0.45,
            volume_ratio_max=1.1,
            range_ratio_max=1.2,
            qualifying_bars=6,
            max_active_bars=40,
            min_history_bars=150,
        ),
        labels=LabelConfig(horizon_bars=30, gain_thresholds=(0.02, 0.04, 0.06, 0.09), stop_loss=0.05),
        split=SplitConfig(validation_months=7, test_months=6, min_train_rows=30),
        model=ModelConfig(preset="tiny"),
        recipe=RecipeConfig(),
        loss=LossConfig(),
        training=TrainConfig(epochs=2, batch_size=128, patience=2, device="cpu", monitor="k4_average_precision"),
        integrity=IntegrityConfig(bootstrap_draws=100),
    )
