"""Multi-head self-attention over the bars of a sequence that never looks at padding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from k4_pipeline.errors import ConfigError
from k4_pipeline.kernels.dropout import Dropout
from k4_pipeline.kernels.linear import Linear


class MaskedSelfAttention(nn.Module):
    """x + attention(norm(x)), 8 heads in all presets (Vaswani et al. 2017; pre-norm as Xiong et al. 2020).

    No positional encoding: the Mamba blocks before it are recurrent and give every bar its place.
    """

    def __init__(self, d_model: int, n_heads: int = 8, dropout: float = 0.0) -> None:
        super().__init__()
        if d_model % n_heads:
            raise ConfigError(f"d_model {d_model} is not a multiple of the {n_heads} attention heads")
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(d_model)
        self.qkv = Linear(d_model, 3 * d_model)
        self.out_proj = Linear(d_model, d_model)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """hidden (batch, length, d_model), mask (batch, length) bool with one valid bar or more per row.

        Padding is masked as key and value. As query it still attends to the valid bars, so no row of the softmax is
        empty and nothing is NaN; its result is finite and is left out by the pooling.
        """
        batch, length, d_model = hidden.shape
        qkv = self.qkv(self.norm(hidden)).view(batch, length, 3, self.n_heads, d_model // self.n_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, length, head width) each
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        out = out.transpose(1, 2).reshape(batch, length, d_model)
        return hidden + self.dropout(self.out_proj(out))
