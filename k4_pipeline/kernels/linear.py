"""A dense layer whose float32 matrix products on the CPU run through oneDNN.

torch sends float32 products to MKL, which uses 256-bit kernels on AMD processors; oneDNN (in the same torch build) uses
all 512 bits where the processor has them. Measured on an EPYC of the Zen 5 family, one thread: 80 against 190 GFLOP/s
(docs/benchmarks/train.md). Elsewhere, and for small or half-precision products, it is `torch.nn.Linear` as it is.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Below this many rows the call overhead and the repacking of the weights outweigh the faster product.
MIN_ROWS = 1024


@functools.cache
def onednn_available() -> bool:
    """Whether this torch has oneDNN's linear operator and gets the right product from it, strided operands included."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    a = torch.arange(12.0).view(3, 4)
    b = torch.arange(20.0).view(4, 5)
    try:
        return bool(torch.equal(_product(a, b), a @ b) and torch.equal(_product(b.t(), a.t()), (a @ b).t()))
    except (RuntimeError, NotImplementedError):
        return False


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a (m, k) @ b (k, n) + bias (n,), any strides."""
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), bias, "none", [], "")


class _OneDNNLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight.t(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        dx = _product(dy, weight) if wants_x else None
        dweight = None
        if wants_weight:
            # The longer side of the result belongs in the columns, where the kernels are wide.
            wide = weight.shape[0] <= weight.shape[1]
            dweight = _product(dy.t(), x) if wide else _product(x.t(), dy).t().contiguous()
        return dx, dweight, dy.sum(0) if wants_bias and ctx.has_bias else None


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear` of x (..., k), weight (n, k) and bias (n,), faster where it can be."""
    rows = x.numel() // max(1, x.shape[-1])
    fast = (
        rows >= MIN_ROWS
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and onednn_available()
    )
    if not fast:
        return F.linear(x, weight, bias)
    y = _OneDNNLinear.apply(x.reshape(rows, x.shape[-1]), weight, bias)
    return y.view(*x.shape[:-1], weight.shape[0])


class Linear(nn.Linear):
    """`torch.nn.Linear` computed by `linear`; same parameters, same initialisation."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
