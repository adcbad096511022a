"""From a `ModelConfig` to a module, and the check of the masks that are fed to it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.config import N_CLASSES, N_FEATURES, SEQUENCE_BARS, ModelConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.models.bilstm import BiLSTMClassifier
from k4_pipeline.models.classifier import MambaAttention
from k4_pipeline.models.no_sequence import NoSequence
from k4_pipeline.models.presets import sizes_of
from k4_pipeline.models.tabm import TabM


def build_model(
    config: ModelConfig,
    n_features: int = N_FEATURES,
    n_classes: int = N_CLASSES,
    seq_len: int = SEQUENCE_BARS,
    n_context: int = 0,
) -> nn.Module:
    """A module with `forward(x (batch, seq_len, n_features), mask (batch, seq_len) bool) -> logits (batch, n_classes)`.

    With `n_context` a third argument (batch, n_context): the context, which meets the last bar before the dense layers.

    Random initialisation from torch's global generator (training/seeding.py fixes it). `seq_len` is recorded for the
    checkpoint; the architectures themselves take any length. Raises `ConfigError` for unknown names.
    """
    if not 1 <= config.bars <= SEQUENCE_BARS:
        raise ConfigError(f"model.bars is {config.bars}; a sequence has 1 to {SEQUENCE_BARS} bars")
    sizes = sizes_of(config.preset)
    head_dropout = config.dropout if config.head_dropout is None else config.head_dropout
    model: nn.Module
    if config.architecture == "mamba_attention":
        model = MambaAttention(
            sizes,
            n_features,
            n_classes,
            dropout=config.dropout,
            head_dropout=head_dropout,
            backend=config.backend,
            n_context=n_context,
            bars=config.bars,
            shuffled=config.shuffled,
        )
    elif config.architecture == "bilstm":
        model = BiLSTMClassifier(
            sizes,
            n_features,
            n_classes,
            dropout=config.dropout,
            head_dropout=head_dropout,
            n_context=n_context,
            bars=config.bars,
            shuffled=config.shuffled,
        )
    elif config.architecture == "no_sequence":
        model = NoSequence(sizes, n_features, n_classes, dropout=head_dropout, n_context=n_context)
    elif config.architecture == "tabm":
        model = TabM(sizes.head[0], n_features, n_classes, dropout=head_dropout, n_context=n_context)
    else:
        raise ConfigError(
            f"architecture {config.architecture!r} is unknown; use mamba_attention, bilstm, no_sequence or tabm"
        )
    model.config = config  # type: ignore[assignment]
    model.n_features, model.n_classes, model.seq_len = n_features, n_classes, seq_len  # type: ignore[assignment]
    model.n_context = n_context  # type: ignore[assignment]
    return model


def count_parameters(model: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def check_mask(mask: Tensor | np.ndarray) -> None:
    """`BadInputError` unless every row of mask (batch, length) has a valid bar and its padding in front."""
    valid = torch.as_tensor(mask)
    if valid.dtype != torch.bool or valid.dim() != 2:
        raise BadInputError(f"a mask must be bool (batch, length), not {valid.dtype} {tuple(valid.shape)}")
    empty = (~valid.any(dim=1)).nonzero().flatten()
    if len(empty):
        raise BadInputError(
            f"{len(empty)} of {len(valid)} sequences are all padding (first: row {int(empty[0])}); "
            "a sequence needs one valid bar or more: leave these snapshots out or supply their bars"
        )
    broken = (valid[:, :-1] & ~valid[:, 1:]).any(dim=1).nonzero().flatten()
    if len(broken):
        raise BadInputError(
            f"{len(broken)} of {len(valid)} sequences have padding after a valid bar (first: row {int(broken[0])}); "
            "padding belongs in front and the last bar is the snapshot"
        )
