"""The one home of every constant and threshold. Frozen dataclasses; nothing here reads files or the environment."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from k4_pipeline.config.constants import (
    CLASS_NAMES,
    CLASS_VALUES,
    CLASS_WEIGHTS,
    EXCLUDED,
    EXCLUSION_REASONS,
    K2,
    K3,
    K4,
    K5,
    KEYS,
    MEAN_VOLUME_BARS,
    MIN_VALID_HISTORY_BARS,
    N_CLASSES,
    N_FEATURES,
    N_MARKET_FEATURES,
    N_PATTERN_FEATURES,
    SEQUENCE_BARS,
    SIGNAL_NAMES,
    SPLIT_NAMES,
)
from k4_pipeline.config.data import (
    FILE_SOURCES,
    CleaningConfig,
    LabelConfig,
    PatternConfig,
    SimulationConfig,
    SourceConfig,
    SplitConfig,
)
from k4_pipeline.config.execution import ExecutionConfig
from k4_pipeline.config.fields import converted
from k4_pipeline.config.model import LossConfig, ModelConfig, ScalerConfig, SignalConfig, TrainConfig
from k4_pipeline.config.presets import model_preset
from k4_pipeline.config.proof import ControlsConfig, IntegrityConfig, ProofConfig
from k4_pipeline.config.recipe import MODEL_PRESETS, RecipeConfig, WindowConfig
from k4_pipeline.config.serving import ServingConfig
from k4_pipeline.config.tiers import TierConfig
from k4_pipeline.config.trading import TradingConfig
from k4_pipeline.errors import ConfigError

__all__ = [
    "CLASS_NAMES",
    "CLASS_VALUES",
    "CLASS_WEIGHTS",
    "EXCLUDED",
    "EXCLUSION_REASONS",
    "FILE_SOURCES",
    "K2",
    "K3",
    "K4",
    "K5",
    "KEYS",
    "MEAN_VOLUME_BARS",
    "MIN_VALID_HISTORY_BARS",
    "MODEL_PRESETS",
    "N_CLASSES",
    "N_FEATURES",
    "N_MARKET_FEATURES",
    "N_PATTERN_FEATURES",
    "SEQUENCE_BARS",
    "SIGNAL_NAMES",
    "SPLIT_NAMES",
    "CleaningConfig",
    "ControlsConfig",
    "ExecutionConfig",
    "IntegrityConfig",
    "LabelConfig",
    "LossConfig",
    "ModelConfig",
    "PatternConfig",
    "PipelineConfig",
    "ProofConfig",
    "RecipeConfig",
    "ScalerConfig",
    "ServingConfig",
    "SignalConfig",
    "SimulationConfig",
    "SourceConfig",
    "SplitConfig",
    "TierConfig",
    "TradingConfig",
    "TrainConfig",
    "WindowConfig",
    "config_hash",
    "from_dict",
    "model_preset",
    "to_dict",
    "without_place",
]

T = TypeVar("T")


@dataclass(frozen=True)
class PipelineConfig:
    """Everything a run depends on; its hash is part of every fingerprint."""

    source: SourceConfig = field(default_factory=SourceConfig)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    patterns: PatternConfig = field(default_factory=PatternConfig)
    labels: LabelConfig = field(default_factory=LabelConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    scaler: ScalerConfig = field(default_factory=ScalerConfig)
    model: ModelConfig = field(default_factory=lambda: model_preset("default")["model"])
    windows: WindowConfig = field(default_factory=WindowConfig)
    recipe: RecipeConfig = field(default_factory=lambda: model_preset("default")["recipe"])
    loss: LossConfig = field(default_factory=lambda: model_preset("default")["loss"])
    training: TrainConfig = field(default_factory=lambda: model_preset("default")["training"])
    signals: SignalConfig = field(default_factory=SignalConfig)
    serving: ServingConfig = field(default_factory=ServingConfig)
    tiers: TierConfig = field(default_factory=TierConfig)
    integrity: IntegrityConfig = field(default_factory=IntegrityConfig)
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    proof: ProofConfig = field(default_factory=ProofConfig)
    trading: TradingConfig = field(default_factory=TradingConfig)
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)


def to_dict(config: Any) -> dict[str, Any]:
    """A JSON-safe dict of a (nested) config dataclass."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def without_place(config: PipelineConfig) -> PipelineConfig:
    """Where work was done is no part of its result: what is stored beside a result names the places by default."""
    training = dataclasses.replace(config.training, where=TrainConfig.where, processes=TrainConfig.processes)
    return dataclasses.replace(config, training=training, execution=ExecutionConfig())


def from_dict(cls: type[T], values: dict[str, Any], *, within: str = "", dropped: list[str] | None = None) -> T:
    """Rebuild a (nested) config from JSON; unknown names and values of another type are a `ConfigError`.

    What is missing takes its default. `within` is the section's name, for messages. With `dropped` (for what another
    version wrote) such names and values are left out instead, and a sentence on each is appended to it.
    """
    hints = _hints(cls)
    if not isinstance(values, dict):
        raise ConfigError(f"{within or cls.__name__} is {str(values)[:80]!r}; expected named settings")
    unknown = sorted(set(values) - set(hints))
    if dropped is not None:
        dropped += [f"{within}.{name}".strip(".") + " is no setting any more" for name in unknown]
        values = {name: value for name, value in values.items() if name in hints}
    elif unknown:
        raise ConfigError(f"{within or cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(hints)}")
    kwargs: dict[str, Any] = {}
    for name, value in values.items():
        dotted = f"{within}.{name}" if within else name
        if dataclasses.is_dataclass(hints[name]):
            kwargs[name] = from_dict(hints[name], value, within=dotted, dropped=dropped)  # type: ignore[arg-type]
            continue
        try:
            kwargs[name] = converted(dotted, value, hints[name], text=False)
        except ConfigError as problem:
            if dropped is None:
                raise
            dropped.append(f"{problem}: its default is used")
    return cls(**kwargs)


_hints: Callable[[Any], dict[str, Any]] = functools.cache(get_type_hints)


def config_hash(config: Any) -> str:
    """16 hex digits that change when any value of the config changes."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
