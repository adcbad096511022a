"""Multi-head self-attention over the bars of a sequence that never looks at padding."""

from __future__ import annotations

from torch import Tensor, nn

from k4_pipeline.errors import ConfigError
from k4_pipeline.kernels import cpu_blocks
from k4_pipeline.kernels.short_attention import short_attention
from k4_pipeline.models.layers import dropout_layer, linear_layer


class MaskedSelfAttention(nn.Module):
    """x + attention(norm(x)), 8 heads in all presets (Vaswani et al. 2017; pre-norm as Xiong et al. 2020).

    No positional encoding: the Mamba blocks before it are recurrent and give every bar its place.
    """

    def __init__(self, d_model: int, n_heads: int = 8, dropout: float = 0.0, backend: str = "auto") -> None:
        super().__init__()
        if d_model % n_heads:
            raise ConfigError(f"d_model {d_model} is not a multiple of the {n_heads} attention heads")
        self.n_heads, self.backend = n_heads, backend
        self.norm = nn.LayerNorm(d_model)
        self.qkv = linear_layer(backend, d_model, 3 * d_model)
        self.out_proj = linear_layer(backend, d_model, d_model)
        self.dropout = dropout_layer(backend, dropout)
        self._fits = cpu_blocks.attention_fits(d_model, n_heads)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out_proj.bias)

    def _on_cpu(self, hidden: Tensor, first_valid: Tensor) -> Tensor:
        from k4_pipeline.kernels.cpu_blocks.attention import attention_block_cpu

        parameters = [self.norm.weight, self.norm.bias, self.qkv.weight, self.qkv.bias]
        parameters += [self.out_proj.weight, self.out_proj.bias]
        rate = cpu_blocks.rate(self.dropout)
        return attention_block_cpu(hidden, first_valid, self.n_heads, rate, self.norm.eps, *parameters)

    def forward(self, hidden: Tensor, first_valid: Tensor) -> Tensor:
        """hidden (batch, length, d_model), first_valid (batch,): the index of each row's first valid bar.

        Padding is masked as key and value. As query it still attends to the valid bars, so no row of the softmax is
        empty and nothing is NaN; its result is finite and is left out by the pooling.
        """
        if self._fits and cpu_blocks.takes(hidden, self.backend, self):
            return self._on_cpu(hidden, first_valid)
        batch, length, d_model = hidden.shape
        qkv = self.qkv(self.norm(hidden)).view(batch, length, 3, self.n_heads, d_model // self.n_heads)
        out = short_attention(qkv, first_valid, backend=self.backend)  # (batch, length, d_model)
        return hidden + self.dropout(self.out_proj(out))
