"""The Triton convolution (in Triton's interpreter where there is no GPU) against float64, output and all gradients."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from k4_pipeline.kernels.causal_conv import causal_conv, causal_conv_naive

CASES = [  # batch, length, channels, width, with bias, with padding
    (3, 50, 40, 4, True, True),
    (2, 1, 16, 4, True, True),
    (2, 7, 24, 3, False, True),
    (1, 100, 16, 4, True, False),
]


def compare_with_float64(device: str = "cpu") -> None:
    """Run by the tests below: on a GPU directly, elsewhere in a process with the interpreter switched on."""
    for seed, (batch, length, channels, width, with_bias, padded) in enumerate(CASES):
        generator = torch.Generator().manual_seed(seed)
        wide = torch.randn(batch, length, 2 * channels, generator=generator)
        weight, bias, dy = (
            torch.randn(s, generator=generator) for s in ((channels, width), (channels,), (batch, length, channels))
        )
        first = torch.randint(0, length, (batch,), generator=generator) if padded else None
        for dtype, limit in ((torch.float32, 2e-6), (torch.bfloat16, 6e-3)):
            results = []
            for kind, function in ((dtype, lambda *a, **k: causal_conv(*a, **k, backend="triton")),
                                   (torch.float64, causal_conv_naive)):  # fmt: skip
                # half of a wider tensor: the strides of a chunked projection
                x = wide.to(dtype).to(device, kind)[..., channels:].detach().requires_grad_()
                exact = torch.float64 if kind == torch.float64 else torch.float32
                w, b = (p.to(device, exact).detach().requires_grad_() for p in (weight.clone(), bias.clone()))
                given = None if first is None else first.to(device)
                y = function(x, w, b if with_bias else None, first_valid=given)
                y.backward(dy.to(dtype).to(device, kind))
                results.append([y.detach(), x.grad, w.grad, *([b.grad] if with_bias else [])])
            for ours, expected in zip(*results, strict=True):
                error = (ours.double() - expected).norm() / expected.norm().clamp(min=1e-12)
                assert error < limit, (seed, dtype, error)
            if first is not None:
                before = torch.arange(length)[None, :] < first[:, None]
                assert (results[0][0].cpu()[before] == 0).all()
                assert (results[0][1].cpu()[before] == 0).all()


def test_the_triton_convolution_agrees_with_float64_in_the_interpreter() -> None:
    pytest.importorskip("triton")
    code = "from k4_pipeline_tests.kernels.test_triton_conv import compare_with_float64 as run; run()"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.gpu
def test_the_triton_convolution_agrees_with_float64_on_the_device() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    compare_with_float64("cuda")
