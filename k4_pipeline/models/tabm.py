"""TabM on the last bar and its context: several thin members that share their matrices.

Gorishniy et al. 2024, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling" (arXiv:2410.24210):
each of k members scales the inputs and outputs of shared layers by vectors of its own (BatchEnsemble) and has its own
output layer. Trained on the mean of the members' losses, read as the mean of their probabilities.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from k4_pipeline.errors import ConfigError
from k4_pipeline.kernels.dropout import Dropout
from k4_pipeline.kernels.linear import Linear
from k4_pipeline.models.beside import BesideSequence

N_MEMBERS = 16


class TabMHead(nn.Module):
    """(batch, d_in) -> (batch, k, n_classes): two hidden layers of `width`, ReLU, dropout."""

    def __init__(self, d_in: int, width: int, n_classes: int, dropout: float, k: int = N_MEMBERS) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.randn(k, d_in).sign())
        self.first, self.second = Linear(d_in, width), Linear(width, width)
        self.first_out, self.second_in, self.second_out = (nn.Parameter(torch.ones(k, width)) for _ in range(3))
        self.first_bias, self.second_bias = (nn.Parameter(torch.zeros(k, width)) for _ in range(2))
        self.out = nn.Parameter(torch.randn(k, width, n_classes) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(k, n_classes))
        self.dropout = Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.first(z.unsqueeze(1) * self.sign) * self.first_out + self.first_bias  # (batch, k, width)
        hidden = self.dropout(F.relu(hidden))
        hidden = self.second(hidden * self.second_in) * self.second_out + self.second_bias
        hidden = self.dropout(F.relu(hidden))
        if not self.training:
            # A batched product rounds by where a row stands in the batch; a score must not.
            return (hidden.unsqueeze(-1) * self.out.to(hidden.dtype)).sum(dim=2) + self.bias
        return torch.einsum("bkw,kwc->bkc", hidden, self.out.to(hidden.dtype)) + self.bias

    @torch.no_grad()
    def start_at(self, log_prior: Tensor) -> None:
        """Begin with these class log-probabilities (n_classes,)."""
        self.bias.copy_(log_prior.expand_as(self.bias))


class TabM(nn.Module):
    """Same interface as the sequence models, of which it reads the last step alone: x may have length 1.

    In training mode the logits of every member come out, (batch, k, n_classes); else the logarithm of their mean
    probability, (batch, n_classes).
    """

    def __init__(
        self, width: int, n_features: int, n_classes: int, *, dropout: float = 0.0, n_context: int = 0
    ) -> None:
        super().__init__()
        if not n_context:
            raise ConfigError("TabM reads the context; set recipe.context=true")
        self.beside = BesideSequence(n_features, n_context)
        self.head = TabMHead(self.beside.width, width, n_classes, dropout)

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        logits = self.head(self.beside(None, x, context))
        if self.training:
            return logits
        return torch.log(torch.softmax(logits.float(), dim=-1).mean(dim=1).clamp(min=1e-12))
