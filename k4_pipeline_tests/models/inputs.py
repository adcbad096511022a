"""Random model inputs with padding in front, shared by the model and training tests."""

from __future__ import annotations

import torch
from torch import Tensor

from k4_pipeline.config import N_FEATURES, SEQUENCE_BARS


def random_inputs(
    n_valid: list[int], seed: int = 0, length: int = SEQUENCE_BARS, n_features: int = N_FEATURES
) -> tuple[Tensor, Tensor]:
    """x (batch, length, n_features), zero on padding, and mask (batch, length): `n_valid[i]` valid bars at the end."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(n_valid), length, n_features, generator=generator)
    mask = torch.arange(length)[None, :] >= length - torch.tensor(n_valid)[:, None]
    return x.masked_fill(~mask[..., None], 0.0), mask
