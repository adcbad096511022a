"""What is fitted and how it is read: scaler, architecture, loss, training, signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from k4_pipeline.config.constants import CLASS_WEIGHTS


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

    architecture: Literal["mamba_attention", "bilstm", "no_sequence", "tabm"] = "mamba_attention"
    preset: Literal["micro", "tiny", "compact", "small", "base", "large"] = "small"
    dropout: float = 0.1
    head_dropout: float | None = None  # of the dense layers; None: as dropout
    backend: Literal["auto", "naive", "cpu", "triton", "mamba_ssm"] = "auto"


@dataclass(frozen=True)
class LossConfig:
    """Asymmetric loss (Ridnik et al. 2021), single-label form."""

    gamma_pos: float = 0.0
    gamma_neg: float = 4.0
    label_smoothing: float = 0.1
    class_weights: tuple[float, ...] = CLASS_WEIGHTS
    # "fixed": class_weights as they stand; "sqrt_inverse": square roots of the inverse class frequencies of the rows
    # that are trained on, mean 1 over them; "none": all 1
    balance: Literal["fixed", "sqrt_inverse", "none"] = "fixed"


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
    monitor: Literal["k4_recall_at_budget", "k4_recall", "k4_average_precision", "loss", "log_loss"] = (
        "k4_recall_at_budget"
    )
    budget_frac: float = 0.05
    ema_decay: float = 0.0  # of the exponential average of the weights that is validated and kept; 0: the last weights
    prior_correction: bool = False  # take the class weights out of the probabilities again
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
