"""`k4 bench train`: whole training steps and predictions of preset small, all variants of this machine in one run.

A step: batch from the panel where the name says so, forward, asymmetric loss, backward, clip, AdamW. Every backend of
the scan first has to agree with the naive one in float64 on the same weights; one that does not is reported as failed
and not timed.

On a CPU `mamba_naive` is the model in plain PyTorch from end to end (torch's dense layers, dropout and attention, the
naive convolution and scan), `mamba_cpu_with_naive_scan` is our path with the scan alone exchanged for the naive one,
and `bilstm` is torch's LSTM, with our dropout and input layer around it. These are float32; `_bf16` behind a name is
the same under autocast to bfloat16, left out where the processor has no instruction for such products.
"""

from __future__ import annotations

import copy
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from k4_pipeline.bench.environment import environment
from k4_pipeline.config import K4, LossConfig, ModelConfig, TrainConfig
from k4_pipeline.features.spec import FEATURES, MARKET_COLUMN, feature_list_hash
from k4_pipeline.kernels.bf16 import AVAILABLE
from k4_pipeline.kernels.selective_scan import available_backends
from k4_pipeline.losses import AsymmetricLoss
from k4_pipeline.models import build_model, count_parameters
from k4_pipeline.models.mamba import MambaMixer
from k4_pipeline.progress import Progress
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.graphs import GraphedPrediction, GraphedStep
from k4_pipeline.training.step import TrainStep, autocast

# ||logits - exact|| / ||exact||; bf16 keeps 8 bits in every layer
_LIMITS = {"fp32": 1e-4, "bf16": 0.1}
_SEQUENCES = 20_000
_BARS = 200_000


def bench_data(seed: int = 0) -> tuple[np.ndarray, SequenceIndex, Scaler, np.ndarray]:
    """Panel, index, scaler and targets with plausible values: what the arithmetic costs does not depend on them."""
    rng = np.random.default_rng(seed)
    close = 50.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(_BARS)) % 2.0)
    panel = rng.standard_normal((_BARS, len(MARKET_COLUMN))).astype(np.float32)
    for f in FEATURES:
        if f.scale in ("price_level", "price_width", "volume") and not f.needs_pattern:
            panel[:, MARKET_COLUMN[f.name]] = close * np.exp(0.1 * rng.standard_normal(_BARS))
    panel[:, MARKET_COLUMN["current_price"]] = close
    end = np.sort(rng.integers(100, _BARS, _SEQUENCES))
    n_valid = np.where(rng.random(_SEQUENCES) < 0.1, rng.integers(1, 51, _SEQUENCES), 50)
    rows = np.stack([end, n_valid, end - 30, end - 20], axis=1).astype(np.int64)
    at, one = close[end], np.ones(_SEQUENCES)
    geometry = np.stack([at * 1.05, at * 0.95, at * 1.055, at, at * 0.2, 12 * one, at, at], axis=1)
    values = {"center": np.zeros(69), "scale": np.ones(69), "lower": -np.ones(69), "upper": np.ones(69)}
    meta = {"feature_list_hash": feature_list_hash(), "exact_close": False, "clip_sigmas": 8.0}
    scaler = Scaler(**{name: value.astype(np.float32) for name, value in values.items()}, meta=meta)
    targets = rng.choice(6, size=_SEQUENCES, p=[0.45, 0.29, 0.08, 0.01, 0.01, 0.16])
    return panel, SequenceIndex(rows, geometry), scaler, targets


def median_seconds(function: Callable[[], Any], device: torch.device, repeats: int, inner: int = 1) -> float:
    """Median of `repeats` timings of `inner` calls each, by device events on CUDA; one call before to warm up."""
    function()
    times: list[float] = []
    for _ in range(repeats):
        if device.type == "cuda":
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize(device)
            first.record()
            for _ in range(inner):
                function()
            last.record()
            torch.cuda.synchronize(device)
            times.append(first.elapsed_time(last) / 1e3 / inner)
        else:
            begin = time.perf_counter()
            for _ in range(inner):
                function()
            times.append((time.perf_counter() - begin) / inner)
    return statistics.median(times)


class _Bench:
    """The data and the settings that all variants share."""

    def __init__(self, device: torch.device, batch: int, repeats: int) -> None:
        self.device, self.batch, self.repeats = device, batch, repeats
        self.precision = "bf16" if device.type == "cuda" else "fp32"
        panel, index, scaler, targets = bench_data()
        every = np.arange(len(index))
        self.dataset = SequenceDataset(panel, index, every, scaler, targets)
        self.on_device = DeviceBatches(panel, index, every, scaler, targets, device=device)
        self.rows = [np.random.default_rng(k).integers(0, len(index), batch) for k in range(8)]
        x, mask, y, w = self.on_device.batch(self.rows[0])
        assert y is not None
        self.fixed = (x, mask, y, w)
        self.calls = 0

    def model(self, architecture: str, backend: str = "auto") -> nn.Module:
        torch.manual_seed(0)
        config = ModelConfig(architecture=architecture, backend=backend)  # type: ignore[arg-type]
        return build_model(config).to(self.device)

    def step(self, model: nn.Module, *, compile: bool = False, precision: str = "") -> TrainStep:
        precision = precision or self.precision
        config = TrainConfig(precision=precision, compile=compile, batch_size=self.batch)  # type: ignore[arg-type]
        return TrainStep(model.train(), AsymmetricLoss(LossConfig(), K4).to(self.device), config, loss_scale=0.1)

    def next_rows(self) -> np.ndarray:
        self.calls += 1
        return self.rows[self.calls % len(self.rows)]

    def error(self, backend: str, precision: str = "") -> float:
        """Relative error of the logits against the naive scan in float64 on the same weights."""
        x, mask = self.fixed[0][:64], self.fixed[1][:64]
        exact = self.model("mamba_attention", "naive").double().eval()
        ours = self.model("mamba_attention", backend).eval()
        with torch.no_grad():
            expected = exact(x.double(), mask)
            with autocast(self.device, precision or self.precision):
                got = ours(x, mask).double()
        return float((got - expected).norm() / expected.norm())

    def error_of_blocks(self) -> float:
        """`error` of the model on the package's own blocks, over rows without padding, which those do not know."""
        x, mask = self.fixed[:2]
        full = mask.all(dim=1).nonzero().flatten()[:64]
        exact = self.model("mamba_attention", "naive")
        theirs = on_mamba_ssm_blocks(copy.deepcopy(exact)).eval()
        with torch.no_grad():
            expected = exact.double().eval()(x[full].double(), mask[full])
            with autocast(self.device, self.precision):
                got = theirs(x[full], mask[full]).double()
        return float((got - expected).norm() / expected.norm())

    def seconds(self, function: Callable[[], Any]) -> float:
        return median_seconds(function, self.device, self.repeats, 4 if self.device.type == "cuda" else 1)

    def predict(self, model: nn.Module, precision: str = "") -> Callable[[], Any]:
        x, mask = self.fixed[:2]
        model.eval()

        def call() -> None:
            with torch.inference_mode(), autocast(self.device, precision or self.precision):
                model(x, mask)

        return call


class _PackageMixer(nn.Module):
    """`mamba_ssm.Mamba` as it comes, in the place of a mixer and with its weights; padding is data to it."""

    def __init__(self, mixer: MambaMixer) -> None:
        super().__init__()
        from mamba_ssm.modules.mamba_simple import Mamba

        expand = mixer.d_inner // mixer.d_model
        self.inner = Mamba(mixer.d_model, d_state=mixer.d_state, d_conv=mixer.d_conv, expand=expand)
        self.inner.load_state_dict(mixer.state_dict())
        self.inner.to(mixer.D.device)
        self.backend = self.scan_backend = "naive"  # so that the block around it is not fused with it

    def forward(self, hidden: torch.Tensor, first_valid: torch.Tensor) -> torch.Tensor:
        return self.inner(hidden)


def on_mamba_ssm_blocks(model: nn.Module) -> nn.Module:
    """The model with its mixers replaced by the package's modules (whose fast path needs causal-conv1d)."""
    for block in model.blocks:  # type: ignore[union-attr]
        block.mixer = _PackageMixer(block.mixer)  # type: ignore[arg-type, union-attr]
    return model


Variants = dict[str, dict[str, Callable[[], Any]]]  # "train" and "predict" calls by variant


def _plain(
    bench: _Bench, architecture: str, backend: str = "auto", precision: str = ""
) -> dict[str, Callable[[], Any]]:
    """Training step and prediction as PyTorch runs them, on a batch that lies ready."""
    return _eager(bench, bench.model(architecture, backend), precision)


def _eager(bench: _Bench, model: nn.Module, precision: str = "") -> dict[str, Callable[[], Any]]:
    return {
        "predict": bench.predict(copy.deepcopy(model), precision),
        "train": functools.partial(bench.step(model, precision=precision), *bench.fixed, 1e-4),
    }


def _naive_scan_alone(bench: _Bench) -> dict[str, Callable[[], Any]]:
    """Our CPU path with nothing but the scan exchanged for the naive one (so the Mamba blocks are not fused)."""
    calls = []
    for make in (lambda model: functools.partial(bench.step(model), *bench.fixed, 1e-4), bench.predict):
        model = bench.model("mamba_attention", "cpu")
        for block in model.blocks:  # type: ignore[union-attr]
            block.mixer.scan_backend = "naive"  # type: ignore[union-attr]
        calls.append(make(model))
    return {"train": calls[0], "predict": calls[1]}


def _cpu_variants(bench: _Bench) -> Variants:
    step = bench.step(bench.model("mamba_attention", "cpu"))

    def with_assembly() -> None:
        x, mask, y, w = bench.dataset.batch(bench.next_rows())
        assert y is not None
        step(x, mask, y, w, 1e-4)

    variants = {
        "mamba_cpu": _plain(bench, "mamba_attention", "cpu"),
        "mamba_cpu_with_assembly": {"train": with_assembly},
        "bilstm": _plain(bench, "bilstm"),
        "mamba_cpu_with_naive_scan": _naive_scan_alone(bench),
        "mamba_naive": _plain(bench, "mamba_attention", "naive"),
    }
    if AVAILABLE:
        variants["mamba_cpu_bf16"] = _plain(bench, "mamba_attention", "cpu", "bf16")
        variants["bilstm_bf16"] = _plain(bench, "bilstm", precision="bf16")
    return variants


def _graphed(bench: _Bench, architecture: str) -> dict[str, Callable[[], Any]]:
    """The whole path: positions in, batch from the panel on the device, one captured graph."""
    panel = bench.on_device
    step = GraphedStep(bench.step(bench.model(architecture), compile=True), panel, bench.batch)
    prediction = GraphedPrediction(bench.model(architecture), panel, bench.batch)
    return {
        "train": lambda: step(bench.next_rows(), 1e-4),
        "predict": lambda: prediction(bench.next_rows()),
    }


def _cuda_variants(bench: _Bench) -> Variants:
    out: Variants = {"bilstm": _plain(bench, "bilstm")}
    if "mamba_ssm" in available_backends(bench.device):
        out["mamba_ssm_blocks"] = _eager(bench, on_mamba_ssm_blocks(bench.model("mamba_attention")))
    for backend in ("mamba_ssm", "triton"):  # mamba_ssm through the adapter, its transposes included
        if backend in available_backends(bench.device):
            out[f"mamba_{backend}"] = _plain(bench, "mamba_attention", backend)
    if "mamba_triton" in out:
        model = bench.model("mamba_attention")
        compiled = torch.compile(bench.model("mamba_attention").eval(), dynamic=False)
        out["mamba_triton_compiled"] = {
            "train": functools.partial(bench.step(model, compile=True), *bench.fixed, 1e-4),
            "predict": bench.predict(compiled),  # type: ignore[arg-type]
        }
        out["mamba_triton_graph_with_panel"] = _graphed(bench, "mamba_attention")
    return out


def _in_turns(variants: Variants, repeats: int) -> dict[tuple[str, str], tuple[float, float]]:
    """(median wall seconds, least processor seconds) by (variant, train or predict): every repeat calls all of them."""
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for repeat in range(repeats + 1):
        for name, calls in variants.items():
            for what, call in calls.items():
                begin, processor = time.perf_counter(), time.process_time()
                call()
                taken = time.perf_counter() - begin, time.process_time() - processor
                if repeat:  # the first round compiles and warms up
                    times.setdefault((name, what), []).append(taken)
    return {
        key: (statistics.median(wall for wall, _ in taken), min(processor for _, processor in taken))
        for key, taken in times.items()
    }


def run(
    device: str = "auto",
    repeats: int = 5,
    *,
    batch: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rows by variant, `samples_per_s` and `predict_samples_per_s` by variant, and ratios of training steps.

    Ratios are of our fastest variant in the precision of the others; on a CPU `bf16_over_...` are of ours in bf16.
    Batch 8192 in bf16 on CUDA, 256 on a CPU, there in fp32 and in bf16. On a CPU the variants take turns, so that
    another program disturbs all of them alike, and rows also hold the least processor time of a call (all threads).
    """
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    bench = _Bench(where, batch or (8192 if where.type == "cuda" else 256), repeats)
    about = {**environment(where), "batch": bench.batch, "precision": bench.precision, "preset": "small"}
    errors = {b: bench.error(b) for b in available_backends(where)}
    if "mamba_ssm" in errors:
        errors["ssm_blocks"] = bench.error_of_blocks()
    limits = dict.fromkeys(errors, _LIMITS[bench.precision])
    if where.type == "cpu" and AVAILABLE:
        errors["cpu_bf16"], limits["cpu_bf16"] = bench.error("cpu", "bf16"), _LIMITS["bf16"]
    wrong = [backend for backend, error in errors.items() if not error < limits[backend]]
    variants = _cuda_variants(bench) if where.type == "cuda" else _cpu_variants(bench)
    rows: list[dict[str, Any]] = []
    for done, (name, calls) in enumerate(variants.items()):
        if progress is not None:
            progress(done, len(variants))
        backend = next((b for b in sorted(errors, key=len, reverse=True) if name.startswith(f"mamba_{b}")), None)
        row: dict[str, Any] = {"variant": name, "correct": backend not in wrong, **about}
        if name.endswith("_bf16"):
            row["precision"] = "bf16"
        if row["correct"] and where.type != "cpu":
            for what, call in calls.items():
                taken = bench.seconds(call)
                row[f"{what}_ms"], row[f"{what}_samples_per_s"] = taken * 1e3, bench.batch / taken
        rows.append(row)
    if where.type == "cpu":
        right = {row["variant"]: row for row in rows if row["correct"]}
        for (name, what), (taken, processor) in _in_turns({n: variants[n] for n in right}, repeats).items():
            row = right[name]
            row[f"{what}_ms"], row[f"{what}_samples_per_s"] = taken * 1e3, bench.batch / taken
            row[f"{what}_processor_ms"] = processor * 1e3
    if progress is not None:
        progress(len(variants), len(variants))
    train = {row["variant"]: row.get("train_samples_per_s") for row in rows}
    best = "mamba_cpu" if where.type == "cpu" else "mamba_triton_graph_with_panel"

    predict = {r["variant"]: r["predict_samples_per_s"] for r in rows if "predict_samples_per_s" in r}

    def ratio(other: str, ours: str = best, of: dict[str, Any] = train) -> float | None:
        return of[ours] / of[other] if of.get(ours) and of.get(other) else None

    half = "mamba_cpu_bf16"
    return {
        "samples_per_s": train,
        "predict_samples_per_s": predict,
        "predict_ratio_over_bilstm": ratio("bilstm", of=predict),
        "predict_bf16_over_bilstm_bf16": ratio("bilstm_bf16", half, predict),
        "bf16_over_naive": ratio("mamba_naive", half),
        "bf16_over_bilstm": ratio("bilstm", half),
        "bf16_over_bilstm_bf16": ratio("bilstm_bf16", half),
        "ratio_over_bilstm": ratio("bilstm"),
        "ratio_over_naive": ratio("mamba_naive"),
        "ratio_over_naive_scan": ratio("mamba_cpu_with_naive_scan"),
        "ratio_over_mamba_ssm": ratio("mamba_mamba_ssm"),
        "ratio_over_mamba_ssm_blocks": ratio("mamba_ssm_blocks"),
        "correct": not wrong,
        "errors": errors,
        "parameters": {a: count_parameters(bench.model(a)) for a in ("mamba_attention", "bilstm")},
        "environment": about,
        "rows": rows,
    }
