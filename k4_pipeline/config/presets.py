"""The presets of the whole recipe: `original`, `fast` and `default`."""

from __future__ import annotations

from typing import Any

from k4_pipeline.config.model import LossConfig, ModelConfig, TrainConfig
from k4_pipeline.config.recipe import MODEL_PRESETS, RecipeConfig
from k4_pipeline.errors import ConfigError

# Cross-entropy, weights by the square root of the inverse frequency and taken out again, stopped on log loss.
_BALANCED = LossConfig(gamma_neg=0.0, label_smoothing=0.0, class_weights=(1.0,) * 6, balance="sqrt_inverse")
_TRAINING: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 256,
    "learning_rate": 3e-4,
    "monitor": "log_loss",
    "ema_decay": 0.99,
    "prior_correction": True,
}
# Fixed epochs: no validation row is seen by a first fit, and all of them are left to the calibrator.
_RECIPE: dict[str, Any] = {
    "context": True,
    "market_context": False,
    "pretrain_epochs": 2,
    "refit": True,
    "average_refit": True,
    "stopping_frac": 0.0,
    "calibration": "level",
}
_KINDS: dict[str, Any] = {
    "default": ("network_without_context", "tabm", "extra_trees"),
    "fast": ("tabm", "no_sequence", "extra_trees", "logit"),
}
_MODEL: dict[str, Any] = {"preset": "compact", "dropout": 0.1, "head_dropout": 0.4, "bars": 20}
# Fields of TrainConfig that say where and how fast it runs, not what is learned.
_KEPT = ("seed", "device", "precision", "compile")


def model_preset(name: str, training: TrainConfig | None = None, model: ModelConfig | None = None) -> dict[str, Any]:
    """The sections `model`, `recipe`, `loss` and `training` of a preset.

    Seed, device and precision stay as in `training`, architecture and backend as in `model`.

    `original` is the seed document's recipe: one network, asymmetric loss with K4 weight 500, stopped on K4 recall.
    """
    if name not in MODEL_PRESETS:
        raise ConfigError(f"model preset {name!r} is unknown; use one of {', '.join(MODEL_PRESETS)}")
    kept = {} if training is None else {field: getattr(training, field) for field in _KEPT}
    network = {} if model is None else {field: getattr(model, field) for field in ("architecture", "backend")}
    if name == "original":
        return {
            "model": ModelConfig(**network),
            "recipe": RecipeConfig(),
            "loss": LossConfig(),
            "training": TrainConfig(**kept),
        }
    return {
        "model": ModelConfig(**_MODEL, **network),
        "recipe": RecipeConfig(members=_KINDS[name], **_RECIPE),
        "loss": _BALANCED,
        "training": TrainConfig(**{**_TRAINING, **kept}),
    }
