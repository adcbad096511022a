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
    BUYS as BUYS,
    CLASS_NAMES as CLASS_NAMES,
    CLASS_VALUES as CLASS_VALUES,
    CLASS_WEIGHTS as CLASS_WEIGHTS,
    EXCLUDED as EXCLUDED,
    EXCLUSION_REASONS as EXCLUSION_REASONS,
    K2 as K2,
    K3 as K3,
    K4 as K4,
    K5 as K5,
    KEYS as KEYS,
    MEAN_VOLUME_BARS as MEAN_VOLUME_BARS,
    MIN_VALID_HISTORY_BARS as MIN_VALID_HISTORY_BARS,
    N_CLASSES as N_CLASSES,
    N_FEATURES as N_FEATURES,
    N_MARKET_FEATURES as N_MARKET_FEATURES,
    N_PATTERN_FEATURES as N_PATTERN_FEATURES,
    SEQUENCE_BARS as SEQUENCE_BARS,
    SIGNAL_NAMES as SIGNAL_NAMES,
    SPLIT_NAMES as SPLIT_NAMES,
)
from k4_pipeline.config.data import (
    FILE_SOURCES as FILE_SOURCES,
    CleaningConfig as CleaningConfig,
    LabelConfig as LabelConfig,
    PatternConfig as PatternConfig,
    SimulationConfig as SimulationConfig,
    SourceConfig as SourceConfig,
    SplitConfig as SplitConfig,
)
from k4_pipeline.config.execution import ExecutionConfig as ExecutionConfig
from k4_pipeline.config.fields import converted
from k4_pipeline.config.model import (
    LossConfig as LossConfig,
    ModelConfig as ModelConfig,
    ScalerConfig as ScalerConfig,
    SignalConfig as SignalConfig,
    TrainConfig as TrainConfig,
)
from k4_pipeline.config.presets import model_preset as model_preset
from k4_pipeline.config.proof import (
    ControlsConfig as ControlsConfig,
    IntegrityConfig as IntegrityConfig,
    ProofConfig as ProofConfig,
)
from k4_pipeline.config.recipe import (
    MODEL_PRESETS as MODEL_PRESETS,
    RecipeConfig as RecipeConfig,
    WindowConfig as WindowConfig,
)
from k4_pipeline.config.serving import ServingConfig as ServingConfig
from k4_pipeline.config.tiers import TierConfig as TierConfig
from k4_pipeline.config.trading import TradingConfig as TradingConfig
from k4_pipeline.errors import ConfigError

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
    return hash_of_stored(to_dict(config))


def hash_of_stored(config: dict[str, Any]) -> str:
    """`config_hash` of a config as it stands in JSON, whichever version wrote it."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]
