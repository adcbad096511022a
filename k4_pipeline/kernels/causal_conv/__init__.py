"""The short causal depthwise convolution of a Mamba block, fused with bias, silu and padding, behind one function."""

from __future__ import annotations

from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.causal_conv.naive import causal_conv_naive
from k4_pipeline.kernels.selective_scan.dispatch import choose_backend

__all__ = ["causal_conv", "causal_conv_naive"]


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    first_valid: Tensor | None = None,
    activation: bool = True,
    backend: str = "auto",
) -> Tensor:
    """y_t = silu(bias + sum_k weight[:, k] x_{t - width + 1 + k}); formula and source: `causal_conv_naive`.

    x: (batch, length, channels), channels side by side (half of a chunked projection needs no copy); weight:
    (channels, width), at most 4 wide for the fast backends (`conv1d.weight.squeeze(1)` of a Mamba block); bias:
    (channels,). first_valid: (batch,) integers, the first bar that is not padding: x counts as 0 before it and y is 0
    there, so the scan's state stays 0 until then. `backend` as in `selective_scan` ("mamba_ssm" means triton here).
    """
    if x.dim() != 3 or weight.dim() != 2 or weight.shape[0] != x.shape[2]:
        raise BadInputError(
            f"x must be (batch, length, channels) and weight (channels, width), not {tuple(x.shape)} and "
            f"{tuple(weight.shape)}"
        )
    if first_valid is not None and tuple(first_valid.shape) != (x.shape[0],):
        raise BadInputError(f"first_valid must be ({x.shape[0]},), not {tuple(first_valid.shape)}")
    name = choose_backend(x.device, "auto" if backend == "mamba_ssm" else backend)
    if name == "cpu":
        from k4_pipeline.kernels.causal_conv.cpu import causal_conv_cpu

        return causal_conv_cpu(x, weight, bias, first_valid, activation)
    if name == "triton":
        from k4_pipeline.kernels.causal_conv.triton_op import causal_conv_triton, fits

        if fits(x, weight):
            return causal_conv_triton(x, weight, bias, first_valid, activation)
    return causal_conv_naive(x, weight, bias, first_valid, activation)
