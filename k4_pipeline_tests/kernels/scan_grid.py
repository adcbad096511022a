"""The parameter grid of a peer's scan test, as ours: every backend, three precisions, float64 as the reference.

After tests/ops/test_selective_scan.py of state-spaces/mamba (Apache 2.0): its ranges of values, its layout (channels
before bars, here as transposed views), with and without D, z, bias and softplus, lengths from 1 to 372. Parameters are
float32, the operands of the sequence have the precision of the case.

`python -m k4_pipeline_tests.kernels.scan_grid --backend triton [--sample N] [--shard I/N]` runs cases in a process of
its own (with TRITON_INTERPRET=1 in Triton's interpreter) and prints JSON; status 1 when a case misses its limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from k4_pipeline.kernels.selective_scan import selective_scan
from k4_pipeline.kernels.selective_scan.dispatch import triton_interpreted
from k4_pipeline_tests.kernels.scan_cases import relative_error

LENGTHS = (1, 2, 49, 50, 51, 128, 372)
STATES = {4: 8, 256: 16}  # width -> d_state
BATCH = 2
# ||x - exact|| / ||exact||. float32: 6e-8 per rounding, sums over up to 372 bars. Halves: the operands are the same
# numbers on both sides and the state is float32, so what is left is the rounding of each result (2**-9 and 2**-12) and,
# in bf16 on tensor cores, that of the terms of the sums over channels.
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2.0**-7, torch.float16: 2.0**-10}


@dataclass(frozen=True)
class Case:
    """One point of the grid."""

    dtype: torch.dtype
    length: int
    width: int
    has_d: bool
    has_z: bool
    has_bias: bool
    softplus: bool

    def __str__(self) -> str:
        on = [name for name in ("has_d", "has_z", "has_bias", "softplus") if getattr(self, name)]
        return f"{str(self.dtype)[6:]} length {self.length} width {self.width} {' '.join(on) or 'plain'}"


def cases() -> list[Case]:
    """All 672, neighbours differing in length last, so that one compiled kernel meets its lengths in a row."""
    flags = list(itertools.product((True, False), repeat=4))
    return [Case(d, n, w, *f) for d in LIMITS for w in STATES for f in flags for n in LENGTHS]


def cheap() -> list[Case]:
    """Those that Triton's interpreter runs in about a second: a bar of a program takes it milliseconds."""
    return [case for case in cases() if case.width * case.length <= 204]


def sampled(every: list[Case], count: int) -> list[Case]:
    """`count` cases; the step shares no factor with the grid's periods, so that every length and flag comes up."""
    return [every[i * 109 % len(every)] for i in range(min(count, len(every)))]


def operands(case: Case, device: str) -> tuple[dict[str, Tensor | None], Tensor]:
    """Inputs of the scan and the gradient of its result; half of the cases lie channels before bars in memory."""
    gen = torch.Generator().manual_seed(case.length * 1000 + case.width)
    shape, states = (BATCH, case.width, case.length), (BATCH, STATES[case.width], case.length)
    draw = {"u": torch.randn, "dt": torch.rand, "B": torch.randn, "C": torch.randn, "z": torch.randn, "dy": torch.randn}
    turned = {}
    for name, random in draw.items():
        values = random(states if name in "BC" else shape, generator=gen)
        values = (0.5 * values if name == "dt" else values).to(device, case.dtype).transpose(1, 2)
        turned[name] = values if case.has_d != case.has_z else values.contiguous()
    given: dict[str, Tensor | None] = {
        **turned,
        "A": (-0.5 * torch.rand(case.width, STATES[case.width], generator=gen)).to(device),
        "D": torch.randn(case.width, generator=gen).to(device) if case.has_d else None,
        "dt_bias": 0.5 * torch.rand(case.width, generator=gen).to(device) if case.has_bias else None,
    }
    if not case.has_z:
        given["z"] = None
    return given, given.pop("dy")  # type: ignore[return-value]


def _run(given: dict[str, Tensor | None], dy: Tensor, backend: str, softplus: bool) -> dict[str, Tensor]:
    leaves = {name: value.detach().requires_grad_() for name, value in given.items() if value is not None}
    y = selective_scan(**{**given, **leaves}, dt_softplus=softplus, backend=backend)
    return {"y": y.detach(), **dict(zip(leaves, torch.autograd.grad(y, list(leaves.values()), dy)))}


def worst_errors(case: Case, backends: tuple[str, ...], device: str) -> dict[str, float]:
    """By backend the largest relative error of the result and of every gradient; NaN where one is."""
    given, dy = operands(case, device)
    doubled = {name: None if value is None else value.double() for name, value in given.items()}
    exact = _run(doubled, dy.double(), "naive", case.softplus)
    out = {}
    for backend in backends:
        got = _run(given, dy, backend, case.softplus)
        errors = [relative_error(got[name], exact[name]) for name in exact]
        out[backend] = float("nan") if any(e != e for e in errors) else max(errors)
    return out


def main() -> int:
    """Runs the cases that were asked for; 1 when one of them misses its limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="triton")
    parser.add_argument("--sample", type=int, default=10**9)
    parser.add_argument("--shard", default="0/1")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() and not triton_interpreted() and given.backend != "cpu" else "cpu"
    part, parts = map(int, given.shard.split("/"))
    chosen = sampled(cheap() if triton_interpreted() else cases(), given.sample) if given.sample < 10**9 else cases()
    size = -(-len(chosen) // parts)
    begin, errors = time.perf_counter(), {}
    for case in chosen[part * size : (part + 1) * size]:
        errors[str(case)] = worst_errors(case, (given.backend,), device)[given.backend]
        print(f"{time.perf_counter() - begin:.1f} s {case}: {errors[str(case)]:.2g}", file=sys.stderr, flush=True)
    limits = {str(case): LIMITS[case.dtype] for case in chosen}
    missed = {name: error for name, error in errors.items() if not error < limits[name]}
    worst = {
        str(dtype)[6:]: max((e for n, e in errors.items() if limits[n] == limit), default=0.0)
        for dtype, limit in LIMITS.items()
    }
    seconds = round(time.perf_counter() - begin, 1)
    json.dump(
        {"cases": len(errors), "missed": missed, "worst": worst, "seconds": seconds, "device": device}, sys.stdout
    )
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
