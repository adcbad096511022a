"""The `mamba_ssm` backend: the installed package behind this package's layout.

mamba-ssm keeps (batch, channels, length) and (batch, d_state, length); the transposes below are views, which its
function copies where it has to. It is imported on first use only, needs a CUDA device, and takes A, D and the bias in
float32.
"""

from __future__ import annotations

from torch import Tensor

from k4_pipeline.errors import BadInputError


def to_native(u: Tensor, dt: Tensor, B: Tensor, C: Tensor, z: Tensor | None) -> dict[str, Tensor | None]:
    """The sequence operands in mamba-ssm's layout and names, contiguous, in the dtype of `u`."""

    def turned(tensor: Tensor) -> Tensor:
        return tensor.to(u.dtype).transpose(1, 2).contiguous()

    return {
        "u": turned(u),
        "delta": turned(dt),
        "B": turned(B),
        "C": turned(C),
        "z": None if z is None else turned(z),
    }


def native_scan(**operands: Tensor | None) -> Tensor:
    """mamba-ssm's `selective_scan_fn` on operands of `to_native` and A, D, delta_bias; (batch, channels, length)."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn(**{"delta_softplus": True, **operands})


def selective_scan_mamba_ssm(
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
    """The scan of `selective_scan_naive` computed by mamba-ssm's `selective_scan_fn`."""
    if u.shape[1] == 0:
        raise BadInputError("mamba-ssm does not scan rows without bars; use backend naive")
    y = native_scan(
        **to_native(u, dt, B, C, z),
        A=A.float(),
        D=None if D is None else D.float(),
        delta_bias=None if dt_bias is None else dt_bias.float(),
        delta_softplus=dt_softplus,  # type: ignore[arg-type]
    )
    return y.transpose(1, 2).contiguous()
