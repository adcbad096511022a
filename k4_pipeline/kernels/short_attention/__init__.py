"""Self-attention over short sequences with padding in front, from the packed projection to the packed result.

`torch.nn.functional.scaled_dot_product_attention` with a mask is the reference and runs everywhere. On CUDA a Triton
kernel keeps one head of one sequence in registers, reads the packed projection as it lies (no transposes) and
recomputes the probabilities in the backward, so that nothing of size length x length is ever stored. The CPU kernel
does the same with one head in the first-level cache.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.selective_scan.dispatch import choose_backend

__all__ = ["MAX_LENGTH", "short_attention", "short_attention_naive"]

MAX_LENGTH = 64


def short_attention_naive(qkv: Tensor, first_valid: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(width)) v over the bars from `first_valid` on; (batch, length, heads * width).

    qkv: (batch, length, 3, heads, width); first_valid: (batch,) integers below `length`. Bars before it are masked as
    keys and values; as queries they attend to the valid ones like any other, and their result is to be ignored.
    """
    batch, length, _, heads, width = qkv.shape
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (batch, heads, length, width) each
    mask = torch.arange(length, device=qkv.device) >= first_valid[:, None]  # (batch, length)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
    return out.transpose(1, 2).reshape(batch, length, heads * width)


def short_attention(qkv: Tensor, first_valid: Tensor, *, backend: str = "auto") -> Tensor:
    """`short_attention_naive` by the fastest way there is; `backend` as in `selective_scan`.

    The Triton kernel takes up to 64 bars, widths 16, 32, 64 and 128, float32 and bfloat16; the CPU kernel any number of
    bars, widths that are multiples of 16, float32. Other shapes use the reference.
    """
    if qkv.dim() != 5 or qkv.shape[2] != 3 or tuple(first_valid.shape) != (qkv.shape[0],):
        raise BadInputError(
            f"qkv must be (batch, length, 3, heads, width) and first_valid (batch,), not {tuple(qkv.shape)} and "
            f"{tuple(first_valid.shape)}"
        )
    name = choose_backend(qkv.device, "auto" if backend == "mamba_ssm" else backend)
    fits = (
        0 < qkv.shape[1] <= MAX_LENGTH
        and qkv.shape[4] in (16, 32, 64, 128)
        and qkv.dtype in (torch.float32, torch.bfloat16)
    )
    if name == "cpu" and qkv.numel() and not torch.compiler.is_compiling():
        from k4_pipeline.kernels.short_attention.cpu import fits as fits_cpu, short_attention_cpu

        if fits_cpu(qkv):
            return short_attention_cpu(qkv, first_valid)
    if name == "triton" and fits:
        from k4_pipeline.kernels.short_attention.triton_op import short_attention_triton

        return short_attention_triton(qkv, first_valid)
    return short_attention_naive(qkv, first_valid)
