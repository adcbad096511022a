"""Runs the Triton kernels on the CPU in Triton's interpreter and prints relative errors as JSON.

A process of its own (`python -m k4_pipeline_tests.kernels.triton_cases`), because TRITON_INTERPRET must be set before
triton is imported. Sizes are small: the interpreter needs about a millisecond per bar and program.
"""

from __future__ import annotations

import json
import os
import sys
from unittest import mock

os.environ["TRITON_INTERPRET"] = "1"

import torch

from k4_pipeline.kernels.selective_scan import selective_scan
from k4_pipeline.kernels.selective_scan.triton_op import Tiles
from k4_pipeline_tests.kernels.scan_cases import errors_against_float64, make_inputs, relative_error, run
from k4_pipeline_tests.kernels.test_causal_conv import make as make_conv, run as run_conv

SMALL = {"forward_channels": 16, "backward_channels": 16}


def _poisoned_empty(*size, **options):  # type: ignore[no-untyped-def]
    shape = size[0] if isinstance(size[0], (tuple, torch.Size)) else size
    return torch.full(shape, float("nan"), dtype=options.get("dtype", torch.float32))


def _errors(*shape: int, without: tuple[str, ...] = (), dt_softplus: bool = True, dtype=torch.float32, **tiles):
    inputs = {**make_inputs(*shape, dtype=dtype), **dict.fromkeys(without)}
    if not dt_softplus:
        inputs["dt"] = inputs["dt"].abs()
        inputs["dt_bias"] = None if inputs["dt_bias"] is None else inputs["dt_bias"].abs()
    with mock.patch("k4_pipeline.kernels.selective_scan.triton_op.torch.empty", _poisoned_empty):
        if not tiles:
            return errors_against_float64(inputs, backend="triton", dt_softplus=dt_softplus)
        with mock.patch("k4_pipeline.kernels.selective_scan.triton_op.choose_tiles", return_value=Tiles(**tiles)):
            return errors_against_float64(inputs, backend="triton", dt_softplus=dt_softplus)


def _repeats() -> float:
    inputs = make_inputs(3, 9, 20, 16)
    first, second = (run(inputs, torch.ones_like(inputs["u"]), backend="triton") for _ in range(2))
    same = torch.equal(first[0], second[0]) and all(torch.equal(first[1][k], second[1][k]) for k in first[1])
    return 0.0 if same else float("nan")


def _conv(length: int, channels: int, width: int = 4, padding: bool = True, dtype=torch.float32) -> dict[str, float]:
    x, weight, bias = make_conv(3, length, channels, width, dtype)
    grad_y = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    first = torch.tensor([0, length // 2, length]) if padding else None
    with mock.patch("k4_pipeline.kernels.causal_conv.triton_op.torch.empty", _poisoned_empty):
        got = run_conv(x, weight, bias, grad_y, first_valid=first, backend="triton")
    exact = run_conv(*(v.double() for v in (x, weight, bias, grad_y)), first_valid=first, backend="naive")
    names = ("y", "dx", "dweight", "dbias")
    return {name: relative_error(a, b) for name, a, b in zip(names, got, exact)}


def _strided() -> float:
    inputs = make_inputs(2, 6, 16, 16)
    expected = selective_scan(**inputs, backend="triton")
    both = torch.full((2, 6, 32), float("nan"))
    both[..., 16:] = inputs["z"]
    packed = torch.full((2, 6, 36), float("nan"))
    packed[..., 4:20], packed[..., 20:] = inputs["B"], inputs["C"]
    views = {"z": both[..., 16:], "B": packed[..., 4:20], "C": packed[..., 20:]}
    return 0.0 if torch.equal(selective_scan(**{**inputs, **views}, backend="triton"), expected) else float("nan")


CASES = {
    **{f"length {n}": lambda n=n: _errors(1, n, 5, 16) for n in (1, 7, 50, 63, 128)},
    **{f"channels {n}": lambda n=n: _errors(1, 7, n, 4, **SMALL, bars=3) for n in (1, 16, 33)},
    **{f"d_state {n}": lambda n=n: _errors(1, 6, 5, n) for n in (1, 2, 4, 8, 32, 64)},
    "no z": lambda: _errors(1, 7, 17, 16, without=("z",), **SMALL),
    "no D, no bias": lambda: _errors(1, 7, 17, 16, without=("D", "dt_bias"), **SMALL),
    "no softplus": lambda: _errors(1, 7, 17, 4, dt_softplus=False, **SMALL),
    "chunks that divide the length": lambda: _errors(2, 10, 16, 16, **SMALL, bars=5, rows=2, keep_decays=True),
    "rows that do not divide the batch": lambda: _errors(3, 4, 16, 16, **SMALL, bars=5, rows=2),
    "blocks of channels in programs of their own": lambda: _errors(3, 7, 40, 16, **SMALL, bars=5, whole_rows=False),
    "blocks of channels one after the other": lambda: _errors(3, 7, 40, 16, **SMALL, bars=5, rows=2),
    "bf16": lambda: _errors(2, 11, 20, 16, dtype=torch.bfloat16, **SMALL),
    **{f"conv {n} {c}": lambda n=n, c=c: _conv(n, c) for n, c in ((1, 5), (3, 16), (7, 33), (50, 8), (130, 3))},
    "conv without padding": lambda: _conv(9, 12, padding=False),
    "conv of two taps": lambda: _conv(9, 12, width=2),
    "conv bf16": lambda: _conv(9, 12, dtype=torch.bfloat16),
    "repeats": lambda: {"bits": _repeats()},
    "strided": lambda: {"bits": _strided()},
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    json.dump({name: case() for name, case in CASES.items()}, sys.stdout)
