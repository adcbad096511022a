"""From a sequence of hidden states to logits: masked pooling over the valid bars, then the dense layers."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from k4_pipeline.models.layers import dropout_layer, linear_layer


class MaskedPool(nn.Module):
    """A learned mix, channel by channel, of the mean over the valid bars and of the last bar.

    The mean sees the whole consolidation; the last bar is the snapshot itself and carries the final recurrent state.
    Both start at one half. Padding is in front, so the last bar is always valid.
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.mean_share = nn.Parameter(torch.full((d_model,), 0.5))
        self.last_share = nn.Parameter(torch.full((d_model,), 0.5))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (batch, length, d_model), mask (batch, length) -> (batch, d_model)."""
        valid = mask.unsqueeze(-1)  # (batch, length, 1)
        # Not a product with the mask: 0 * inf in a padded step would be NaN.
        total = hidden.masked_fill(~valid, 0.0).sum(dim=1)
        mean = total / valid.sum(dim=1).to(total.dtype)
        return self.mean_share * mean + self.last_share * hidden[:, -1]


class DenseHead(nn.Module):
    """Dense layers with GELU and dropout, then the logits: (batch, d_in) -> (batch, n_classes)."""

    def __init__(
        self, d_in: int, widths: tuple[int, ...], n_classes: int, dropout: float = 0.0, backend: str = "auto"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise((d_in, *widths)):
            layers += [linear_layer(backend, before, after), nn.GELU(approximate="tanh")]
            layers += [dropout_layer(backend, dropout)]
        self.layers = nn.Sequential(*layers)
        self.logits = linear_layer(backend, widths[-1], n_classes)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.logits(self.layers(pooled))

    @torch.no_grad()
    def start_at(self, log_prior: Tensor) -> None:
        """Begin with these class log-probabilities (n_classes,): set as the bias of the logits."""
        self.logits.bias.copy_(log_prior)
