"""The `cpu` backend: the numba kernels as a differentiable PyTorch function.

Rows are independent and every sum over rows runs in a fixed order (chunks of a fixed number of rows, then the chunks
in order), so results do not depend on the number of threads, and the output of a row not on the rest of its batch.
float64 inputs go to the naive scan: exactness is what they ask for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from k4_pipeline._numba import run_chunks
from k4_pipeline.kernels.flat_views import flat_view
from k4_pipeline.kernels.selective_scan.cpu_kernels import (
    Gradients,
    Inputs,
    Mode,
    S,
    Sizes,
    Sums,
    W,
    Weights,
    backward_rows,
    forward_rows,
)
from k4_pipeline.kernels.selective_scan.naive import selective_scan_naive
from k4_pipeline.simd.simd_f32 import narrow
from k4_pipeline.simd.simd_math import LOG2_E

_ROWS = 8  # rows per chunk


def _padded_states(tensor: Tensor) -> Tensor:
    """B or C with d_state rounded up to the number of states the kernels take at a time."""
    missing = -tensor.shape[-1] % S
    return F.pad(tensor, (0, missing)) if missing else tensor


def packed_states(A: Tensor) -> np.ndarray:
    """A (d_inner, d_state) as (groups, d_state, 16), flat, padded with zeros."""
    padded = F.pad(A.detach().float(), (0, -A.shape[1] % S, 0, -A.shape[0] % W))
    return padded.view(-1, W, padded.shape[1]).transpose(1, 2).contiguous().flatten().numpy()


def _grows(A: Tensor, softplus: bool) -> bool | None:
    """None where no factor exp(delta A) can exceed one: delta is positive, A is not."""
    return None if softplus and not bool((A > 0).any()) else True


def unpacked_states(packed: np.ndarray, d_inner: int, d_state: int) -> Tensor:
    """The inverse of `packed_states`."""
    groups = -(-d_inner // W)
    padded = torch.from_numpy(packed).view(groups, -1, W).transpose(1, 2).reshape(groups * W, -1)
    return padded[:d_inner, :d_state].contiguous()


def _per_channel(tensor: Tensor | None, d_inner: int) -> np.ndarray:
    values = np.zeros(-(-d_inner // W) * W, np.float32)
    if tensor is not None:
        values[:d_inner] = tensor.detach().float().numpy()
    return values


class _Operands:
    """What both passes read."""

    def __init__(
        self, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any, z: Any, dt_bias: Any, *, softplus: bool
    ) -> None:
        self.batch, length, d_inner = u.shape
        self.sizes = Sizes(length, d_inner, A.shape[1] + -A.shape[1] % S)
        self.mode = Mode(narrow(d_inner), _grows(A, softplus), softplus, z is not None)
        views = [flat_view(tensor) for tensor in (u, dt, u if z is None else z)]
        self.inputs = Inputs(*views, *(flat_view(_padded_states(tensor)) for tensor in (B, C)))
        self.a = packed_states(A)
        self.weights = Weights(self.a * LOG2_E, _per_channel(D, d_inner), _per_channel(dt_bias, d_inner))


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any, z: Any, dt_bias: Any, softplus: bool
    ) -> Tensor:
        given = _Operands(u, dt, A, B, C, D, z, dt_bias, softplus=softplus)
        y = torch.empty(u.shape, dtype=torch.float32)
        out = y.view(-1).numpy()
        operands = (given.sizes, given.mode, given.inputs, given.weights)
        run_chunks(lambda start, stop: forward_rows(start, stop, *operands, out), given.batch, _ROWS)
        ctx.save_for_backward(u, dt, A, B, C, D, z, dt_bias)
        ctx.softplus = softplus
        return y.to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        u, _, A, _, _, D, z, dt_bias = saved
        given = _Operands(*saved, softplus=ctx.softplus)
        full, weights = u.shape, given.weights
        states = (*full[:2], given.sizes.d_state)
        du, ddt, dz = (torch.empty(full, dtype=torch.float32) for _ in range(3))
        db, dc = (torch.empty(states, dtype=torch.float32) for _ in range(2))
        outputs = Gradients(*(tensor.view(-1).numpy() for tensor in (du, ddt, dz, db, dc)))
        operands = (given.sizes, given.mode, given.inputs, weights, given.a, flat_view(dy), outputs)
        unwanted = np.empty(0, np.float32)

        def rows(start: int, stop: int) -> Sums:
            sums = Sums(*map(np.zeros_like, weights))
            backward_rows(start, stop, *operands, sums, unwanted)
            return sums

        parts = run_chunks(rows, given.batch, _ROWS)
        da, dd, dbias = map(np.zeros_like, weights)
        for part in parts:
            da += part.a
            dd += part.d
            dbias += part.bias
        n_states, d_inner = A.shape[1], given.sizes.d_inner
        gradients: list[Tensor | None] = [du, ddt, unpacked_states(da, d_inner, n_states)]
        gradients += [db[..., :n_states], dc[..., :n_states]]
        gradients += [
            torch.from_numpy(dd[:d_inner]) if D is not None else None,
            dz if z is not None else None,
            torch.from_numpy(dbias[:d_inner]) if dt_bias is not None else None,
        ]
        typed = [g.to(x.dtype) if g is not None else None for g, x in zip(gradients, saved)]
        return (*typed, None)


def selective_scan_cpu(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = True,
) -> Tensor:
    """The scan of `selective_scan_naive` on CPU tensors; bf16 and fp32 inputs, float32 inside."""
    tensors = (u, dt, A, B, C, D, z, dt_bias)
    if any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors):
        return selective_scan_naive(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
    return _SelectiveScan.apply(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
