"""What meets the pooled sequence before the dense layers: the last bar as it is, and its context, standardised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from k4_pipeline.errors import BadInputError

if TYPE_CHECKING:
    from k4_pipeline.models.tabular import Standardiser

_BOUND = 5.0  # standard deviations


class BesideSequence(nn.Module):
    """(pooled, last bar, context) side by side; the standardisation of the context is part of the weights.

    Without context features (`n_context` 0) it passes the pooled sequence on.
    """

    lower: Tensor
    upper: Tensor
    center: Tensor
    inverse_scale: Tensor

    def __init__(self, n_features: int, n_context: int) -> None:
        super().__init__()
        self.n_features, self.n_context = n_features, n_context
        self.width = n_features + n_context if n_context else 0
        if n_context:
            self.register_buffer("lower", torch.full((n_context,), -torch.inf))
            self.register_buffer("upper", torch.full((n_context,), torch.inf))
            self.register_buffer("center", torch.zeros(n_context))
            self.register_buffer("inverse_scale", torch.ones(n_context))

    @torch.no_grad()
    def fit(self, fitted: Standardiser) -> None:
        """Take over a standardisation fitted on train rows."""
        self.lower.copy_(torch.from_numpy(fitted.lower))
        self.upper.copy_(torch.from_numpy(fitted.upper))
        self.center.copy_(torch.from_numpy(fitted.center))
        self.inverse_scale.copy_(1.0 / torch.from_numpy(fitted.scale))

    def forward(self, pooled: Tensor | None, x: Tensor, context: Tensor | None) -> Tensor:
        """pooled (batch, d) or None, x (batch, length, n_features), context (batch, n_context), NaN: not available."""
        if not self.n_context:
            assert pooled is not None
            return pooled
        if context is None:
            raise BadInputError("this model was trained with context features; pass the context of the last bar")
        z = (torch.clamp(context, self.lower, self.upper) - self.center) * self.inverse_scale
        z = torch.nan_to_num(z.clamp(-_BOUND, _BOUND), nan=0.0)
        last = x[:, -1, : self.n_features]
        parts = [last.to(z.dtype), z] if pooled is None else [pooled, last.to(pooled.dtype), z.to(pooled.dtype)]
        return torch.cat(parts, dim=-1)
