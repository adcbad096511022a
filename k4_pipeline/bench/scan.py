"""`k4 bench scan`: the selective scan by backend, at the shape of preset small.

Every backend first has to agree with the naive scan in float64, output and all gradients; one that does not is reported
as failed and not timed. All backends are timed in one run on the same values. mamba-ssm is timed in its own layout, on
inputs that already lie in it, which is its best case; the adapter with its transposes has a row of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from k4_pipeline.bench.environment import environment
from k4_pipeline.kernels.selective_scan import available_backends, selective_scan
from k4_pipeline.progress import Progress

Inputs = dict[str, Tensor]
# relative error ||x - exact|| / ||exact||: float32 arithmetic stays under 1e-5; bf16 inputs are the same numbers on
# both sides, so what is left is the rounding of results (2**-9) and, for sums over channels, of their bf16 terms
_LIMITS = {torch.float32: 1e-5, torch.bfloat16: 8e-3}
# mamba-ssm's own bf16 arithmetic (gated output rounded before it is used again) is a little coarser
_LIMITS_MAMBA_SSM = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


def make_inputs(
    batch: int, length: int, d_inner: int, d_state: int, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> Inputs:
    """Random operands in the ranges of a trained block; sequence operands in `dtype`, parameters in float32."""
    gen = torch.Generator(device=device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=gen, device=device)

    return {
        "u": normal(batch, length, d_inner).to(dtype),
        "dt": normal(batch, length, d_inner).to(dtype),
        "A": -torch.exp(torch.rand(d_inner, d_state, generator=gen, device=device) * 3.5 - 0.7),
        "B": normal(batch, length, d_state).to(dtype),
        "C": normal(batch, length, d_state).to(dtype),
        "D": normal(d_inner),
        "z": normal(batch, length, d_inner).to(dtype),
        "dt_bias": normal(d_inner) - 3.0,
    }


def _gradients(function: Callable[..., Tensor], inputs: Inputs, upstream: Tensor) -> dict[str, Tensor]:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    y = function(**leaves)
    grads = torch.autograd.grad(y, list(leaves.values()), upstream.to(y.dtype))
    return {"y": y.detach(), **{f"d{name}": grad for name, grad in zip(leaves, grads)}}


def correctness(backend: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Largest relative errors of `backend` against the float64 naive scan over a few lengths and channel counts."""
    limit = (_LIMITS_MAMBA_SSM if backend == "mamba_ssm" else _LIMITS)[dtype]
    worst: dict[str, float] = {}
    ok = True
    for seed, (batch, length, d_inner) in enumerate([(3, 1, 16), (2, 7, 32), (3, 50, 256), (2, 63, 48)]):
        inputs = make_inputs(batch, length, d_inner, 16, dtype, device, seed)
        upstream = torch.randn(batch, length, d_inner, device=device).to(dtype)
        got = _gradients(lambda **given: selective_scan(**given, backend=backend), inputs, upstream)
        doubled = {name: value.double() for name, value in inputs.items()}
        exact = _gradients(lambda **given: selective_scan(**given, backend="naive"), doubled, upstream.double())
        for name, reference in exact.items():
            scale = reference.norm().item()
            error = (got[name].double() - reference).norm().item() / (scale if scale > 0 else 1.0)
            ok = ok and error < limit  # NaN fails
            worst[name] = max(worst.get(name, 0.0), error) if error == error else float("nan")
    return {"ok": ok, "limit": limit, "errors": worst}


Effort = tuple[int, float]  # calls to time at least, and the seconds that may be spent on more of them


def _milliseconds(function: Callable[[], Any], device: torch.device, effort: Effort) -> float:
    """Median time of one call: device events on CUDA, the host clock elsewhere; warmed up first."""
    repeats, seconds = effort
    for _ in range(2):
        function()
    if device.type != "cuda":
        times: list[float] = []
        begin = time.perf_counter()
        while len(times) < repeats or (time.perf_counter() - begin < seconds and len(times) < 200):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        return statistics.median(times) * 1e3
    torch.cuda.synchronize(device)
    begin = time.perf_counter()
    function()
    torch.cuda.synchronize(device)
    count = int(min(200, max(repeats, seconds / max(time.perf_counter() - begin, 1e-4))))
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(count)]
    for first, last in events:
        first.record()
        function()
        last.record()
    torch.cuda.synchronize(device)
    return statistics.median(first.elapsed_time(last) for first, last in events)


def _time(function: Callable[..., Tensor], inputs: Inputs, device: torch.device, effort: Effort) -> dict[str, float]:
    leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    upstream = torch.randn_like(function(**inputs))
    values = list(leaves.values())

    def forward() -> None:
        with torch.no_grad():
            function(**inputs)

    def both() -> None:
        torch.autograd.grad(function(**leaves), values, upstream)

    return {
        "forward_ms": _milliseconds(forward, device, effort),
        "forward_backward_ms": _milliseconds(both, device, effort),
    }


def _mamba_ssm_native(inputs: Inputs) -> tuple[Callable[..., Tensor], Inputs]:
    from k4_pipeline.kernels.selective_scan.mamba_ssm_adapter import native_scan, to_native

    turned = to_native(inputs["u"], inputs["dt"], inputs["B"], inputs["C"], inputs["z"])
    native = {name: value for name, value in turned.items() if value is not None}
    return native_scan, {**native, "A": inputs["A"], "D": inputs["D"], "delta_bias": inputs["dt_bias"]}


def _floors(inputs: Inputs, device: torch.device) -> dict[str, float]:
    """Least bytes of either pass (operands read once, results written once) at the copy bandwidth measured."""
    wide = inputs["u"].numel() * inputs["u"].element_size()
    narrow = inputs["B"].numel() * inputs["B"].element_size()
    source = torch.empty(2**28, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    milliseconds = _milliseconds(lambda: target.copy_(source), device, (5, 0.2))
    rate = 2 * source.numel() * 4 / milliseconds  # bytes per ms
    forward = 4 * wide + 2 * narrow
    backward = 7 * wide + 4 * narrow
    return {
        "copy_gb_per_s": rate / 1e6,
        "forward_byte_floor_ms": forward / rate,
        "forward_backward_byte_floor_ms": (forward + backward) / rate,
    }


def run(
    device: str = "auto",
    repeats: int = 5,
    *,
    batch: int | None = None,
    length: int = 50,
    d_inner: int = 256,
    d_state: int = 16,
    seconds: float = 1.0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Rows by backend and the two ratios (speed of one over the other for forward + backward; None: not measured).

    Default shape: batch 4096 in bf16 on CUDA, batch 256 in fp32 on a CPU. Every time is the median of `repeats` calls,
    of more where `seconds` allow.
    """
    where = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    on_gpu = where.type == "cuda"
    batch = batch or (4096 if on_gpu else 256)
    dtype = torch.bfloat16 if on_gpu else torch.float32
    inputs = make_inputs(batch, length, d_inner, d_state, dtype, where)
    shape = {"batch": batch, "length": length, "d_inner": d_inner, "d_state": d_state, "dtype": str(dtype)[6:]}
    about = environment(where)
    backends = available_backends(where)
    rows: list[dict[str, Any]] = []
    for done, backend in enumerate(backends):
        if progress is not None:
            progress(done, len(backends))
        gate = correctness(backend, dtype, where)
        row = {"backend": backend, **shape, **about, "correct": gate["ok"], "errors": gate["errors"]}
        if gate["ok"]:
            row.update(
                _time(
                    lambda backend=backend, **given: selective_scan(**given, backend=backend),
                    inputs,
                    where,
                    (repeats, seconds),
                )
            )
        rows.append(row)
        if backend == "mamba_ssm" and gate["ok"]:
            function, native = _mamba_ssm_native(inputs)
            rows.append(
                {**row, "backend": "mamba_ssm_native_layout", **_time(function, native, where, (repeats, seconds))}
            )
    if progress is not None:
        progress(len(backends), len(backends))

    def ratio(faster: str, slower: str) -> float | None:
        times = {row["backend"]: row.get("forward_backward_ms") for row in rows}
        if times.get(faster) is None or times.get(slower) is None:
            return None
        return times[slower] / times[faster]  # type: ignore[operator]

    return {
        "rows": rows,
        "correct": all(row["correct"] for row in rows),
        "ratio_triton_over_mamba_ssm": ratio("triton", "mamba_ssm_native_layout"),
        "ratio_cpu_over_naive": ratio("cpu", "naive"),
        **(_floors(inputs, where) if on_gpu else {}),
    }
