"""The Triton convolution as a PyTorch operator: buffers, autograd, and a shape function for torch.compile."""

import contextlib
from typing import Any, Optional

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.causal_conv.triton_kernels import conv_backward, conv_forward
from k4_pipeline.kernels.selective_scan.dispatch import triton_interpreted

TAPS = 4


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels take these operands; the naive version takes the rest."""
    return weight.shape[1] <= TAPS and torch.float64 not in (x.dtype, weight.dtype)


def _on_device(tensor: Tensor) -> Any:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _unit_channels(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(2) == 1 or tensor.shape[2] == 1 else tensor.contiguous()


def _taps(weight: Tensor) -> Tensor:
    """(4, channels) float32; narrower filters padded with zeros in front."""
    return F.pad(weight.detach().float(), (TAPS - weight.shape[1], 0)).t().contiguous()


def _shift(weight: Tensor, bias: Optional[Tensor]) -> Tensor:  # noqa: UP045
    return weight.new_zeros(weight.shape[0], dtype=torch.float32) if bias is None else bias.detach().float()


def _tile(length: int, channels: int) -> tuple[int, int]:
    return min(64, triton.next_power_of_2(length)), min(64, triton.next_power_of_2(channels))


def _warps(bars: int, channels: int) -> int:
    # Eight warps have fewer registers each to spill, yet measured 1.8 instead of 1.1 ms (docs/benchmarks/train.md).
    return max(1, min(4, bars * channels // 512))


@torch.library.custom_op("k4_pipeline::causal_conv_forward", mutates_args=())
def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045  # the operator schema is read from these annotations
    first_valid: Optional[Tensor],  # noqa: UP045
    activation: bool,
) -> Tensor:
    batch, length, channels = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if y.numel() == 0:
        return y
    x = _unit_channels(x)
    bt, bd = _tile(length, channels)
    taps, shift = _taps(weight), _shift(weight, bias)
    with _on_device(x):
        conv_forward[(batch, triton.cdiv(channels, bd), triton.cdiv(length, bt))](
            x, taps, shift, first_valid if first_valid is not None else taps, y, length, x.stride(0),
            x_bar=x.stride(1), channels=channels, BT=bt, BD=bd,
            HAS_FIRST=first_valid is not None, ACTIVATION=activation,
            HARDWARE=not triton_interpreted(), num_warps=_warps(bt, bd),
        )  # fmt: skip
    return y


@_forward.register_fake
def _(x, weight, bias, first_valid, activation):  # type: ignore[no-untyped-def]
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


@torch.library.custom_op("k4_pipeline::causal_conv_backward", mutates_args=())
def _backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045
    first_valid: Optional[Tensor],  # noqa: UP045
    activation: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, channels = x.shape
    bt, bd = _tile(max(length, 1), channels)
    blocks = triton.cdiv(length, bt)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    sums = torch.empty((blocks * batch, TAPS + 1, channels), dtype=torch.float32, device=x.device)
    if dx.numel() > 0:
        x, dy = _unit_channels(x), _unit_channels(dy)
        taps, shift = _taps(weight), _shift(weight, bias)
        with _on_device(x):
            conv_backward[(batch, triton.cdiv(channels, bd), blocks)](
                x, taps, shift, first_valid if first_valid is not None else taps, dy, dx, sums,
                length, x.stride(0), dy.stride(0), x_bar=x.stride(1), dy_bar=dy.stride(1), channels=channels,
                BT=bt, BD=bd, HAS_FIRST=first_valid is not None, ACTIVATION=activation,
            HARDWARE=not triton_interpreted(), num_warps=_warps(bt, bd),
            )  # fmt: skip
    total = sums.sum(0)
    dweight = total[TAPS - weight.shape[1] : TAPS].t().to(weight.dtype).contiguous()
    return dx, dweight, total[TAPS].to(weight.dtype if bias is None else bias.dtype)


@_backward.register_fake
def _(dy, x, weight, bias, first_valid, activation):  # type: ignore[no-untyped-def]
    return (
        torch.empty(x.shape, dtype=x.dtype, device=x.device),
        torch.empty(weight.shape, dtype=weight.dtype, device=x.device),
        torch.empty(weight.shape[:1], dtype=weight.dtype if bias is None else bias.dtype, device=x.device),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, activation = inputs
    ctx.save_for_backward(*tensors)
    ctx.activation = activation


def _differentiate(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, weight, bias, first_valid = ctx.saved_tensors
    dx, dweight, dbias = _backward(dy, x, weight, bias, first_valid, ctx.activation)
    return dx, dweight, dbias if bias is not None else None, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def causal_conv_triton(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor] = None,  # noqa: UP045
    first_valid: Optional[Tensor] = None,  # noqa: UP045
    activation: bool = True,
) -> Tensor:
    """`causal_conv_naive` on CUDA (or in Triton's interpreter): bf16 or fp32 in, float32 sums; at most four taps."""
    if not fits(x, weight):
        raise BadInputError(f"the Triton convolution takes up to {TAPS} taps and no float64; use backend naive")
    return _forward(x, weight, bias, first_valid, activation)
