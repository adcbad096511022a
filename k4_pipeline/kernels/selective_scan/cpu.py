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
from k4_pipeline.kernels.flat_views import FlatView, flat_view
from k4_pipeline.kernels.selective_scan.cpu_kernels import S, W, backward_rows, forward_rows
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
    """The flat views both passes read."""

    def __init__(self, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any, z: Any, dt_bias: Any) -> None:
        self.batch, self.length, self.d_inner = u.shape
        self.narrow = narrow(self.d_inner)
        self.d_state = A.shape[1] + -A.shape[1] % S
        self.views: list[FlatView] = [flat_view(tensor) for tensor in (u, dt, u if z is None else z)]
        self.views += [flat_view(_padded_states(tensor)) for tensor in (B, C)]
        self.a = packed_states(A)
        self.channels = (_per_channel(D, self.d_inner), _per_channel(dt_bias, self.d_inner))

    def sizes(self) -> tuple[int, int, int]:
        return self.length, self.d_inner, self.d_state


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Any, z: Any, dt_bias: Any, softplus: bool
    ) -> Tensor:
        operands = _Operands(u, dt, A, B, C, D, z, dt_bias)
        y = torch.empty(u.shape, dtype=torch.float32)
        flags = (operands.narrow, _grows(A, softplus), softplus, z is not None)
        inputs = [part for view in operands.views for part in view]
        a2 = operands.a * LOG2_E
        out = y.view(-1).numpy()

        def rows(start: int, stop: int) -> None:
            forward_rows(start, stop, *operands.sizes(), *flags, *inputs, a2, *operands.channels, out)

        run_chunks(rows, operands.batch, _ROWS)
        ctx.save_for_backward(u, dt, A, B, C, D, z, dt_bias)
        ctx.softplus = softplus
        return y.to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        u, _, A, _, _, D, z, dt_bias = saved
        operands = _Operands(*saved)
        flags = (operands.narrow, _grows(A, ctx.softplus), ctx.softplus, z is not None)
        inputs = [part for view in operands.views for part in view]
        a2 = operands.a * LOG2_E
        full = u.shape
        states = (*full[:2], operands.d_state)
        du, ddt, dz = (torch.empty(full, dtype=torch.float32) for _ in range(3))
        db, dc = (torch.empty(states, dtype=torch.float32) for _ in range(2))
        outputs = [tensor.view(-1).numpy() for tensor in (du, ddt, dz, db, dc)]
        upstream, unwanted = flat_view(dy), np.empty(0, np.float32)

        def rows(start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            sums = np.zeros_like(a2), np.zeros_like(operands.channels[0]), np.zeros_like(operands.channels[1])
            backward_rows(
                start, stop, *operands.sizes(), *flags, *inputs, a2, operands.a, *operands.channels, *upstream,
                *outputs, *sums, unwanted,
            )  # fmt: skip
            return sums

        parts = run_chunks(rows, operands.batch, _ROWS)
        da, dd, dbias = np.zeros_like(a2), np.zeros_like(operands.channels[0]), np.zeros_like(operands.channels[1])
        for part in parts:
            da += part[0]
            dd += part[1]
            dbias += part[2]
        n_states, d_inner = A.shape[1], operands.d_inner
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
