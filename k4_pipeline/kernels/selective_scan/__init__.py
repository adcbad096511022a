"""The selective scan of Mamba behind one function; one module per backend, chosen in `dispatch`."""

from __future__ import annotations

import torch
from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.selective_scan.dispatch import (
    BACKENDS as BACKENDS,
    BackendChoice as BackendChoice,
    available_backends as available_backends,
    choose_backend as choose_backend,
    describe as describe,
)
from k4_pipeline.kernels.selective_scan.naive import selective_scan_naive as selective_scan_naive


def _check_shapes(
    u: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, dt_bias: Tensor | None
) -> None:
    if u.dim() != 3 or A.dim() != 2:
        raise BadInputError(
            f"u must be (batch, length, d_inner) and A (d_inner, d_state), not {tuple(u.shape)} and {tuple(A.shape)}"
        )
    batch, length, d_inner = u.shape
    wanted = {
        "dt": (dt, (batch, length, d_inner)),
        "z": (z, (batch, length, d_inner)),
        "A": (A, (d_inner, A.shape[1])),
        "B": (B, (batch, length, A.shape[1])),
        "C": (C, (batch, length, A.shape[1])),
        "D": (D, (d_inner,)),
        "dt_bias": (dt_bias, (d_inner,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise BadInputError(f"{name} has shape {tuple(tensor.shape)}; with u {tuple(u.shape)} it must be {shape}")


def selective_scan(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = True,
    *,
    backend: str = "auto",
) -> Tensor:
    """y = (scan(u) + D u) * silu(z); the formula, shapes and source are those of `selective_scan_naive`.

    u, dt, z: (batch, length, d_inner); A: (d_inner, d_state), negative; B, C: (batch, length, d_state); D, dt_bias:
    (d_inner,). Returns (batch, length, d_inner) in the dtype of `u`; the state is float32 (float64 for float64 inputs).
    Padding belongs in front: zero u there and the state stays zero. `backend`: "auto" or a name of `BACKENDS`.
    Raises `BadInputError` for shapes that do not fit, `ConfigError` for a backend that cannot run.
    """
    _check_shapes(u, dt, A, B, C, D, z, dt_bias)
    name = choose_backend(u.device, backend)
    if name == "triton" and backend == "auto" and u.dtype == torch.float64:
        name = "naive"  # the Triton kernels keep a float32 state; float64 asks for more
    if name == "cpu":
        from k4_pipeline.kernels.selective_scan.cpu import selective_scan_cpu

        return selective_scan_cpu(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
    if name == "triton":
        from k4_pipeline.kernels.selective_scan.triton_op import selective_scan_triton

        return selective_scan_triton(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
    if name == "mamba_ssm":
        from k4_pipeline.kernels.selective_scan.mamba_ssm_adapter import selective_scan_mamba_ssm

        return selective_scan_mamba_ssm(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
    return selective_scan_naive(u, dt, A, B, C, D, z, dt_bias, dt_softplus)
