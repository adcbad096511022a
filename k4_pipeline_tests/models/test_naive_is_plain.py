"""A model of backend `naive` is plain PyTorch from end to end: the reference that shares nothing with the others."""

from __future__ import annotations

import subprocess
import sys

from torch import nn

from k4_pipeline.config import ModelConfig
from k4_pipeline.models import build_model
from k4_pipeline.models.input_layer import InputLayer


def test_its_layers_are_torchs_own() -> None:
    model = build_model(ModelConfig(preset="tiny", backend="naive"))
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Dropout))]
    assert {type(layer) for layer in layers} == {nn.Linear, nn.Dropout, InputLayer}
    assert model.input.product is nn.functional.linear


def test_it_trains_and_predicts_without_any_compiled_kernel() -> None:
    code = (
        "import sys\n"
        "sys.modules['numba'] = sys.modules['triton'] = None\n"
        "import torch\n"
        "def refuse(*args): raise AssertionError('oneDNN directly')\n"
        "import k4_pipeline.kernels.linear as fast; fast._product = refuse\n"
        "from k4_pipeline.config import ModelConfig\n"
        "from k4_pipeline.models import build_model\n"
        "model = build_model(ModelConfig(preset='tiny', backend='naive'))\n"
        "x, mask = torch.randn(32, 50, 69), torch.ones(32, 50, dtype=torch.bool)\n"
        "model(x, mask).sum().backward()\n"
        "with torch.inference_mode(): model.eval()(x, mask)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
