"""What needs a GPU: a CUDA checkpoint on the CPU, batches and graphs on the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from k4_pipeline.config import LossConfig, ModelConfig, TrainConfig, to_dict
from k4_pipeline.losses import AsymmetricLoss
from k4_pipeline.models import build_model
from k4_pipeline.training import load_checkpoint, predict_probabilities
from k4_pipeline.training.checkpoint import save_checkpoint
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline.training.graphs import GraphedStep
from k4_pipeline.training.loop import train
from k4_pipeline.training.step import TrainStep
from k4_pipeline_tests.training.panels import random_index, random_panel, scaler_for

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm"])
@pytest.mark.parametrize("compile", [False, True])
def test_a_model_trained_on_cuda_predicts_the_same_on_a_cpu(tmp_path: Path, architecture: str, compile: bool) -> None:
    panel, close = random_panel(3000)
    index = random_index(panel, close, n=60)
    scaler = scaler_for(panel, index)
    training = TrainConfig(epochs=3, batch_size=16, device="cuda", precision="bf16", compile=compile)
    model = ModelConfig(architecture=architecture, preset="small")

    def on(device: str, rows: np.ndarray) -> DeviceBatches:
        return DeviceBatches(panel, index, rows, scaler, rows % 6, device=device)

    result = train(model, training, LossConfig(gamma_neg=2.0), on("cuda", np.arange(30)), on("cuda", np.arange(30, 40)))
    assert result.device.startswith("cuda")
    rows = np.arange(40, 60)
    on_cuda = predict_probabilities(result.model, on("cuda", rows))
    save_checkpoint(tmp_path, result.model, {"config": {"model": to_dict(model)}, "scaler_json": scaler.to_json()})
    loaded, _ = load_checkpoint(tmp_path, "cpu")
    on_cpu = predict_probabilities(loaded, on("cpu", rows))
    print("largest difference in probability", np.abs(on_cuda - on_cpu).max())
    assert np.abs(on_cuda - on_cpu).max() < 1e-4


def test_batches_on_the_device_agree_with_the_reference() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    scaler = scaler_for(panel, index)
    rows = np.arange(len(index))
    cpu = DeviceBatches(panel, index, rows, scaler).batch(rows)[0]
    gpu = DeviceBatches(panel, index, rows, scaler, device="cuda").batch(rows)[0]
    assert (gpu.cpu() - cpu).abs().max() < 1e-5


def test_a_wide_batch_is_the_batch_rounded_and_zeros_behind_it() -> None:
    panel, close = random_panel()
    for exact in (close, None):
        index = random_index(panel, exact)
        batches = DeviceBatches(panel, index, np.arange(len(index)), scaler_for(panel, index), device="cuda")
        at = torch.arange(len(index), device="cuda").flip(0)
        x, mask, _, _ = batches.batch(at)
        wide, wide_mask, _, _ = batches.wide_batch(at)
        assert wide.dtype == torch.bfloat16
        assert wide.shape[-1] % 8 == 0
        assert torch.equal(mask, wide_mask)
        assert torch.equal(wide[..., : x.shape[-1]], x.bfloat16())
        assert (wide[..., x.shape[-1] :] == 0).all()


def test_a_replayed_graph_trains_like_plain_steps() -> None:
    panel, close = random_panel()
    index = random_index(panel, close)
    scaler = scaler_for(panel, index)
    targets = np.arange(len(index)) % 6
    batches = DeviceBatches(panel, index, np.arange(len(index)), scaler, targets, device="cuda")
    losses = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = build_model(ModelConfig(preset="tiny", dropout=0.0)).cuda()
        config = TrainConfig(compile=compile, device="cuda")
        step = TrainStep(model, AsymmetricLoss(LossConfig()).cuda(), config)
        graphed = GraphedStep(step, batches, 64) if compile else None
        losses.append([])
        for k in range(8):
            rows = np.random.default_rng(k).integers(0, len(index), 64)
            if graphed is None:
                x, mask, y, w = batches.batch(rows)
                result, _ = step(x, mask, y, w, 1e-3)
            else:
                result, _ = graphed(rows, 1e-3)
            losses[-1].append(float(result.loss))
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3)
