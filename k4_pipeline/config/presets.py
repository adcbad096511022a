"""The presets of the whole recipe: `original`, `fast` and `default`. docs/model-log.md has the figures behind them."""

from __future__ import annotations

from typing import Any

from k4_pipeline.config.model import LossConfig, TrainConfig
from k4_pipeline.config.recipe import MODEL_PRESETS, RecipeConfig
from k4_pipeline.errors import ConfigError

# Cross-entropy, weights by the square root of the inverse frequency and taken out again, stopped on log loss.
_BALANCED = LossConfig(gamma_neg=0.0, label_smoothing=0.0, class_weights=(1.0,) * 6, balance="sqrt_inverse")
_TRAINING: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 256,
    "learning_rate": 3e-4,
    "patience": 2,
    "monitor": "log_loss",
    "ema_decay": 0.99,
    "prior_correction": True,
}
_RECIPE: dict[str, Any] = {"context": True, "pretrain_epochs": 2, "refit": True, "stopping_frac": 0.5}
_KINDS = {
    "default": ("network", "no_sequence", "gradient_boosting", "logit"),
    "fast": ("no_sequence", "gradient_boosting", "logit"),
}
# Fields of TrainConfig that say where and how fast it runs, not what is learned.
_KEPT = ("seed", "device", "precision", "compile")


def model_preset(name: str, training: TrainConfig | None = None) -> dict[str, Any]:
    """The sections `recipe`, `loss` and `training` of a preset; seed, device and precision as in `training`.

    `original` is the seed document's recipe: one network, asymmetric loss with K4 weight 500, stopped on K4 recall.
    """
    if name not in MODEL_PRESETS:
        raise ConfigError(f"model preset {name!r} is unknown; use one of {', '.join(MODEL_PRESETS)}")
    kept = {} if training is None else {field: getattr(training, field) for field in _KEPT}
    if name == "original":
        return {"recipe": RecipeConfig(), "loss": LossConfig(), "training": TrainConfig(**kept)}
    return {
        "recipe": RecipeConfig(members=_KINDS[name], **_RECIPE),
        "loss": _BALANCED,
        "training": TrainConfig(**{**_TRAINING, **kept}),
    }
