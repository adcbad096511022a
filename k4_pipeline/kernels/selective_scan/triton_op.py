"""The Triton scan as a PyTorch operator: launch sizes, buffers, autograd, and a shape function for torch.compile.

Both passes are custom operators, opaque to torch.compile and safe to capture in a CUDA graph: no synchronisation, no
atomics, the same bits on every run.
"""

import contextlib
import dataclasses
from typing import Any, Optional

import torch
import triton
from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.selective_scan.dispatch import triton_interpreted
from k4_pipeline.kernels.selective_scan.triton_backward import scan_backward
from k4_pipeline.kernels.selective_scan.triton_forward import scan_forward

_LOG2_E = 1.4426950408889634
MAX_STATE = 64


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Launch sizes. Channels per program are powers of two; `*_channels_per_thread` is 1 or 2."""

    forward_channels: int = 128
    forward_channels_per_thread: int = 1
    backward_channels: int = 128
    backward_channels_per_thread: int = 1
    bars: int = 5  # of one chunk: states kept in registers by the backward, distance of the saved states
    bars_without_saving: int = 10  # unrolled by the forward when nothing is saved
    rows: int = 4  # of the batch per backward program
    keep_decays: bool = False
    saved_in_bf16: bool = False  # the states kept for the backward, not the running state
    backward_registers: int = 0  # limit per thread, 0 for none: fewer registers, more warps at a time
    narrow_to_float32: bool = False  # convert B and C once before instead of once per thread in the kernel


_forced: list[Tiles] = []


@contextlib.contextmanager
def forced_tiles(tiles: Tiles) -> Any:
    """Use `tiles` inside the block, for tuning and tests."""
    _forced.append(tiles)
    try:
        yield
    finally:
        _forced.pop()


def choose_tiles(d_inner: int, d_state: int, batch: int) -> Tiles:
    """Sizes for a shape: few enough chunk states that a thread's share stays in its registers."""
    if _forced:
        return _forced[-1]
    channels = max(16, triton.next_power_of_2(d_inner))
    bars = {1: 10, 2: 10, 4: 10, 8: 8, 16: 5, 32: 2}.get(d_state, 1)
    return Tiles(
        forward_channels=min(128, channels),
        backward_channels=min(64, channels),
        bars=bars,
        bars_without_saving=bars,
        rows=1 if batch <= 4096 else 2,
    )


def _warps(channels: int, per_thread: int) -> int:
    return max(1, channels // (32 * per_thread))


def _unit_channels(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(2) == 1 or tensor.shape[2] == 1 else tensor.contiguous()


def _on_device(tensor: Tensor) -> Any:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _scaled_transpose(A: Tensor) -> Tensor:
    """A * log2(e) as (d_state, d_inner) float32."""
    return (A.detach().float() * _LOG2_E).t().contiguous()


def _narrow(tensor: Tensor, tiles: Tiles) -> Tensor:
    return tensor.float().contiguous() if tiles.narrow_to_float32 else _unit_channels(tensor)


def _limit(tiles: Tiles) -> dict[str, int]:
    return {"maxnreg": tiles.backward_registers} if tiles.backward_registers and not triton_interpreted() else {}


def _rows(*tensors: Tensor) -> list[int]:
    return [tensor.stride(0) for tensor in tensors]


def _bars(*tensors: Tensor) -> list[int]:
    return [tensor.stride(1) for tensor in tensors]


@torch.library.custom_op("k4_pipeline::selective_scan_forward", mutates_args=())
def _forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Optional[Tensor],  # noqa: UP045  # the operator schema is read from these annotations
    z: Optional[Tensor],  # noqa: UP045
    dt_bias: Optional[Tensor],  # noqa: UP045
    dt_softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor]:
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    tiles = choose_tiles(d_inner, d_state, batch)
    bars = tiles.bars if save else tiles.bars_without_saving
    y = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    saved = _saved_states(u, d_state, save, tiles)
    if y.numel() == 0:
        return y, saved
    u, dt = _unit_channels(u), _unit_channels(dt)
    gate = u if z is None else _unit_channels(z)
    B, C = _narrow(B, tiles), _narrow(C, tiles)
    a2 = _scaled_transpose(A)
    channels = tiles.forward_channels
    with _on_device(u):
        scan_forward[(batch, triton.cdiv(d_inner, channels))](
            u, dt, gate, B, C, a2, D if D is not None else a2, dt_bias if dt_bias is not None else a2, y, saved,
            length, 0, *_rows(u, dt, gate, B, C), *_bars(u, dt, gate, B, C),
            channels=d_inner, N=d_state, BD=channels, T=bars, FULL=length % bars == 0,
            HAS_D=D is not None, HAS_Z=z is not None, HAS_BIAS=dt_bias is not None, SOFTPLUS=dt_softplus,
            SAVE=save, HARDWARE=not triton_interpreted(),
            num_warps=_warps(channels, tiles.forward_channels_per_thread), num_stages=1,
        )  # fmt: skip
    return y, saved


def _saved_states(u: Tensor, d_state: int, save: bool, tiles: Tiles) -> Tensor:
    batch, length, d_inner = u.shape
    chunks = -(-length // tiles.bars) if save else 1
    dtype = torch.bfloat16 if tiles.saved_in_bf16 else torch.float32
    return torch.empty((batch, max(chunks - 1, 0), d_state, d_inner), dtype=dtype, device=u.device)


@_forward.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, dt_softplus, save):  # type: ignore[no-untyped-def]
    tiles = choose_tiles(u.shape[2], A.shape[1], 1)
    return torch.empty(u.shape, dtype=u.dtype, device=u.device), _saved_states(u, A.shape[1], save, tiles)


@torch.library.custom_op("k4_pipeline::selective_scan_backward", mutates_args=())
def _backward(
    dy: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Optional[Tensor],  # noqa: UP045
    z: Optional[Tensor],  # noqa: UP045
    dt_bias: Optional[Tensor],  # noqa: UP045
    saved: Tensor,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    tiles = choose_tiles(d_inner, d_state, batch)
    channels, rows = tiles.backward_channels, tiles.rows
    blocks, parts = -(-d_inner // channels), -(-batch // rows)
    new = torch.empty
    du = new(u.shape, dtype=u.dtype, device=u.device)
    ddt = new(u.shape, dtype=dt.dtype, device=u.device)
    dz = new(u.shape if z is not None else (0,), dtype=u.dtype if z is None else z.dtype, device=u.device)
    db, dc = (new((blocks, batch, length, d_state), dtype=torch.float32, device=u.device) for _ in range(2))
    da = new((parts, d_state, d_inner), dtype=torch.float32, device=u.device)
    dd, dbias = (new((parts, d_inner), dtype=torch.float32, device=u.device) for _ in range(2))
    if u.numel() > 0:
        dy, x, step = _unit_channels(dy), _unit_channels(u), _unit_channels(dt)
        gate = x if z is None else _unit_channels(z)
        b, c = _narrow(B, tiles), _narrow(C, tiles)
        a2 = _scaled_transpose(A)
        precision = "" if d_state < 16 or channels < 16 or u.dtype != torch.bfloat16 else "bf16"
        with _on_device(u):
            scan_backward[(parts, blocks)](
                x, step, gate, b, c, a2, D if D is not None else a2, dt_bias if dt_bias is not None else a2, saved, dy,
                du, ddt, dz, db, dc, da, dd, dbias,
                batch, length, 0, *_rows(x, step, gate, b, c, dy), *_bars(x, step, gate, b, c, dy),
                channels=d_inner, N=d_state, BD=channels, T=tiles.bars, TP=16, ROWS=rows, FULL=length % tiles.bars == 0,
                HAS_D=D is not None, HAS_Z=z is not None, HAS_BIAS=dt_bias is not None, SOFTPLUS=dt_softplus,
                DOT=precision, KEEP=tiles.keep_decays, HARDWARE=not triton_interpreted(),
                num_warps=_warps(channels, tiles.backward_channels_per_thread), num_stages=1, **_limit(tiles),
            )  # fmt: skip
    return (
        du,
        ddt,
        da.sum(0).t().to(A.dtype).contiguous(),
        db.sum(0).to(B.dtype),
        dc.sum(0).to(C.dtype),
        dd.sum(0).to(A.dtype if D is None else D.dtype),
        dz,
        dbias.sum(0).to(A.dtype if dt_bias is None else dt_bias.dtype),
    )


@_backward.register_fake
def _(dy, u, dt, A, B, C, D, z, dt_bias, saved, dt_softplus):  # type: ignore[no-untyped-def]
    def like(tensor: Tensor, shape: Any) -> Tensor:
        return torch.empty(shape, dtype=tensor.dtype, device=u.device)

    channels = (u.shape[2],)
    return (
        like(u, u.shape),
        like(dt, u.shape),
        like(A, A.shape),
        like(B, B.shape),
        like(C, C.shape),
        like(A if D is None else D, channels),
        like(u, (0,)) if z is None else like(z, z.shape),
        like(A if dt_bias is None else dt_bias, channels),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, softplus, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)  # else autograd fills a gradient of the saved states with zeros, for nobody
    ctx.softplus = softplus


def _differentiate(ctx: Any, dy: Optional[Tensor], _: Any) -> tuple[Any, ...]:  # noqa: UP045
    if dy is None:
        return (None,) * 10
    *tensors, saved = ctx.saved_tensors
    grads = list(_backward(dy, *tensors, saved, ctx.softplus))
    for i in (5, 6, 7):
        if tensors[i] is None:
            grads[i] = None
    return (*grads, None, None)


_forward.register_autograd(_differentiate, setup_context=_keep)


def selective_scan_triton(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Optional[Tensor] = None,  # noqa: UP045
    z: Optional[Tensor] = None,  # noqa: UP045
    dt_bias: Optional[Tensor] = None,  # noqa: UP045
    dt_softplus: bool = True,
) -> Tensor:
    """The scan of `selective_scan_naive` on CUDA (or in Triton's interpreter): bf16 or fp32 in, float32 state.

    d_state must be a power of two up to 64; float64 is refused (the naive scan is the exact one).
    """
    d_state = A.shape[1]
    if d_state > MAX_STATE or d_state & (d_state - 1):
        raise BadInputError(f"the Triton scan takes d_state 1, 2, 4, ... {MAX_STATE}, not {d_state}; use backend naive")
    tensors = (u, dt, A, B, C, D, z, dt_bias)
    if any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors):
        raise BadInputError("the Triton scan keeps a float32 state; use backend naive for float64 inputs")
    needs_grad = torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)
    return _forward(u, dt, A, B, C, D, z, dt_bias, dt_softplus, needs_grad)[0]
