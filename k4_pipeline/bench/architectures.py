"""`k4 bench architectures`: our model beside others of about its size, at several lengths of the sequence.

Preset small in bf16 autocast on CUDA (float32 on a CPU), the same input layer, pooling, head, loss and optimiser for
all; what stands between input and pooling differs. Batches lie ready on the device and hold the same number of bars at
every length. Every variant is compiled unless torch's own recurrent kernels do its work.

- `mamba`: ours. `bilstm`: the fallback model.
- `gru`: two unidirectional layers of cuDNN's GRU.
- `attention`: two pre-norm blocks of attention and a feed-forward layer (`torch.nn.TransformerEncoderLayer`), no scan.
- `mamba2`: two blocks of Mamba-2 (Dao and Gu 2024, arXiv:2405.21060, section 6) in plain PyTorch, chunks of 64 bars, 64
  states; its scan is compared with the recurrence in float64 first and left out when it does not agree.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from k4_pipeline.bench.environment import environment
from k4_pipeline.bench.train import median_seconds
from k4_pipeline.config import K4, N_CLASSES, N_FEATURES, LossConfig, ModelConfig, TrainConfig
from k4_pipeline.losses import AsymmetricLoss
from k4_pipeline.models import build_model, count_parameters
from k4_pipeline.models.head import DenseHead, MaskedPool
from k4_pipeline.models.input_layer import InputLayer
from k4_pipeline.models.presets import sizes_of
from k4_pipeline.training.step import TrainStep, autocast

CHUNK = 64
LENGTHS = (50, 128, 256)
_SIZES = sizes_of("small")
_DROPOUT = 0.1


def chunked_scan(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor, chunk: int = CHUNK) -> Tensor:
    """h_t = exp(log_decay_t) h_(t-1) + B_t x_t, y_t = C_t h_t by chunks: products inside, a loop between them.

    x (b, l, heads, p), log_decay (b, l, heads), B and C (b, l, n); returns y (b, l, heads, p).
    """
    length = x.shape[1]
    chunk = min(chunk, length)
    more = -length % chunk
    x, log_decay, B, C = (F.pad(v, (0, 0) * (v.dim() - 2) + (0, more)) for v in (x, log_decay, B, C))
    x, log_decay, B, C = (v.unflatten(1, (-1, chunk)) for v in (x, log_decay, B, C))  # (b, chunks, q, ...)
    since = log_decay.to(torch.promote_types(log_decay.dtype, torch.float32)).cumsum(2)  # (b, c, q, h)
    between = since.unsqueeze(3) - since.unsqueeze(2)  # (b, c, q, s, h): decay from s to q
    later = torch.ones(chunk, chunk, dtype=torch.bool, device=x.device).tril()
    decay = torch.exp(between.masked_fill(~later[:, :, None], float("-inf"))).to(x.dtype)
    y = torch.einsum("bcqsh,bcshp->bcqhp", torch.einsum("bcqn,bcsn->bcqs", C, B).unsqueeze(-1) * decay, x)
    to_end = torch.exp(since[:, :, -1:] - since).to(x.dtype)
    states = torch.einsum("bcsn,bcshp->bchpn", B, to_end.unsqueeze(-1) * x)
    whole = torch.exp(since[:, :, -1]).to(x.dtype)  # (b, c, h)
    carried, state = [], torch.zeros_like(states[:, 0])
    for i in range(states.shape[1]):
        carried.append(state)
        state = whole[:, i, :, None, None] * state + states[:, i]
    before = torch.einsum("bcqn,bchpn->bcqhp", C, torch.stack(carried, 1))
    y = y + torch.exp(since).to(x.dtype).unsqueeze(-1) * before
    return y.flatten(1, 2)[:, :length]


def recurrence(x: Tensor, log_decay: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The same, bar by bar."""
    state, out = torch.zeros(*x.shape[:1], *x.shape[2:], B.shape[-1], dtype=x.dtype), []
    for t in range(x.shape[1]):
        state = torch.exp(log_decay[:, t, :, None, None]) * state + x[:, t, :, :, None] * B[:, t, None, None]
        out.append((state * C[:, t, None, None]).sum(-1))
    return torch.stack(out, 1)


def scan_error(length: int = 130) -> float:
    """Relative error of `chunked_scan` in float64 against `recurrence`."""
    gen = torch.Generator().manual_seed(0)
    x, decay = torch.randn(2, length, 3, 5, generator=gen), -torch.rand(2, length, 3, generator=gen)
    B, C = torch.randn(2, length, 4, generator=gen), torch.randn(2, length, 4, generator=gen)
    x, decay, B, C = (v.double() for v in (x, decay, B, C))
    exact = recurrence(x, decay, B, C)
    return float((chunked_scan(x, decay, B, C) - exact).norm() / exact.norm())


class Mamba2Block(nn.Module):
    """x + out(norm(scan(conv(in(norm(x))))) * gate): one Mamba-2 block, heads of 64 channels."""

    def __init__(self, d_model: int, d_state: int = 64, d_conv: int = 4, expand: int = 2, head: int = 64) -> None:
        super().__init__()
        self.inner, self.state, self.heads = expand * d_model, d_state, expand * d_model // head
        mixed = self.inner + 2 * d_state
        self.norm, self.norm_out = nn.LayerNorm(d_model), nn.RMSNorm(self.inner)
        self.in_proj = nn.Linear(d_model, self.inner + mixed + self.heads, bias=False)
        self.conv = nn.Conv1d(mixed, mixed, d_conv, groups=mixed, padding=d_conv - 1)
        self.dt_bias, self.A_log = nn.Parameter(torch.full((self.heads,), -3.0)), nn.Parameter(torch.zeros(self.heads))
        self.D = nn.Parameter(torch.ones(self.heads))
        self.out_proj = nn.Linear(self.inner, d_model, bias=False)
        self.dropout = nn.Dropout(_DROPOUT)

    def forward(self, hidden: Tensor) -> Tensor:
        """(batch, length, d_model), and back."""
        mixed = self.inner + 2 * self.state
        z, mix, dt = self.in_proj(self.norm(hidden)).split([self.inner, mixed, self.heads], dim=-1)
        mix = F.silu(self.conv(mix.transpose(1, 2))[..., : hidden.shape[1]].transpose(1, 2))
        x, B, C = mix.split([self.inner, self.state, self.state], dim=-1)
        dt = F.softplus(dt.float() + self.dt_bias)
        x = x.unflatten(-1, (self.heads, -1))
        y = chunked_scan(x * dt.to(x.dtype).unsqueeze(-1), -torch.exp(self.A_log) * dt, B, C)
        y = (y + self.D.to(x.dtype)[:, None] * x).flatten(2)
        return hidden + self.dropout(self.out_proj(self.norm_out(y * F.silu(z))))


class Other(nn.Module):
    """Input layer, some layers, norm, pooling and head of preset small."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        d = _SIZES.d_model
        self.kind, self.input = kind, InputLayer(N_FEATURES, d)
        if kind == "gru":
            self.layers: nn.Module = nn.GRU(d, d + 32, num_layers=2, batch_first=True, dropout=_DROPOUT)
        elif kind == "attention":
            layer = nn.TransformerEncoderLayer(d, 8, 3 * d, _DROPOUT, batch_first=True, norm_first=True)
            self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        else:
            self.layers = nn.Sequential(Mamba2Block(d), Mamba2Block(d))
        width = d + 32 if kind == "gru" else d
        self.norm, self.pool = nn.LayerNorm(width), MaskedPool(width)
        self.head = DenseHead(width, _SIZES.head, N_CLASSES, _DROPOUT)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Logits (batch, classes); padding is left out by the pooling alone."""
        hidden = self.layers(self.input(x, mask))
        return self.head(self.pool(self.norm(hidden[0] if self.kind == "gru" else hidden), mask))


def model_of(name: str) -> nn.Module:
    """A fresh model of a variant."""
    torch.manual_seed(0)
    if name in ("mamba", "bilstm"):
        return build_model(ModelConfig(architecture="mamba_attention" if name == "mamba" else "bilstm", preset="small"))
    return Other(name)


def _row(name: str, length: int, batch: int, device: torch.device, precision: str, repeats: int) -> dict[str, Any]:
    gen = torch.Generator().manual_seed(0)
    x = torch.randn(batch, length, N_FEATURES, generator=gen).to(device)
    mask = torch.ones(batch, length, dtype=torch.bool, device=device)
    y = torch.randint(0, N_CLASSES, (batch,), generator=gen).to(device)
    compile = device.type == "cuda" and name not in ("gru", "bilstm")
    model = model_of(name).to(device)
    config = TrainConfig(precision=precision, compile=compile, batch_size=batch)  # type: ignore[arg-type]
    step = TrainStep(model.train(), AsymmetricLoss(LossConfig(), K4).to(device), config, loss_scale=0.1)
    row: dict[str, Any] = {"variant": name, "length": length, "batch": batch, "parameters": count_parameters(model)}
    trained = median_seconds(functools.partial(step, x, mask, y, None, 1e-4), device, repeats, 2)
    model.eval()
    forward = torch.compile(model, dynamic=False) if compile else model

    def predict() -> None:
        with torch.inference_mode(), autocast(device, precision):
            forward(x, mask)

    predicted = median_seconds(predict, device, repeats, 2)
    return row | {"train_samples_per_s": batch / trained, "predict_samples_per_s": batch / predicted}


def run(device: str = "auto", repeats: int = 5, bars: int | None = None) -> dict[str, Any]:
    """Rows of samples a second by variant and length; `bars` in a batch (409,600 on CUDA, 6,400 on a CPU)."""
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    precision = "bf16" if where.type == "cuda" else "fp32"
    bars = bars or (8192 * 50 if where.type == "cuda" else 6400)
    error = scan_error()
    names = ["mamba", "bilstm", "gru", "attention", *(["mamba2"] if error < 1e-12 else [])]
    rows = [_row(name, length, bars // length, where, precision, repeats) for length in LENGTHS for name in names]
    return {
        "train_samples_per_s": {f"{r['variant']}_{r['length']}": r["train_samples_per_s"] for r in rows},
        "predict_samples_per_s": {f"{r['variant']}_{r['length']}": r["predict_samples_per_s"] for r in rows},
        "parameters": {r["variant"]: r["parameters"] for r in rows},
        "mamba2_scan_error": error,
        "precision": precision,
        "environment": environment(where),
        "rows": rows,
    }
