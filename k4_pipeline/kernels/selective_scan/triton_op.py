"""The Triton scan as a PyTorch operator: launch sizes, buffers, autograd, and a shape function for torch.compile.

Both passes are custom operators, opaque to torch.compile and safe to capture in a CUDA graph: no synchronisation (but
for one comparison at the first use, `triton_check`), no atomics, the same bits on every run. `launch_forward` and
`launch_backward` are the kernels on buffers of the caller, for operators that hold more than the scan.
"""

import contextlib
import dataclasses
import functools
import warnings
from typing import Any, Optional

import torch
import triton
from torch import Tensor

from k4_pipeline.errors import BadInputError
from k4_pipeline.kernels.selective_scan.dispatch import triton_interpreted
from k4_pipeline.kernels.selective_scan.triton_backward import BarStrides, How, Operands, Results, Sizes, scan_backward
from k4_pipeline.kernels.selective_scan.triton_check import sums_agree
from k4_pipeline.kernels.selective_scan.triton_forward import scan_forward

_LOG2_E = 1.4426950408889634
MAX_STATE = 64


@dataclasses.dataclass(frozen=True)
class Tiles:
    """Launch sizes. Channels per program are powers of two; `forward_channels_per_thread` is 1 or 2."""

    forward_channels: int = 128
    forward_channels_per_thread: int = 1
    backward_channels: int = 256  # at a time, one per thread
    bars: int = 5  # of one chunk: states kept in registers by the backward, distance of the saved states
    bars_without_saving: int = 10  # unrolled by the forward when nothing is saved
    rows: int = 1  # of the batch per backward program
    whole_rows: bool = True  # a backward program takes all channels of its rows; else one block of channels
    keep_decays: bool = False
    saved_in_bf16: bool = False  # the states kept for the backward, not the running state
    backward_registers: int = 0  # limit per thread, 0 for none: fewer registers, more warps at a time


@functools.cache
def _multiprocessors(index: int) -> int:
    return torch.cuda.get_device_properties(index).multi_processor_count


def choose_tiles(d_inner: int, d_state: int, batch: int, dtype: torch.dtype, device: torch.device) -> Tiles:
    """Sizes for a shape: few enough chunk states that a thread's share stays in its registers."""
    channels = max(16, triton.next_power_of_2(d_inner))
    bars = {1: 10, 2: 10, 4: 10, 8: 8, 16: 5, 32: 2}.get(d_state, 1)
    at_once = min(32 if d_state == 16 and dtype == torch.bfloat16 else 64, channels)
    # Backward programs that fill the device: eight warps of 255 registers per multiprocessor.
    fill = 256 * _multiprocessors(device.index or 0) // at_once if device.type == "cuda" else 1
    return Tiles(
        forward_channels=min(128, channels),
        backward_channels=at_once,
        bars=bars,
        bars_without_saving=bars,
        rows=max(1, min(4, batch // (4 * fill))),
        whole_rows=2 * batch > fill,
    )


def _warps(channels: int, per_thread: int) -> int:
    return max(1, channels // (32 * per_thread))


def dense_rows(tensor: Tensor) -> Tensor:
    """(batch, length, channels) with channels side by side and rows one behind the other, copied if it is not."""
    batch, length, channels = tensor.shape
    channels_fit = tensor.stride(2) == 1 or channels == 1
    if length == 1 and channels_fit:  # the only bar may carry any stride, and the kernels make the row's from it
        return tensor.as_strided(tensor.shape, (tensor.stride(0), tensor.stride(0), 1))
    rows_fit = tensor.stride(0) == length * tensor.stride(1) or batch == 1
    return tensor if channels_fit and rows_fit else tensor.contiguous()


def _side_by_side(B: Tensor, C: Tensor) -> Tensor:
    """(batch, length, 2 d_state) with B and C; no copy when they lie so already."""
    d_state = B.shape[2]
    together = (
        B.dtype == C.dtype
        and B.stride() == C.stride()
        and B.stride(2) == 1
        and B.stride(1) >= 2 * d_state
        and B.untyped_storage().data_ptr() == C.untyped_storage().data_ptr()
        and C.storage_offset() == B.storage_offset() + d_state
    )
    if together:
        return dense_rows(B.as_strided((*B.shape[:2], 2 * d_state), B.stride(), B.storage_offset()))
    return torch.cat([B, C.to(B.dtype)], dim=-1)


def _on_device(tensor: Tensor) -> Any:
    return torch.cuda.device(tensor.device) if tensor.is_cuda else contextlib.nullcontext()


def _scaled_transpose(A: Tensor) -> Tensor:
    """A * log2(e) as (d_state, d_inner) float32."""
    return (A.detach().float() * _LOG2_E).t().contiguous()


def _limit(tiles: Tiles) -> dict[str, int]:
    return {"maxnreg": tiles.backward_registers} if tiles.backward_registers and not triton_interpreted() else {}


def launch_forward(
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    bc: Tensor,
    D: Optional[Tensor],  # noqa: UP045
    z: Optional[Tensor],  # noqa: UP045
    dt_bias: Optional[Tensor],  # noqa: UP045
    dt_softplus: bool,
    save: bool,
) -> tuple[Tensor, Tensor]:
    """y and the saved states; bc (batch, length, 2 d_state) holds B and C side by side."""
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    tiles = choose_tiles(d_inner, d_state, batch, u.dtype, u.device)
    bars = tiles.bars if save else tiles.bars_without_saving
    y = torch.empty(u.shape, dtype=u.dtype, device=u.device)
    saved = _saved_states(u, d_state, save, tiles)
    if y.numel() == 0:
        return y, saved
    u, dt, bc = dense_rows(u), dense_rows(dt), dense_rows(bc)
    gate = u if z is None else dense_rows(z)
    a2 = _scaled_transpose(A)
    channels = tiles.forward_channels
    with _on_device(u):
        scan_forward[(batch, triton.cdiv(d_inner, channels))](
            u, dt, gate, bc, a2, D if D is not None else a2, dt_bias if dt_bias is not None else a2, y, saved,
            length, 0, u.stride(1), dt.stride(1), gate.stride(1), bc.stride(1),
            channels=d_inner, N=d_state, BD=channels, T=bars, FULL=length % bars == 0,
            HAS_D=D is not None, HAS_Z=z is not None, HAS_BIAS=dt_bias is not None, SOFTPLUS=dt_softplus,
            SAVE=save, HARDWARE=not triton_interpreted(),
            num_warps=_warps(channels, tiles.forward_channels_per_thread), num_stages=1,
        )  # fmt: skip
    return y, saved


@dataclasses.dataclass
class Gradients:
    """What `launch_backward` fills, by name of the operand; dbc holds dB and dC side by side."""

    du: Tensor
    ddt: Tensor
    dbc: Tensor
    dz: Optional[Tensor]  # noqa: UP045


_use_warp_sums: dict[tuple[Any, ...], bool] = {}


def launch_backward(
    dy: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    bc: Tensor,
    D: Optional[Tensor],  # noqa: UP045
    z: Optional[Tensor],  # noqa: UP045
    dt_bias: Optional[Tensor],  # noqa: UP045
    saved: Tensor,
    dt_softplus: bool,
    out: Gradients,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fills `out` (rows one behind the other, channels side by side); returns float32 gradients of A, D and dt_bias.

    Sums over channels run in registers and tensor cores where the compiler lays a channel into one thread. That is an
    assumption about the compiler, so the first result of every kind of launch is compared with plain PyTorch.
    """
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    if u.numel() == 0:
        for gradient in (out.du, out.ddt, out.dbc, out.dz):
            if gradient is not None:
                gradient.zero_()
        return A.new_zeros(A.shape), A.new_zeros(d_inner), A.new_zeros(d_inner)
    tiles = choose_tiles(d_inner, d_state, batch, u.dtype, u.device)
    run = functools.partial(
        _run_backward, dense_rows(dy), dense_rows(u), dense_rows(dt), A, dense_rows(bc), D,
        None if z is None else dense_rows(z), dt_bias, saved, dt_softplus, out, tiles,
    )  # fmt: skip
    key = (u.device, d_inner, d_state, u.dtype, tiles, length % tiles.bars == 0, D is None, z is None, dt_softplus)
    fast = u.dtype == torch.bfloat16 and d_state == 16 and tiles.backward_channels >= 32 and tiles.bars <= 8
    fast = fast and d_inner >= 32 and not triton_interpreted() and _use_warp_sums.get(key, True)
    result = run(warp_sums=fast)
    if fast and key not in _use_warp_sums and not torch.cuda.is_current_stream_capturing():
        agree = sums_agree(dy, u, dt, A, bc, z, dt_bias, dt_softplus, out.dbc)
        if agree is not None:
            _use_warp_sums[key] = agree
        if agree is False:
            text = "the sums over channels of the Triton scan do not fit this compiler; using slower ones"
            warnings.warn(text, stacklevel=2)
            result = run(warp_sums=False)
    return result


def _run_backward(
    dy: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    bc: Tensor,
    D: Optional[Tensor],  # noqa: UP045
    z: Optional[Tensor],  # noqa: UP045
    dt_bias: Optional[Tensor],  # noqa: UP045
    saved: Tensor,
    dt_softplus: bool,
    out: Gradients,
    tiles: Tiles,
    *,
    warp_sums: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, length, d_inner = u.shape
    d_state = A.shape[1]
    new = functools.partial(torch.empty, dtype=torch.float32, device=u.device)
    channels, rows = tiles.backward_channels, tiles.rows
    blocks, parts = -(-d_inner // channels), -(-batch // rows)
    splits = 1 if tiles.whole_rows else blocks
    if warp_sums:
        sums, tile = "warp", 4 * 32
    elif d_state >= 16 and d_inner >= 32 and u.dtype == torch.bfloat16:
        sums, tile = "bf16", 16 * d_state
    else:
        sums, tile = "", tiles.bars * d_state
    gate, dz = (u, out.du) if z is None or out.dz is None else (z, out.dz)
    a2 = _scaled_transpose(A)
    parameters = new((parts, d_state + 2, d_inner))
    so_far = new((splits, batch, -(-length // tiles.bars), 2, tile) if blocks > splits else (1,))
    dbc = out.dbc if splits == 1 else new((splits, batch, length, 2 * d_state))
    with _on_device(u):
        scan_backward[(parts, splits)](
            Operands(u, dt, gate, bc, a2, a2 if D is None else D, a2 if dt_bias is None else dt_bias, saved, dy),
            Results(out.du, out.ddt, dz, dbc, so_far, parameters),
            batch, rows, length, 0, dbc.stride(0) if splits > 1 else 0,
            bars=BarStrides(*(t.stride(-2) for t in (u, dt, gate, bc, dy, out.du, out.ddt, dz, dbc))),
            sizes=Sizes(d_inner, d_state, channels, blocks // splits, tiles.bars, tile, length % tiles.bars == 0),
            how=How(
                D is not None, z is not None, dt_bias is not None, dt_softplus, sums, tiles.keep_decays,
                not triton_interpreted(),
            ),
            num_warps=_warps(channels, 1), num_stages=1, **_limit(tiles),
        )  # fmt: skip
    if splits > 1:
        out.dbc.copy_(dbc.sum(0))
    total = parameters.sum(0)
    return total[:d_state].t(), total[d_state], total[d_state + 1]


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
    return launch_forward(u, dt, A, _side_by_side(B, C), D, z, dt_bias, dt_softplus, save)


def _saved_states(u: Tensor, d_state: int, save: bool, tiles: Tiles) -> Tensor:
    batch, length, d_inner = u.shape
    chunks = -(-length // tiles.bars) if save else 1
    dtype = torch.bfloat16 if tiles.saved_in_bf16 else torch.float32
    return torch.empty((batch, max(chunks - 1, 0), d_state, d_inner), dtype=dtype, device=u.device)


def saved_states_like(u: Tensor, d_state: int, save: bool) -> Tensor:
    """An empty tensor of the shape in which `launch_forward` returns the saved states."""
    return _saved_states(u, d_state, save, choose_tiles(u.shape[2], d_state, 1, u.dtype, torch.device("cpu")))


@_forward.register_fake
def _(u, dt, A, B, C, D, z, dt_bias, dt_softplus, save):  # type: ignore[no-untyped-def]
    return torch.empty(u.shape, dtype=u.dtype, device=u.device), saved_states_like(u, A.shape[1], save)


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
    new = torch.empty
    d_state = A.shape[1]
    dbc = new((*B.shape[:2], 2 * d_state), dtype=B.dtype, device=u.device)
    out = Gradients(
        du=new(u.shape, dtype=u.dtype, device=u.device),
        ddt=new(u.shape, dtype=dt.dtype, device=u.device),
        dbc=dbc,
        dz=None if z is None else new(z.shape, dtype=z.dtype, device=u.device),
    )
    da, dd, dbias = launch_backward(dy, u, dt, A, _side_by_side(B, C), D, z, dt_bias, saved, dt_softplus, out)
    return (
        out.du,
        out.ddt,
        da.to(A.dtype).contiguous(),
        # copies even where a slice is contiguous (one bar of one sequence): results must not share memory
        dbc[..., :d_state].clone(memory_format=torch.contiguous_format),
        dbc[..., d_state:].to(C.dtype, copy=True, memory_format=torch.contiguous_format),
        dd.to(A.dtype if D is None else D.dtype).clone(),
        new((0,), dtype=u.dtype, device=u.device) if out.dz is None else out.dz,
        dbias.to(A.dtype if dt_bias is None else dt_bias.dtype).clone(),
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
    ctx.set_materialize_grads(False)  # else autograd fills a gradient of the saved states with zeros that are not used
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
