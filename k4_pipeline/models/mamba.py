"""The Mamba mixer and its pre-norm residual block.

Parameter names, shapes and initialisation are those of `mamba_ssm.Mamba` (state-spaces/mamba,
mamba_ssm/modules/mamba_simple.py; Gu and Dao 2023, arXiv:2312.00752), so a state dict passes both ways. What is added
is the treatment of padding in front of a sequence, which the reference does not have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from k4_pipeline.kernels import cpu_blocks
from k4_pipeline.kernels.causal_conv import causal_conv
from k4_pipeline.kernels.mixer_core import mixer_core_fits
from k4_pipeline.kernels.selective_scan import choose_backend, selective_scan
from k4_pipeline.models.layers import dropout_layer, linear_function, linear_layer


class MambaMixer(nn.Module):
    """The selective state space mixer, (batch, length, d_model) -> the same shape."""

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        *,
        dt_min: float = 1e-3,
        dt_max: float = 0.1,
        dt_init_floor: float = 1e-4,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16)
        self.backend = self.scan_backend = backend
        self.linear = linear_function(backend)

        self.in_proj = linear_layer(backend, d_model, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(
            self.d_inner, self.d_inner, kernel_size=d_conv, groups=self.d_inner, padding=d_conv - 1, bias=True
        )
        self.x_proj = linear_layer(backend, self.d_inner, self.dt_rank + 2 * d_state, bias=False)
        self.dt_proj = linear_layer(backend, self.dt_rank, self.d_inner, bias=True)
        self.A_log = nn.Parameter(torch.empty(self.d_inner, d_state))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = linear_layer(backend, self.d_inner, d_model, bias=False)
        self._init_state_space(dt_min, dt_max, dt_init_floor)

    @torch.no_grad()
    def _init_state_space(self, dt_min: float, dt_max: float, dt_init_floor: float) -> None:
        """dt log-uniform in [dt_min, dt_max] through the softplus, A the S4D-real 1..d_state (mamba_simple.py)."""
        bound = self.dt_rank**-0.5
        nn.init.uniform_(self.dt_proj.weight, -bound, bound)
        log_min, log_max = math.log(dt_min), math.log(dt_max)
        dt = torch.exp(torch.rand(self.d_inner) * (log_max - log_min) + log_min).clamp(min=dt_init_floor)
        self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # inverse of softplus
        self.A_log.copy_(torch.log(torch.arange(1, self.d_state + 1, dtype=torch.float32)).expand_as(self.A_log))

    def forward(self, hidden: Tensor, first_valid: Tensor | None = None) -> Tensor:
        """(batch, length, d_model), zero before `first_valid` (batch,), the index of each row's first valid bar.

        Padding is handled in one place: the convolution takes its input as zero before the first valid bar and returns
        zero there, so nothing enters the state, which is still zero when the first valid bar arrives. `hidden` may hold
        any finite values there; they do not matter.
        """
        taps = self.conv1d.weight.squeeze(1)
        A = -torch.exp(self.A_log.float())
        if first_valid is not None and choose_backend(hidden.device, self.backend) == "triton":
            xz = self.in_proj(hidden)  # (batch, length, 2 d_inner)
            if mixer_core_fits(xz, taps, self.d_state):
                from k4_pipeline.kernels.mixer_core.triton_op import mixer_core

                assert self.conv1d.bias is not None
                convolution, inner = (taps, self.conv1d.bias), (self.x_proj.weight, self.dt_proj.weight)
                rest = (A, self.D.float(), self.dt_proj.bias.float())
                return self.out_proj(mixer_core(xz, first_valid, *convolution, *inner, *rest))
        # Two products with the halves of the weight: the gradients of x and z need not be joined again.
        w_x, w_z = self.in_proj.weight.chunk(2)
        x, z = self.linear(hidden, w_x), self.linear(hidden, w_z)  # (batch, length, d_inner) each
        u = causal_conv(x, taps, self.conv1d.bias, first_valid=first_valid, backend=self.backend)
        dt, B, C = self.x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        y = selective_scan(
            u,
            self.linear(dt, self.dt_proj.weight),
            A,
            B,
            C,
            self.D.float(),
            z=z,
            dt_bias=self.dt_proj.bias.float(),
            dt_softplus=True,
            backend=self.scan_backend,
        )
        return self.out_proj(y)


class MambaBlock(nn.Module):
    """x + mixer(norm(x)).

    LayerNorm rather than RMSNorm (mamba-ssm offers both): it has a fused kernel on the CPU as well.
    """

    def __init__(self, mixer: MambaMixer, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(mixer.d_model)
        self.mixer = mixer
        self.dropout = dropout_layer(mixer.backend, dropout)
        self._fits = cpu_blocks.mamba_fits(mixer.d_model, mixer.d_inner, mixer.d_state, mixer.d_conv)

    def _on_cpu(self, hidden: Tensor, first_valid: Tensor) -> Tensor:
        from k4_pipeline.kernels.cpu_blocks.mamba import mamba_block_cpu

        m, norm = self.mixer, self.norm
        filters, shift = m.conv1d.weight.squeeze(1), m.conv1d.bias
        assert shift is not None
        small, dt = m.x_proj.weight, m.dt_proj
        parameters = [norm.weight, norm.bias, m.in_proj.weight, filters, shift, small, dt.weight, dt.bias]
        parameters += [m.A_log, m.D, m.out_proj.weight]
        return mamba_block_cpu(hidden, first_valid, cpu_blocks.rate(self.dropout), norm.eps, *parameters)

    def forward(self, hidden: Tensor, first_valid: Tensor) -> Tensor:
        """hidden (batch, length, d_model), first_valid (batch,); returns the shape of `hidden`."""
        one_backend = self.mixer.scan_backend == self.mixer.backend
        if self._fits and one_backend and cpu_blocks.takes(hidden, self.mixer.backend, self):
            return self._on_cpu(hidden, first_valid)
        return hidden + self.dropout(self.mixer(self.norm(hidden), first_valid))


@torch.no_grad()
def rescale_residual_projections(blocks: nn.ModuleList) -> None:
    """Divide every out_proj by sqrt(number of blocks) after the usual initialisation.

    Source: `_init_weights` of mamba_ssm/models/mixer_seq_simple.py, which follows GPT-2 (Radford et al. 2019).
    """
    for block in blocks:
        weight = block.mixer.out_proj.weight  # type: ignore[union-attr]
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # type: ignore[arg-type]
        weight /= math.sqrt(len(blocks))  # type: ignore[operator]
