"""The BiLSTM fallback: the same interface and about the same number of parameters as MambaAttention."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from k4_pipeline.config import SEQUENCE_BARS
from k4_pipeline.kernels.dropout import Dropout
from k4_pipeline.models.beside import BesideSequence
from k4_pipeline.models.head import DenseHead, MaskedPool
from k4_pipeline.models.input_layer import InputLayer
from k4_pipeline.models.presets import Sizes
from k4_pipeline.models.view import seen


class BiLSTMClassifier(nn.Module):
    """linear -> bidirectional LSTM layers -> norm -> masked pooling -> dense layers -> logits.

    Padding without packing: the LSTMs have no bias of their own; the mask is an extra input channel whose weights act
    as the bias. On padding every gate input is then zero, so a zero state stays exactly zero (i * tanh(0) = 0) and the
    first valid bar meets a fresh state, in one fused call per layer.
    """

    def __init__(
        self,
        sizes: Sizes,
        n_features: int,
        n_classes: int,
        *,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        n_context: int = 0,
        bars: int = SEQUENCE_BARS,
        shuffled: bool = False,
    ) -> None:
        super().__init__()
        self.view = (bars, shuffled)
        d_model, hidden = sizes.d_model, sizes.lstm_hidden
        self.input = InputLayer(n_features, d_model)
        self.layers = nn.ModuleList(
            nn.LSTM(width + 1, hidden, batch_first=True, bidirectional=True, bias=False)
            for width in (d_model, *[2 * hidden] * (sizes.lstm_layers - 1))
        )
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(2 * hidden)
        self.pool = MaskedPool(2 * hidden)
        self.beside = BesideSequence(n_features, n_context)
        self.head = DenseHead(2 * hidden + self.beside.width, sizes.head, n_classes, head_dropout)
        self._open_forget_gates()

    @torch.no_grad()
    def _open_forget_gates(self) -> None:
        """Bias of the forget gates at 1, the others at 0 (Jozefowicz et al. 2015)."""
        for layer in self.layers:
            for name, weight in layer.named_parameters():
                if name.startswith("weight_ih"):
                    hidden = weight.shape[0] // 4  # gates in the order input, forget, cell, output
                    weight[:, -1] = 0.0
                    weight[hidden : 2 * hidden, -1] = 1.0

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (batch, n_classes) of x (batch, length, n_features), mask (batch, length) bool and the context."""
        x, mask = seen(x, mask, *self.view)
        valid = mask.unsqueeze(-1)  # (batch, length, 1)
        hidden = self.input(x, mask)
        for layer in self.layers:
            channel = valid.to(hidden.dtype)
            hidden, _ = layer(torch.cat([self.dropout(hidden) * channel, channel], dim=-1))
        return self.head(self.beside(self.pool(self.norm(hidden), mask), x, context))
