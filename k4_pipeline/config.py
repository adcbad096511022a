"""The one home of every constant and threshold. Frozen dataclasses; nothing here reads files or the environment."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, get_type_hints

from k4_pipeline.errors import ConfigError

T = TypeVar("T")

SEQUENCE_BARS = 50
N_FEATURES = 69
N_MARKET_FEATURES = 55
N_PATTERN_FEATURES = 14
N_CLASSES = 6
K4 = 4
K5 = 5
CLASS_NAMES = ("K0_STAGNANT", "K1_MINIMAL", "K2_QUALITY", "K3_STRONG", "K4_EXCEPTIONAL", "K5_FAILED")
CLASS_VALUES = (-2.0, -0.2, 1.0, 3.0, 10.0, -10.0)
CLASS_WEIGHTS = (1.0, 1.0, 2.0, 10.0, 500.0, 5.0)

SIGNAL_NAMES = ("STRONG", "GOOD", "MODERATE", "AVOID")

SPLIT_NAMES = ("train", "validation", "test")
EXCLUDED = "excluded"
EXCLUSION_REASONS = (
    "label_not_known_before_validation",
    "embargo",
    "before_train_span",
    "label_not_known_at_as_of",
    "pattern_in_earlier_split",
    "after_test",
)
MIN_VALID_HISTORY_BARS = 20  # a bar of a sequence is valid from its ticker's 20th bar on
MEAN_VOLUME_BARS = 250  # look-back of m, the volume unit of the model inputs


@dataclass(frozen=True)
class CleaningConfig:
    """Which daily bars are sane. Nothing is repaired; a row is kept as sent or rejected with a reason."""

    range_tolerance: float = 0.005  # open/close may leave [low, high] by this share (vendor rounding)
    jump_factor: float = 4.0  # close-to-close factor listed (not rejected) as suspicious
    stale_bars: int = 20  # identical closes in a row listed as stale
    min_bars: int = 20  # a ticker with fewer clean bars is dropped, with its rows in the rejects
    default_exchange: str = "XNYS"
    # A bar dated today may still grow. "reject" it; "after_close": keep it once its exchange has closed; "accept" it.
    todays_bar: Literal["reject", "after_close", "accept"] = "reject"
    after_close_minutes: int = 15  # "after_close" waits this long for the vendor's final print
    max_rejected_frac: float = 0.5  # more refused rows than this and the whole input is refused


@dataclass(frozen=True)
class PatternConfig:
    """The consolidation state machine of docs/patterns.md and the snapshot sampling."""

    bbw_percentile_max: float = 0.30
    adx_max: float = 32.0
    volume_ratio_max: float = 0.80
    range_ratio_max: float = 1.00
    min_other: int = 2
    qualifying_bars: int = 10
    power_factor: float = 1.005
    max_active_bars: int = 90
    min_history_bars: int = 500
    sample_probability: float = 0.35
    sample_probability_late: float = 0.50
    late_after_bars: int = 15
    prior_range_bars: int = 20  # bars before the start bar that set w0 of channel_narrowing_pct
    sampling_seed: int = 0

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> PatternConfig:
        """`standard` (default) or `strict` (the original, very selective rule)."""
        ratios = {"standard": (0.80, 1.00), "strict": (0.35, 0.65)}
        if name not in ratios:
            raise ConfigError(f"pattern preset {name!r} is unknown; use one of {sorted(ratios)}")
        volume, rng = ratios[name]
        return cls(**{"volume_ratio_max": volume, "range_ratio_max": rng, **overrides})


@dataclass(frozen=True)
class LabelConfig:
    """The race over the bars after a snapshot."""

    horizon_bars: int = 100
    labeling: Literal["race", "first_breach"] = "race"
    measured_on: Literal["high_low", "close"] = "high_low"
    gain_thresholds: tuple[float, float, float, float] = (0.05, 0.15, 0.35, 0.75)  # K1, K2, K3, K4
    stop_loss: float = 0.10
    delisted_after_sessions: int = 10  # a ticker silent for more sessions than this has ended

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> LabelConfig:
        """`race_100` (default) or `rare_30` (30 bars, measured on closes: K4 near its original rarity)."""
        presets: dict[str, dict[str, Any]] = {
            "race_100": {},
            "rare_30": {"horizon_bars": 30, "measured_on": "close"},
        }
        if name not in presets:
            raise ConfigError(f"label preset {name!r} is unknown; use one of {sorted(presets)}")
        return cls(**{**presets[name], **overrides})


@dataclass(frozen=True)
class SplitConfig:
    """Membership by dates alone; spans in calendar months and days."""

    test_months: int = 3
    validation_months: int = 18
    embargo_days: int = 7
    train_years: int = 0  # 0: all history before validation
    min_train_rows: int = 50
    min_validation_rows: int = 10
    weight_by_uniqueness: bool = False


@dataclass(frozen=True)
class ScalerConfig:
    """Standardisation of the model inputs, fitted on train rows alone."""

    lower_quantile: float = 0.005
    upper_quantile: float = 0.995
    clip_sigmas: float = 8.0
    max_fit_sequences: int = 20_000


@dataclass(frozen=True)
class ModelConfig:
    """Architecture. `preset` fills the sizes (models/presets.py); `backend` picks the selective scan."""

    architecture: Literal["mamba_attention", "bilstm"] = "mamba_attention"
    preset: Literal["micro", "tiny", "small", "base", "large"] = "small"
    dropout: float = 0.1
    backend: Literal["auto", "naive", "cpu", "triton", "mamba_ssm"] = "auto"


@dataclass(frozen=True)
class LossConfig:
    """Asymmetric loss (Ridnik et al. 2021), single-label form."""

    gamma_pos: float = 0.0
    gamma_neg: float = 4.0
    label_smoothing: float = 0.1
    class_weights: tuple[float, ...] = CLASS_WEIGHTS


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    seed: int = 0
    epochs: int = 30
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_frac: float = 0.1
    grad_clip: float = 1.0
    patience: int = 6
    monitor: Literal["k4_recall_at_budget", "k4_recall", "k4_average_precision", "loss"] = "k4_recall_at_budget"
    budget_frac: float = 0.05
    precision: Literal["fp32", "bf16"] = "fp32"
    device: str = "auto"
    compile: bool = False  # CUDA only: torch.compile and one captured graph per step; pays from some 10^6 rows on


@dataclass(frozen=True)
class SignalConfig:
    """From calibrated probabilities to a signal."""

    avoid_k5: float = 0.30
    strong_ev: float = 5.0
    good_ev: float = 3.0
    moderate_ev: float = 1.0


@dataclass(frozen=True)
class IntegrityConfig:
    """Limits of the five integrity tests and the evidence each needs."""

    contamination_max_drop: float = 0.15
    recall_max_gap: float = 0.30
    ev_correlation_target: float = 0.30
    ev_correlation_tripwire: float = 0.25
    average_precision_tripwire_ratio: float = 2.0
    drift_max_kl: float = 0.5
    duplicate_return_correlation: float = 0.999  # two tickers this alike are one listing under two names
    budget_fracs: tuple[float, ...] = (0.05, 0.10)
    min_rows: int = 100
    min_k4: int = 10
    bootstrap_draws: int = 1000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class ControlsConfig:
    """Negative controls of every retraining: how much is looked at, and when a score counts as an alarm."""

    enabled: bool = True
    max_rows: int = 1500  # train rows and test rows of one control; beyond that whole tickers are drawn
    max_bars: int = 250_000  # bars that are turned round in time
    test_rows: int = 500  # wanted to test on; where fewer follow as_of, the control splits at an earlier date
    epochs: int = 3
    false_alarm_rate: float = 0.01  # of all controls of one retraining together
    margin: float = 0.03  # mean AUC that the model may have over the honest reference, beyond its interval
    min_rows: int = 100
    min_tickers: int = 6
    notice_at_most: float = 0.95  # fewer rows than it takes to notice a mean AUC of this size prove nothing
    draws: int = 2000


@dataclass(frozen=True)
class ProofConfig:
    """What the validation report and `k4 audit` do of their own accord."""

    leak_demo: bool = True  # train on an honest and on a random split, as a section of the report
    demo_rows: int = 3000  # labelled rows of the demo; beyond that whole tickers are drawn
    demo_epochs: int = 8
    refit_max_seconds: float = 300.0  # `k4 audit` fits the weights again when their training took no longer


@dataclass(frozen=True)
class SimulationConfig:
    """The embedded simulated market. `market/sources/simulated.py` documents the process."""

    world: Literal["squeeze", "null"] = "squeeze"
    n_tickers: int = 240
    n_bars: int = 2000
    end_date: str = "2024-12-31"
    seed: int = 3  # chosen so that the newest test quarter of the default squeeze market holds K4s
    dirty: bool = True


@dataclass(frozen=True)
class SourceConfig:
    """Where the bars (and, if wanted, the snapshots) come from."""

    source: Literal["simulated", "folder", "table", "yfinance"] = "simulated"
    path: str = ""  # folder or file
    tickers: tuple[str, ...] = ()  # yfinance universe, or a filter for the others
    start: str = ""  # ISO date, yfinance only
    snapshots_path: str = ""  # "" = scan for patterns; else an external snapshot file
    missing_tickers: Literal["fail", "filter", "fetch"] = "fail"


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
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainConfig = field(default_factory=TrainConfig)
    signals: SignalConfig = field(default_factory=SignalConfig)
    integrity: IntegrityConfig = field(default_factory=IntegrityConfig)
    controls: ControlsConfig = field(default_factory=ControlsConfig)
    proof: ProofConfig = field(default_factory=ProofConfig)


def to_dict(config: Any) -> dict[str, Any]:
    """A JSON-safe dict of a (nested) config dataclass."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Rebuild a (nested) config; unknown keys are a `ConfigError`, missing ones take their default."""
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(f"{cls.__name__} has no setting {', '.join(unknown)}; it has {', '.join(hints)}")
    kwargs: dict[str, Any] = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(hints[name]) and isinstance(value, dict):
            kwargs[name] = from_dict(hints[name], value)  # type: ignore[arg-type]
        else:
            kwargs[name] = tuple(value) if isinstance(value, list) else value
    return cls(**kwargs)


def config_hash(config: Any) -> str:
    """16 hex digits that change when any value of the config changes."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
