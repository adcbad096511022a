"""The Triton convolution as a PyTorch operator: buffers, autograd, and a shape function for torch.compile."""

import contextlib
import dataclasses
from typing import Any, Optional

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.causal_conv.triton_kernels import conv_backward, conv_forward
from k4_pipeline.kernels.selective_scan.dispatch import triton_interpreted
from k4_pipeline.kernels.selective_scan.triton_op import dense_rows

TAPS = 4


def fits(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels take these operands; the naive version takes the rest."""
    return weight.shape[1] <= TAPS and torch.float64 not in (x.dtype, weight.dtype)


def _on_device(tensor: Tensor) -> Any:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _taps(weight: Tensor) -> Tensor:
    """(4, channels) float32; narrower filters padded with zeros in front."""
    return F.pad(weight.detach().float(), (TAPS - weight.shape[1], 0)).t().contiguous()


def _shift(weight: Tensor, bias: Optional[Tensor]) -> Tensor:  # noqa: UP045
    return weight.new_zeros(weight.shape[0], dtype=torch.float32) if bias is None else bias.detach().float()


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Launch sizes: channels per program and thread, unrolled bars, rows of the batch per program."""

    channels: int = 256
    per_thread: int = 2
    bars: int = 5
    rows: int = 4


def _tiles(batch: int, channels: int) -> Tiles:
    # few rows per program while there are too few programs to fill a device
    return Tiles(channels=min(256, max(16, triton.next_power_of_2(channels))), rows=max(1, min(4, batch // 1024)))


def _launch(kernel: Any, tiles: Tiles, x: Tensor, *arguments: Any, **constants: Any) -> None:
    batch, length, channels = x.shape
    with _on_device(x):
        kernel[(triton.cdiv(batch, tiles.rows), triton.cdiv(channels, tiles.channels))](
            x, *arguments, batch, tiles.rows, length,
            x_bar=x.stride(1), channels=channels, BD=tiles.channels, T=tiles.bars, FULL=length % tiles.bars == 0,
            HARDWARE=not triton_interpreted(), num_warps=max(1, tiles.channels // (32 * tiles.per_thread)),
            num_stages=1, **constants,
        )  # fmt: skip


def launch_forward(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045
    first_valid: Optional[Tensor],  # noqa: UP045
    activation: bool,
) -> Tensor:
    """The result, contiguous, of x (batch, length, channels) in any layout."""
    batch, _, channels = x.shape
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if y.numel() > 0:
        taps, shift = _taps(weight), _shift(weight, bias)
        first = first_valid if first_valid is not None else taps
        _launch(
            conv_forward, _tiles(batch, channels), dense_rows(x), taps, shift, first, y,
            HAS_FIRST=first_valid is not None, ACTIVATION=activation,
        )  # fmt: skip
    return y


def launch_backward(
    dy: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045
    first_valid: Optional[Tensor],  # noqa: UP045
    activation: bool,
    dx: Tensor,
) -> tuple[Tensor, Tensor]:
    """Fills dx (rows one behind the other, channels side by side); returns float32 gradients of weight and bias."""
    batch, _, channels = x.shape
    if x.numel() == 0:
        return weight.new_zeros(weight.shape, dtype=torch.float32), weight.new_zeros(channels, dtype=torch.float32)
    tiles = _tiles(batch, channels)
    x, dy = dense_rows(x), dense_rows(dy)
    sums = torch.empty((-(-batch // tiles.rows), TAPS + 1, channels), dtype=torch.float32, device=x.device)
    taps, shift = _taps(weight), _shift(weight, bias)
    _launch(
        conv_backward, tiles, x, taps, shift, first_valid if first_valid is not None else taps, dy, dx, sums,
        dy_bar=dy.stride(1), dx_bar=dx.stride(1),
        HAS_FIRST=first_valid is not None, ACTIVATION=activation,
    )  # fmt: skip
    total = sums.sum(0)
    return total[TAPS - weight.shape[1] : TAPS].t(), total[TAPS]


@torch.library.custom_op("k4_pipeline::causal_conv_forward", mutates_args=())
def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Optional[Tensor],  # noqa: UP045  # the operator schema is read from these annotations
    first_valid: Optional[Tensor],  # noqa: UP045
    activation: bool,
) -> Tensor:
    return launch_forward(x, weight, bias, first_valid, activation)


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
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    dweight, dbias = launch_backward(dy, x, weight, bias, first_valid, activation, dx)
    kind = weight.dtype if bias is None else bias.dtype
    return dx, dweight.to(weight.dtype).contiguous(), dbias.to(kind).clone()


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
