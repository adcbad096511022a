"""The network without a sequence: the last bar and its context through the dense layers, nothing else."""

from __future__ import annotations

from torch import Tensor, nn

from k4_pipeline.errors import ConfigError
from k4_pipeline.models.beside import BesideSequence
from k4_pipeline.models.head import DenseHead
from k4_pipeline.models.presets import Sizes


class NoSequence(nn.Module):
    """Same interface as the sequence models, of which it reads the last step alone: x may have length 1."""

    def __init__(
        self, sizes: Sizes, n_features: int, n_classes: int, *, dropout: float = 0.0, n_context: int = 0
    ) -> None:
        super().__init__()
        if not n_context:
            raise ConfigError("the network without a sequence reads the context; set recipe.context=true")
        self.beside = BesideSequence(n_features, n_context)
        self.head = DenseHead(self.beside.width, sizes.head[-2:], n_classes, dropout)

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (batch, n_classes) of x (batch, length, n_features) and context (batch, n_context)."""
        return self.head(self.beside(None, x, context))
