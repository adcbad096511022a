"""What is fitted and how it is read: scaler, architecture, loss, training, signals."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from k4_pipeline.config.constants import CLASS_WEIGHTS
from k4_pipeline.errors import ConfigError


@dataclass(frozen=True)
class ScalerConfig:
    """Standardisation of the model inputs, fitted on train rows alone."""

    lower_quantile: float = 0.005  # values below this quantile of the train rows are clipped
    upper_quantile: float = 0.995  # values above it are clipped
    clip_sigmas: float = 8.0  # clip after scaling
    max_fit_sequences: int = 20_000  # train sequences the scaler looks at


@dataclass(frozen=True)
class ModelConfig:
    """Architecture. `preset` fills the sizes (models/presets.py); `backend` picks the selective scan."""

    # network of the member `network`
    architecture: Literal["mamba_attention", "bilstm", "no_sequence", "tabm"] = "mamba_attention"
    preset: Literal["micro", "tiny", "compact", "small", "base", "large"] = "small"  # size
    dropout: float = 0.1  # inside the blocks
    head_dropout: float | None = None  # of the dense layers; None: as dropout
    bars: int = 50  # how many of the last bars a network of sequences sees
    shuffled: bool = False  # whether it sees them out of order, the last one excepted: for the ablation
    # of the selective scan; the numbers are the same to rounding
    backend: Literal["auto", "naive", "cpu", "triton", "mamba_ssm"] = "auto"


@dataclass(frozen=True)
class LossConfig:
    """Asymmetric loss (Ridnik et al. 2021), single-label form."""

    gamma_pos: float = 0.0  # focusing on the true class
    gamma_neg: float = 4.0  # focusing on the other classes
    label_smoothing: float = 0.1  # share of the label spread over all classes
    class_weights: tuple[float, ...] = CLASS_WEIGHTS  # of K0 to K5
    # "fixed": class_weights as they stand; "sqrt_inverse": square roots of the inverse class frequencies of the rows
    # that are trained on, mean 1 over them; "none": all 1
    balance: Literal["fixed", "sqrt_inverse", "none"] = "fixed"


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    seed: int = 0  # of weights, order and dropout
    epochs: int = 30  # at most
    batch_size: int = 256  # sequences a step
    learning_rate: float = 1e-3  # peak of the one-cycle schedule
    weight_decay: float = 1e-2  # of AdamW
    warmup_frac: float = 0.1  # share of the steps until the peak
    grad_clip: float = 1.0  # largest norm of a gradient
    patience: int = 6  # epochs without a better validation before the end
    # what early stopping and the choice of the best epoch look at
    monitor: Literal["k4_recall_at_budget", "k4_recall", "k4_average_precision", "loss", "log_loss"] = (
        "k4_recall_at_budget"
    )
    budget_frac: float = 0.05  # alert budget of the monitored recall
    ema_decay: float = 0.0  # of the exponential average of the weights that is validated and kept; 0: the last weights
    prior_correction: bool = False  # take the class weights out of the probabilities again
    precision: Literal["fp32", "bf16"] = "fp32"  # of the products
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: the GPU where there is one
    # here; subprocess; pipes:<words before "-m k4_pipeline.training">; ray; bundle:<folder that came back>
    where: str = "here"
    processes: int = 1  # that share every batch, one GPU each
    compile: bool = False  # CUDA only: torch.compile and one captured graph per step; pays from some 10^6 rows on

    def __post_init__(self) -> None:
        """A place that is none is refused wherever it comes from."""
        if self.where not in ("here", "subprocess", "ray") and not re.fullmatch(r"(pipes|bundle):\s*\S.*", self.where):
            raise ConfigError(
                f"training.where is {self.where!r}; use here, subprocess, pipes:<launcher>, ray or bundle:<folder>"
            )


@dataclass(frozen=True)
class SignalConfig:
    """From calibrated probabilities to a signal."""

    avoid_k5: float = 0.30  # P(K5) from which a signal is AVOID
    strong_ev: float = 5.0  # expected value of a STRONG signal
    good_ev: float = 3.0  # of a GOOD one
    moderate_ev: float = 1.0  # of a MODERATE one
