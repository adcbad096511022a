"""Are the sums over channels that the backward kernel took from the tensor cores right? Asked once per kind of launch.

The fast sums read a thread's registers as a column of a matrix operand, which is right in the register layout that
today's Triton chooses, and wrong in silence in another. So the first gradient of B and C is compared with a plain
computation for one row. (No autograd here: this runs inside an operator.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_LIMIT = 0.05  # rounding leaves less than 0.01; a wrong layout is off by about 1


def exact_db_dc(
    dy: Tensor, u: Tensor, dt: Tensor, A: Tensor, bc: Tensor, z: Tensor | None, dt_bias: Tensor | None, softplus: bool
) -> Tensor:
    """Gradient of B and C side by side, (batch, length, 2 d_state), in float64, of the scan that `naive` defines."""
    x, step, both, weight = (tensor.double() for tensor in (u, dt, bc, dy))
    if dt_bias is not None:
        step = step + dt_bias.double()
    if softplus:
        step = F.softplus(step)
    if z is not None:
        weight = weight * F.silu(z.double())
    b, c = both.chunk(2, dim=-1)  # (batch, length, d_state) each
    drive = step * x  # (batch, length, d_inner)
    decay = torch.exp(step[..., None] * A.double())  # (batch, length, d_inner, d_state)
    state = torch.zeros_like(decay[:, 0])
    out = torch.empty_like(both)
    d_state = A.shape[1]
    for t in range(u.shape[1]):
        state = decay[:, t] * state + drive[:, t, :, None] * b[:, t, None, :]
        out[:, t, d_state:] = (state * weight[:, t, :, None]).sum(1)
    upstream = torch.zeros_like(state)
    for t in reversed(range(u.shape[1])):
        upstream = upstream + weight[:, t, :, None] * c[:, t, None, :]
        out[:, t, :d_state] = (upstream * drive[:, t, :, None]).sum(1)
        upstream = upstream * decay[:, t]
    return out


def sums_agree(
    dy: Tensor,
    u: Tensor,
    dt: Tensor,
    A: Tensor,
    bc: Tensor,
    z: Tensor | None,
    dt_bias: Tensor | None,
    softplus: bool,
    dbc: Tensor,
) -> bool | None:
    """Whether `dbc` is right in the last row; None when that row cannot tell (no gradient, or not finite)."""
    last = slice(-1, None)
    exact = exact_db_dc(dy[last], u[last], dt[last], A, bc[last], None if z is None else z[last], dt_bias, softplus)
    scale = float(exact.norm())
    if not 0.0 < scale < float("inf"):
        return None
    return bool((dbc[last].double() - exact).norm() < _LIMIT * scale)
