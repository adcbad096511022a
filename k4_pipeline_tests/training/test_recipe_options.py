"""Options of the loop: balanced weights, prior correction, averaged weights, two phases, no validation, context."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from k4_pipeline.config import LossConfig, ModelConfig, TrainConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.losses import balanced
from k4_pipeline.models import build_model
from k4_pipeline.training import train
from k4_pipeline.training.resume import Resume
from k4_pipeline.training.step import TrainStep

PLAIN = LossConfig(gamma_neg=0.0, label_smoothing=0.0, balance="sqrt_inverse")
CONFIG = TrainConfig(
    epochs=2, batch_size=32, patience=2, device="cpu", monitor="log_loss", ema_decay=0.9, prior_correction=True
)


class Source:
    """96 sequences of five bars whose class stands in their context, four features and three context features."""

    def __init__(self, n: int = 96, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.targets = rng.choice(6, n, p=[0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
        self.x = torch.from_numpy(rng.normal(size=(n, 5, 4)).astype(np.float32))
        self.context = rng.normal(size=(n, 3)).astype(np.float32)
        self.context[:, 0] += 2 * self.targets
        self.context[::9, 1] = np.nan

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, i):
        i = np.asarray(i)
        x = self.x[i]
        return x, torch.ones(x.shape[:2], dtype=torch.bool), torch.from_numpy(self.targets[i]), None

    def bar_context(self, i):
        return torch.from_numpy(self.context[np.asarray(i)])


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm", "no_sequence", "tabm"])
def test_every_architecture_learns_from_the_context(architecture):
    model = ModelConfig(architecture=architecture, preset="micro", dropout=0.0)
    config = dataclasses.replace(CONFIG, epochs=15, learning_rate=1e-2, patience=15)
    found = train(model, config, PLAIN, Source(500), Source(200, 1))
    assert found.monitor_value < 1.2
    assert found.monitor_value == min(h["validation_log_loss"] for h in found.history)
    with pytest.raises(BadInputError, match="pass the context"):
        found.model(torch.zeros(2, 5, 4), torch.ones(2, 5, dtype=torch.bool))


def test_balanced_weights_have_mean_one_over_the_rows_and_can_be_taken_out_again():
    counts = np.array([500, 200, 100, 100, 10, 0])
    weights = np.array(balanced(PLAIN, counts).class_weights)
    frequency = (counts + 0.5) / (counts + 0.5).sum()
    assert (weights * frequency).sum() == pytest.approx(1.0)
    assert weights[4] / weights[0] == pytest.approx((frequency[0] / frequency[4]) ** 0.5)
    assert balanced(LossConfig(), counts) == LossConfig()
    assert set(np.round(balanced(dataclasses.replace(PLAIN, balance="none"), counts).class_weights, 12)) == {1.0}


def test_the_prior_correction_brings_the_mean_probability_back_to_the_frequency():
    model = ModelConfig(architecture="no_sequence", preset="micro", dropout=0.0)
    source = Source(600)
    config = dataclasses.replace(CONFIG, epochs=6, learning_rate=3e-3, batch_size=64, patience=6)
    found = train(model, config, PLAIN, source, Source(64, 1))
    x, mask, y, _ = source.batch(np.arange(600))
    with torch.no_grad():
        logits = found.model(x, mask, source.bar_context(np.arange(600)))
    weighted = torch.softmax(logits, -1)[:, 4].mean()
    corrected = torch.softmax(logits - torch.log(torch.tensor(found.class_weights)), -1)[:, 4].mean()
    frequency = float((y == 4).float().mean())
    assert abs(float(corrected) - frequency) < abs(float(weighted) - frequency)
    assert float(corrected) == pytest.approx(frequency, abs=0.02)


def test_the_average_follows_its_definition():
    torch.manual_seed(0)
    model = build_model(ModelConfig(architecture="no_sequence", preset="micro", dropout=0.0), 4, n_context=3)
    from k4_pipeline.losses import AsymmetricLoss

    step = TrainStep(model, AsymmetricLoss(balanced(PLAIN, np.ones(6))), CONFIG)
    expected = [p.detach().clone().double() for p in model.parameters()]
    source = Source()
    for t in range(5):
        x, mask, y, _ = source.batch(np.arange(t * 8, t * 8 + 8))
        step(x, mask, y, None, 1e-2, source.bar_context(np.arange(t * 8, t * 8 + 8)))
        share = 1.0 - min(0.9, (1 + t) / (10 + t))
        expected = [e + share * (p.detach().double() - e) for e, p in zip(expected, model.parameters())]
    assert all(torch.allclose(a.double(), e, atol=1e-6) for a, e in zip(step.average, expected))
    own = [p.detach().clone() for p in model.parameters()]
    with step.averaged():
        assert all(torch.equal(p, a) for p, a in zip(model.parameters(), step.average))
    assert all(torch.equal(p, o) for p, o in zip(model.parameters(), own))


def test_a_second_phase_goes_on_from_the_first_and_without_validation_all_epochs_run():
    model = ModelConfig(architecture="no_sequence", preset="micro", dropout=0.0)
    first = train(model, CONFIG, PLAIN, Source(), None)
    assert (first.best_epoch, first.validation_rows, first.monitor_name) == (2, 0, "none")
    frozen = dataclasses.replace(CONFIG, epochs=1, learning_rate=1e-12, ema_decay=0.0)
    second = train(model, frozen, PLAIN, Source(64, 3), None, initial=first.model.state_dict())
    for name, value in first.model.state_dict().items():
        assert torch.allclose(second.model.state_dict()[name], value, atol=1e-6), name


def test_a_killed_run_with_averaged_weights_ends_with_the_same_bits(tmp_path):
    model, longer = ModelConfig(preset="micro"), dataclasses.replace(CONFIG, epochs=3, patience=3)
    whole = train(model, longer, PLAIN, Source(), Source(64, 1))

    class Killed(Exception):
        pass

    def kill(done, total):
        if done == 8:  # in the third epoch of three steps each
            raise Killed

    with pytest.raises(Killed):
        train(model, longer, PLAIN, Source(), Source(64, 1), progress=kill, resume=Resume(tmp_path, "k"))
    again = train(model, longer, PLAIN, Source(), Source(64, 1), resume=Resume(tmp_path, "k"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert again.history == whole.history


def test_a_network_without_sequence_or_context_is_refused():
    with pytest.raises(ConfigError, match=r"recipe\.context"):
        build_model(ModelConfig(architecture="no_sequence", preset="micro"))
