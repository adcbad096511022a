"""MambaAttention: linear -> Mamba blocks -> masked attention -> norm -> masked pooling -> dense layers -> logits."""

from __future__ import annotations

from torch import Tensor, nn

from k4_pipeline.config import SEQUENCE_BARS
from k4_pipeline.kernels import cpu_blocks
from k4_pipeline.models.attention import MaskedSelfAttention
from k4_pipeline.models.beside import BesideSequence
from k4_pipeline.models.head import DenseHead, MaskedPool
from k4_pipeline.models.input_layer import InputLayer
from k4_pipeline.models.mamba import MambaBlock, MambaMixer, rescale_residual_projections
from k4_pipeline.models.presets import Sizes
from k4_pipeline.models.view import seen


class MambaAttention(nn.Module):
    """The classifier of DESIGN.md. Padded steps influence no bit of the result, whatever they hold."""

    def __init__(
        self,
        sizes: Sizes,
        n_features: int,
        n_classes: int,
        *,
        dropout: float = 0.0,
        head_dropout: float = 0.0,
        backend: str = "auto",
        n_context: int = 0,
        bars: int = SEQUENCE_BARS,
        shuffled: bool = False,
    ) -> None:
        super().__init__()
        d_model = sizes.d_model
        self.view = (bars, shuffled)
        self.backend = backend
        self.input = InputLayer(n_features, d_model, backend)
        self.blocks = nn.ModuleList(
            MambaBlock(MambaMixer(d_model, sizes.d_state, sizes.d_conv, sizes.expand, backend=backend), dropout)
            for _ in range(sizes.n_mamba_blocks)
        )
        self.attention = MaskedSelfAttention(d_model, sizes.n_attention_heads, dropout, backend)
        self.norm = nn.LayerNorm(d_model)
        self.pool = MaskedPool(d_model)
        self.beside = BesideSequence(n_features, n_context)
        self.head = DenseHead(d_model + self.beside.width, sizes.head, n_classes, head_dropout, backend)
        rescale_residual_projections(self.blocks)

    def _pooled_on_cpu(self, x: Tensor, first_valid: Tensor) -> Tensor:
        from k4_pipeline.kernels.cpu_blocks.input_and_pooling import masked_input_cpu, pooled_norm_cpu

        hidden = masked_input_cpu(x, first_valid, self.input.weight, self.input.bias)
        for block in self.blocks:
            hidden = block(hidden, first_valid)
        hidden = self.attention(hidden, first_valid)
        parameters = (self.norm.weight, self.norm.bias, self.pool.mean_share, self.pool.last_share)
        return pooled_norm_cpu(hidden, first_valid, self.norm.eps, *parameters)

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (batch, n_classes) of x (batch, length, n_features) and mask (batch, length) bool, padding in front;
        context (batch, n_context) float32, NaN where not available.

        Every row needs one valid bar or more; `check_mask` says so in words and is called by what feeds the model.
        """
        x, mask = seen(x, mask, *self.view)
        first_valid = mask.shape[1] - mask.sum(dim=1)  # (batch,)
        plain = x.shape[1] > 0 and x.shape[-1] == self.input.in_features
        if plain and cpu_blocks.takes(x, self.backend, self):
            return self.head(self.beside(self._pooled_on_cpu(x, first_valid), x, context))
        # From here on padding is finite, whatever it held, and each layer leaves it out.
        hidden = self.input(x, mask)  # (batch, length, d_model)
        for block in self.blocks:
            hidden = block(hidden, first_valid)
        hidden = self.norm(self.attention(hidden, first_valid))
        return self.head(self.beside(self.pool(hidden, mask), x, context))
