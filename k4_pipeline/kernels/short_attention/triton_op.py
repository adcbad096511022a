"""The Triton kernels of short attention, forward and backward, as one differentiable operator.

One program holds one head of one sequence: queries, keys and values of up to 64 bars. The softmax is computed as a
whole (no online rescaling), the backward recomputes it, so only the packed projection is saved. No atomics: the same
bits on every run. Formulas: Vaswani et al. 2017; backward as in Dao et al. 2022, "FlashAttention", appendix B.4, for
one block.
"""

import contextlib
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from k4_pipeline.kernels.selective_scan.dispatch import triton_interpreted

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _probabilities(q, k, rows, first, length, scale, PRECISION: tl.constexpr):
    """softmax over the valid bars, (L, L) float32; rows past the end of the sequence are finite and meaningless."""
    scores = tl.dot(q, tl.trans(k), input_precision=PRECISION) * (scale * _LOG2_E)
    valid = (rows >= first) & (rows < length)
    scores = tl.where(valid[None, :], scores, float("-inf"))
    scores = tl.exp2(scores - tl.max(scores, axis=1)[:, None])
    return scores / tl.sum(scores, axis=1)[:, None]


@triton.jit
def attention_forward(
    qkv, first_valid, out, length, heads, scale,
    W: tl.constexpr, L: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """qkv (batch, length, 3, heads, W) contiguous -> out (batch, length, heads, W)."""
    head = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    rows, columns = tl.arange(0, L), tl.arange(0, W)
    inside = (rows < length)[:, None]
    at = row * length * 3 * heads * W + rows[:, None] * (3 * heads * W) + head * W + columns[None, :]
    q = tl.load(qkv + at, mask=inside, other=0.0)
    k = tl.load(qkv + at + heads * W, mask=inside, other=0.0)
    v = tl.load(qkv + at + 2 * heads * W, mask=inside, other=0.0)
    if WIDEN:
        q, k, v = q.to(tl.float32), k.to(tl.float32), v.to(tl.float32)
    p = _probabilities(q, k, rows, tl.load(first_valid + row), length, scale, PRECISION)
    y = tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
    to = row * length * heads * W + rows[:, None] * (heads * W) + head * W + columns[None, :]
    tl.store(out + to, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def attention_backward(
    qkv, first_valid, dout, dqkv, length, heads, scale,
    W: tl.constexpr, L: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Gradient of qkv, in its layout, from dout (batch, length, heads, W) contiguous."""
    head = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    rows, columns = tl.arange(0, L), tl.arange(0, W)
    inside = (rows < length)[:, None]
    at = row * length * 3 * heads * W + rows[:, None] * (3 * heads * W) + head * W + columns[None, :]
    q = tl.load(qkv + at, mask=inside, other=0.0)
    k = tl.load(qkv + at + heads * W, mask=inside, other=0.0)
    v = tl.load(qkv + at + 2 * heads * W, mask=inside, other=0.0)
    to = row * length * heads * W + rows[:, None] * (heads * W) + head * W + columns[None, :]
    dy = tl.load(dout + to, mask=inside, other=0.0)
    if WIDEN:
        q, k, v, dy = q.to(tl.float32), k.to(tl.float32), v.to(tl.float32), dy.to(tl.float32)
    p = _probabilities(q, k, rows, tl.load(first_valid + row), length, scale, PRECISION)
    dv = tl.dot(tl.trans(p.to(v.dtype)), dy, input_precision=PRECISION)
    dp = tl.dot(dy, tl.trans(v), input_precision=PRECISION)
    ds = p * (dp - tl.sum(p * dp, axis=1)[:, None]) * scale
    ds = ds.to(q.dtype)
    dq = tl.dot(ds, k, input_precision=PRECISION)
    dk = tl.dot(tl.trans(ds), q, input_precision=PRECISION)
    kind = dqkv.dtype.element_ty
    tl.store(dqkv + at, dq.to(kind), mask=inside)
    tl.store(dqkv + at + heads * W, dk.to(kind), mask=inside)
    tl.store(dqkv + at + 2 * heads * W, dv.to(kind), mask=inside)


def _on_device(tensor: Tensor) -> Any:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _launch(kernel: Any, qkv: Tensor, first_valid: Tensor, *tensors: Tensor) -> None:
    batch, length, _, heads, width = qkv.shape
    if batch == 0:
        return
    size = max(16, triton.next_power_of_2(length))
    with _on_device(qkv):
        # batch is the second grid axis only up to 65535; the first has no such limit, but heads belong side by side
        for start in range(0, batch, 65535):
            stop = min(start + 65535, batch)
            parts = [tensor[start:stop] for tensor in (qkv, first_valid, *tensors)]
            kernel[(heads, stop - start)](
                *parts, length, heads, width**-0.5,
                W=width, L=size, PRECISION="ieee", num_warps=4, num_stages=1,
                WIDEN=triton_interpreted(),  # its products of bfloat16 are wrong
            )  # fmt: skip


@torch.library.custom_op("k4_pipeline::short_attention_forward", mutates_args=())
def _forward(qkv: Tensor, first_valid: Tensor) -> Tensor:
    qkv = qkv.contiguous()
    batch, length, _, heads, width = qkv.shape
    out = torch.empty((batch, length, heads * width), dtype=qkv.dtype, device=qkv.device)
    _launch(attention_forward, qkv, first_valid.contiguous(), out)
    return out


@_forward.register_fake
def _(qkv, first_valid):  # type: ignore[no-untyped-def]
    batch, length, _, heads, width = qkv.shape
    return torch.empty((batch, length, heads * width), dtype=qkv.dtype, device=qkv.device)


@torch.library.custom_op("k4_pipeline::short_attention_backward", mutates_args=())
def _backward(qkv: Tensor, first_valid: Tensor, dout: Tensor) -> Tensor:
    qkv = qkv.contiguous()
    gradient = torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)
    _launch(attention_backward, qkv, first_valid.contiguous(), dout.contiguous(), gradient)
    return gradient


@_backward.register_fake
def _(qkv, first_valid, dout):  # type: ignore[no-untyped-def]
    return torch.empty(qkv.shape, dtype=qkv.dtype, device=qkv.device)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, dout: Tensor) -> tuple[Any, ...]:
    qkv, first_valid = ctx.saved_tensors
    return _backward(qkv, first_valid, dout), None


_forward.register_autograd(_differentiate, setup_context=_keep)


def short_attention_triton(qkv: Tensor, first_valid: Tensor) -> Tensor:
    """`short_attention_naive` on CUDA (or in Triton's interpreter), float32 or bfloat16."""
    return _forward(qkv, first_valid)
