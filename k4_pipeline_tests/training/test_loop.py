"""The training loop: it learns, it repeats itself bit by bit, it stops and restores, it says what went wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from k4_pipeline.config import LossConfig, ModelConfig, TrainConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.losses import AsymmetricLoss, weighted_log_prior
from k4_pipeline.models import build_model
from k4_pipeline.training import TrainingDivergedError, TrainResult, predict_logits, train
from k4_pipeline.training.loop import _Run
from k4_pipeline_tests.training.toy import ToySource, toy_source

TINY = ModelConfig(preset="tiny", dropout=0.1)
QUICK = TrainConfig(epochs=3, batch_size=32, device="cpu")
PLAIN = LossConfig(class_weights=(1.0,) * 6)


def run(train_config: TrainConfig = QUICK, model: ModelConfig = TINY, **toy: object) -> TrainResult:
    return train(model, train_config, LossConfig(), toy_source(**toy), toy_source(seed=1, **toy))


def test_it_learns_what_there_is_to_learn() -> None:
    config = TrainConfig(epochs=6, batch_size=32, learning_rate=3e-3, monitor="loss", device="cpu")
    sets = [toy_source(n, seed, length=12, signal=3.0) for n, seed in ((256, 0), (128, 1))]
    result = train(TINY, config, PLAIN, *sets)
    assert result.history[result.best_epoch - 1]["validation_accuracy"] > 0.7  # chance is about 0.17
    assert result.history[-1]["train_loss"] < 0.6 * result.history[0]["train_loss"]


@pytest.mark.parametrize("architecture", ["mamba_attention", "bilstm"])
def test_two_runs_with_one_seed_give_identical_bits(architecture: str) -> None:
    model = ModelConfig(architecture=architecture, preset="tiny")
    first, second = run(model=model, n=64, length=10), run(model=model, n=64, length=10)
    assert first.history == second.history
    states = first.model.state_dict(), second.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_another_seed_gives_another_model_and_the_global_generator_is_left_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = run(TrainConfig(epochs=1, batch_size=32, device="cpu", seed=1), length=10)
    assert torch.equal(before, torch.get_rng_state())
    second = run(TrainConfig(epochs=1, batch_size=32, device="cpu", seed=2), length=10)
    assert first.history[0]["train_loss"] != second.history[0]["train_loss"]


def test_the_weights_of_the_best_epoch_come_back() -> None:
    validation = toy_source(seed=1, length=10)
    config = TrainConfig(epochs=8, batch_size=16, learning_rate=2e-2, monitor="loss", patience=8, device="cpu")
    result = train(TINY, config, LossConfig(), toy_source(48, length=10, signal=0.0), validation)
    losses = [epoch["validation_loss"] for epoch in result.history]
    assert result.best_epoch == 1 + int(np.argmin(losses))
    assert result.best_epoch < len(losses), "the run must overfit for this test to say anything"
    logits = predict_logits(result.model, validation)
    loss = AsymmetricLoss(LossConfig())(logits, torch.from_numpy(validation.targets)).loss.item()
    assert loss == pytest.approx(min(losses), rel=1e-6)
    assert not result.model.training


def test_it_stops_when_patience_runs_out() -> None:
    config = TrainConfig(epochs=40, batch_size=16, learning_rate=2e-2, monitor="loss", patience=2, device="cpu")
    result = train(
        TINY, config, LossConfig(), toy_source(48, length=6, signal=0.0), toy_source(seed=1, length=6, signal=0.0)
    )
    assert result.stopped_early
    assert len(result.history) == result.best_epoch + 2


def test_every_train_row_is_read_every_epoch_and_validation_rows_never_train() -> None:
    train_set, validation_set = toy_source(70, length=6), toy_source(30, seed=1, length=6)
    seen: list[int] = []
    original = train_set.batch
    train_set.batch = lambda i: (seen.extend(map(int, i)), original(i))[1]  # type: ignore[method-assign,func-returns-value]
    train(TINY, TrainConfig(epochs=2, batch_size=32, device="cpu"), LossConfig(), train_set, validation_set)
    seen = seen[1:]  # the first call asks row 0 for the number of features
    assert sorted(seen[:70]) == list(range(70))
    assert sorted(seen[70:]) == list(range(70))
    assert seen[:70] != seen[70:]


def test_without_k4_in_validation_the_loss_decides_and_the_result_says_so() -> None:
    validation = toy_source(seed=1, length=6)
    validation.targets[validation.targets == 4] = 0
    result = train(TINY, QUICK, LossConfig(), toy_source(length=6), validation)
    assert result.monitor_name == "loss"
    assert "no K4 row" in result.monitor_note
    assert result.history[0]["validation_k4_recall_at_budget"] is None
    json.dumps(result.summary(), allow_nan=False)


def test_few_k4_in_validation_are_pointed_out() -> None:
    validation = toy_source(seed=1, length=6)
    validation.targets[np.flatnonzero(validation.targets == 4)[3:]] = 0
    result = train(TINY, QUICK, LossConfig(), toy_source(length=6), validation)
    assert result.monitor_name == "k4_recall_at_budget"
    assert "only 3 K4 rows" in result.monitor_note


def test_the_head_starts_at_the_weighted_log_prior() -> None:
    config = TrainConfig(epochs=1, batch_size=64, learning_rate=1e-12, device="cpu")
    source = toy_source(64, length=6)
    result = train(TINY, config, LossConfig(), source, source)
    prior = weighted_log_prior(np.bincount(source.targets, minlength=6).tolist(), LossConfig())
    torch.testing.assert_close(result.model.head.logits.bias, prior, atol=1e-6, rtol=0)
    assert result.class_counts == np.bincount(source.targets, minlength=6).tolist()


def test_progress_counts_every_step_and_ends_full() -> None:
    calls: list[tuple[int, int]] = []
    source = toy_source(70, length=6)
    train(TINY, QUICK, LossConfig(), source, source, progress=lambda done, total: calls.append((done, total)))
    assert {total for _, total in calls} == {9}
    assert [done for done, _ in calls] == [*range(1, 10), 9]


def test_sample_weights_reach_the_loss() -> None:
    results = []
    for weights in (None, np.r_[np.ones(48), np.zeros(48)].astype(np.float32)):
        source = toy_source(length=6)
        source.weights = weights
        results.append(train(TINY, TrainConfig(epochs=1, batch_size=96, device="cpu"), LossConfig(), source, source))
    assert results[0].history[0]["train_loss"] != results[1].history[0]["train_loss"]


def test_an_exploding_run_ends_with_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = toy_source(length=6)
    config = TrainConfig(epochs=3, batch_size=32, learning_rate=1e30, warmup_frac=0.0, device="cpu")
    with pytest.raises(TrainingDivergedError, match=r"not finite at epoch 1, step .*lower learning_rate"):
        train(TINY, config, LossConfig(), source, source)


def test_inputs_with_nan_are_named_as_the_cause() -> None:
    source = toy_source(length=6)
    source.x[3, -1, 7] = float("nan")
    with pytest.raises(TrainingDivergedError, match="inputs themselves hold NaN"):
        train(TINY, QUICK, LossConfig(), source, toy_source(seed=1, length=6))


def test_an_all_padding_row_is_refused() -> None:
    source = toy_source(length=6)
    source.mask[5] = False
    with pytest.raises(BadInputError, match="all padding"):
        train(TINY, QUICK, LossConfig(), source, toy_source(seed=1, length=6))


def test_empty_unlabelled_and_partly_labelled_sets_are_refused() -> None:
    good = toy_source(length=6)
    empty = ToySource(good.x[:0], good.mask[:0], good.targets[:0])
    unlabelled = ToySource(good.x, good.mask, None)
    partly = ToySource(good.x, good.mask, np.where(np.arange(96) == 7, -1, good.targets))
    for bad, words in ((empty, "train set is empty"), (unlabelled, "no targets"), (partly, "lowest -1")):
        with pytest.raises(BadInputError, match=words):
            train(TINY, QUICK, LossConfig(), bad, good)
    with pytest.raises(BadInputError, match="validation set is empty"):
        train(TINY, QUICK, LossConfig(), good, empty)


@pytest.mark.parametrize(
    "bad", [{"epochs": 0}, {"learning_rate": 0.0}, {"warmup_frac": 2.0}, {"monitor": "auc"}, {"precision": "fp8"}]
)
def test_settings_out_of_range_are_refused(bad: dict) -> None:
    source = toy_source(32, length=6)
    with pytest.raises(ConfigError):
        train(TINY, TrainConfig(**{"device": "cpu", **bad}), LossConfig(), source, source)


def test_bfloat16_trains_too() -> None:
    result = run(TrainConfig(epochs=1, batch_size=32, precision="bf16", device="cpu"), length=6)
    assert np.isfinite(result.history[0]["train_loss"])
    assert all(p.dtype == torch.float32 for p in result.model.parameters())


def test_one_row_is_enough_to_run() -> None:
    source = toy_source(1, length=6)
    assert len(train(TINY, QUICK, LossConfig(), source, source).history) >= 1


def test_the_run_holds_no_third_set() -> None:
    # The signature is the proof that no test row can be seen; this keeps a later change from adding one unnoticed.
    import inspect

    assert list(inspect.signature(train).parameters) == [
        "model_config",
        "train_config",
        "loss_config",
        "train_set",
        "validation_set",
        "initial",
        "progress",
        "resume",
    ]
    assert "test" not in " ".join(inspect.signature(_Run.__init__).parameters)
    assert build_model(TINY).n_classes == 6
