"""The first layer of a classifier: padding removed, features projected."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from k4_pipeline.models.layers import linear_function


class InputLayer(nn.Linear):
    """A dense layer on the features of the valid bars; its parameters are those of `torch.nn.Linear`."""

    def __init__(self, n_features: int, d_model: int, backend: str = "auto") -> None:
        super().__init__(n_features, d_model)
        self.product = linear_function(backend)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """(batch, length, d_model) of x (batch, length, n_features) and mask (batch, length) bool.

        x may be wider: columns behind the features, which a batch may have so that its rows are aligned, are not used.
        Filled, not multiplied: padding may hold NaN.
        """
        x = x.masked_fill(~mask.unsqueeze(-1), 0.0)
        extra = x.shape[-1] - self.in_features
        if extra > 0:
            return F.linear(x, F.pad(self.weight, (0, extra)), self.bias)
        return self.product(x, self.weight, self.bias)
