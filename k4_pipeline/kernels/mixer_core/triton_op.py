"""The core of a Mamba block as one PyTorch operator: convolution, one inner projection, scan, and their joint backward.

The two products that make dt, dt_proj (x_proj_dt u), are one with the product of their weights, so that a single matrix
product per pass has dt, B and C as columns of one buffer; its backward has their gradients in the same places, and
adds its gradient of u onto that of the scan. The gradients of x and z are written into the halves of one buffer.
"""

from typing import Any

import torch
from torch import Tensor

from k4_pipeline.kernels.causal_conv import triton_op as conv
from k4_pipeline.kernels.selective_scan import triton_op as scan


def _joint_projection(x_proj: Tensor, dt_proj: Tensor) -> Tensor:
    """(d_inner + 2 d_state, d_inner) float32: rows for dt, then B, then C."""
    rank = dt_proj.shape[1]
    return torch.cat([dt_proj.float() @ x_proj[:rank].float(), x_proj[rank:].float()])


@torch.library.custom_op("k4_pipeline::mixer_core_forward", mutates_args=())
def _forward(
    xz: Tensor,
    first_valid: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    A: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, u, the buffer of dt, B and C, and the saved states; u and the buffer are empty when nothing is saved."""
    d_inner = A.shape[0]
    x, z = xz.chunk(2, dim=-1)
    u = conv.launch_forward(x, conv_weight, conv_bias, first_valid, True)
    with torch.autocast(xz.device.type, enabled=False):  # the product of the weights stays float32
        inner = u @ _joint_projection(x_proj, dt_proj).to(u.dtype).t()
    dt, bc = inner[..., :d_inner], inner[..., d_inner:]
    y, saved = scan.launch_forward(u, dt, A, bc, D, z, dt_bias, True, save)
    return (y, u, inner, saved) if save else (y, u.new_empty(0), u.new_empty(0), saved)


@_forward.register_fake
def _(xz, first_valid, conv_weight, conv_bias, x_proj, dt_proj, A, D, dt_bias, save):  # type: ignore[no-untyped-def]
    batch, length, _ = xz.shape
    d_inner, d_state = A.shape
    y, u = (xz.new_empty((batch, length, d_inner)) for _ in range(2))
    inner = xz.new_empty((batch, length, d_inner + 2 * d_state))
    saved = scan.saved_states_like(y, d_state, save)
    return (y, u, inner, saved) if save else (y, xz.new_empty(0), xz.new_empty(0), saved)


@torch.library.custom_op("k4_pipeline::mixer_core_backward", mutates_args=())
def _backward(
    dy: Tensor,
    xz: Tensor,
    first_valid: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    A: Tensor,
    D: Tensor,
    dt_bias: Tensor,
    u: Tensor,
    inner: Tensor,
    saved: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    d_inner, rank = dt_proj.shape
    x, z = xz.chunk(2, dim=-1)
    dxz = torch.empty(xz.shape, dtype=xz.dtype, device=xz.device)
    dinner = torch.empty(inner.shape, dtype=inner.dtype, device=xz.device)
    du = torch.empty(u.shape, dtype=u.dtype, device=xz.device)
    dx, dz = dxz[..., :d_inner], dxz[..., d_inner:]
    out = scan.Gradients(du=du, ddt=dinner[..., :d_inner], dbc=dinner[..., d_inner:], dz=dz)
    dt, bc = inner[..., :d_inner], inner[..., d_inner:]
    da, dd, dbias = scan.launch_backward(dy, u, dt, A, bc, D, z, dt_bias, saved, True, out)

    joint = _joint_projection(x_proj, dt_proj).to(u.dtype)
    flat_du, flat_dinner = du.view(-1, d_inner), dinner.view(-1, joint.shape[0])
    flat_du.addmm_(flat_dinner, joint)
    dconv, dconv_bias = conv.launch_backward(du, x, conv_weight, conv_bias, first_valid, True, dx)
    djoint = (flat_dinner.t() @ u.view(-1, d_inner)).float()
    dx_proj = torch.cat([dt_proj.float().t() @ djoint[:d_inner], djoint[d_inner:]])
    ddt_proj = djoint[:d_inner] @ x_proj[:rank].float().t()
    return (
        dxz,
        dconv.to(conv_weight.dtype).contiguous(),
        dconv_bias.to(conv_bias.dtype).clone(),
        dx_proj.to(x_proj.dtype),
        ddt_proj.to(dt_proj.dtype),
        da.to(A.dtype).contiguous(),
        dd.to(D.dtype).clone(),
        dbias.to(dt_bias.dtype).clone(),
    )


@_backward.register_fake
def _(dy, xz, first_valid, conv_weight, conv_bias, x_proj, dt_proj, A, D, dt_bias, u, inner, saved):  # type: ignore[no-untyped-def]
    parameters = (conv_weight, conv_bias, x_proj, dt_proj, A, D, dt_bias)
    # new_empty: contiguous, whatever the strides of the operand are
    return xz.new_empty(xz.shape), *(parameter.new_empty(parameter.shape) for parameter in parameters)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:-1], *output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dy: Any, *_: Any) -> tuple[Any, ...]:
    if dy is None:
        return (None,) * 10
    dxz, *parameters = _backward(dy, *ctx.saved_tensors)
    return dxz, None, *parameters, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def mixer_core(
    xz: Tensor,
    first_valid: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    x_proj: Tensor,
    dt_proj: Tensor,
    A: Tensor,
    D: Tensor,
    dt_bias: Tensor,
) -> Tensor:
    """`mixer_core_naive` as one operator on CUDA (or in Triton's interpreter); parameters in float32."""
    parameters = (conv_weight, conv_bias, x_proj, dt_proj, A, D, dt_bias)
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (xz, *parameters))
    return _forward(xz, first_valid, *parameters, save)[0]
