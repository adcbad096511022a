"""A home folder in which a small model serves, made in seconds: for tests of what comes after the training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd

from k4_pipeline.config import PipelineConfig, SourceConfig
from k4_pipeline.evaluation import champion
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.market.sources import read_bars
from k4_pipeline.options import apply_options
from k4_pipeline.pipeline import stages
from k4_pipeline.pipeline.model_files import train_candidate
from k4_pipeline.settings import Settings, save_settings
from k4_pipeline.storage import ArtifactStore

BAR_COLUMNS = ["ticker", "date", "open", "high", "low", "close", "volume"]


def config_on(file: Path, **options: object) -> PipelineConfig:
    """Settings for a long table of bars and the smallest model, one epoch."""
    config = apply_options(PipelineConfig(), {"preset": "micro", "model_preset": "original", **options})
    return dataclasses.replace(
        config,
        source=SourceConfig(source="table", path=str(file)),
        training=dataclasses.replace(config.training, epochs=1),
        recipe=dataclasses.replace(config.recipe, min_train_k4=0),
    )


def serve_a_model(home: Path, config: PipelineConfig, as_of: str) -> Settings:
    """Train on the bars of the source and let the result serve in `home`, whatever its quality."""
    settings = Settings(home, config)
    save_settings(settings)
    path = stages.build_from_raw(read_bars(config.source, config.simulation), config)
    stages.split_at(path, as_of)
    store = ArtifactStore(settings.artifacts_dir)
    with store.stage(champion.CHAMPION) as staged:
        train_candidate(
            staged.dir,
            split=path.split,
            sequences=path.sequences,
            panel=FeaturePanel.from_bars(path.bars),
            scaler_json=stages.stored_tables.fit_scaler(stages.tables(path), config).to_json(),
            config=config,
            as_of=as_of,
            context=path.context,
            windows=path.windows,
            fingerprints={"dataset_split": "a test"},
        )
        record = champion.Record(as_of, "0123456789abcdef", champion.market_identity(config))
        record.write(staged.dir)
        moves = [champion.move_entry(record, "a test")]
        ref = staged.commit(kind=champion.CHAMPION, meta={"history": moves, "as_of": as_of}, inputs={})
    store.promote(champion.CHAMPION, None, ref.fingerprint, {"checks": []})
    return settings


def write_until(bars: pd.DataFrame, day: pd.Timestamp, file: Path) -> None:
    """The file as it was on the evening of `day`."""
    bars.loc[pd.to_datetime(bars["date"]) <= day, BAR_COLUMNS].to_parquet(file, index=False)
