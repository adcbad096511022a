"""The training loop: epochs over the train rows, early stopping on the validation rows, the best weights at the end.

It is handed two sets and knows no third one; test rows cannot reach it.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.config import K4, N_CLASSES, LossConfig, ModelConfig, TrainConfig
from k4_pipeline.errors import ConfigError, K4Error
from k4_pipeline.losses import AsymmetricLoss, LossResult, balanced, weighted_log_prior
from k4_pipeline.models import build_model, check_mask
from k4_pipeline.models.tabular import Standardiser
from k4_pipeline.progress import Progress
from k4_pipeline.storage.json_values import json_safe
from k4_pipeline.training import parallel
from k4_pipeline.training.graphs import GraphedStep
from k4_pipeline.training.monitor import NO_MONITOR, Monitor, validation_metrics
from k4_pipeline.training.optimiser import learning_rate_at
from k4_pipeline.training.predict import predict_logits
from k4_pipeline.training.resume import (
    Resume,
    generator_states,
    optimiser_tensors,
    packed,
    restore_generators,
    restore_optimiser,
    unpacked,
)
from k4_pipeline.training.seeding import epoch_order, resolve_device, seeded
from k4_pipeline.training.source import BatchSource, OnDevice, context_of, split_evenly, targets_of
from k4_pipeline.training.step import TrainStep


class TrainingDivergedError(K4Error):
    """The loss became NaN or infinite."""


@dataclass
class TrainResult:
    """A trained model and how it came about. `history` has one JSON-safe dict per epoch (None: not defined)."""

    model: nn.Module  # with the weights of `best_epoch`, in eval mode
    history: list[dict[str, Any]]
    best_epoch: int  # 1-based
    monitor_name: str  # the quantity that chose the epoch
    monitor_value: float | None  # None: nothing was measured
    monitor_note: str  # why it is not the one asked for, or why it is coarse; "" otherwise
    stopped_early: bool
    seconds: float
    samples_per_s: float  # train rows a second, validation not counted
    device: str
    seed: int
    train_rows: int
    validation_rows: int
    class_counts: list[int] = field(default_factory=list)  # of the train rows
    class_weights: list[float] = field(default_factory=list)  # as the loss had them

    def summary(self) -> dict[str, Any]:
        """Everything but the model, JSON-safe."""
        return {name: value for name, value in vars(self).items() if name != "model"}


@dataclass
class _Sums:
    """Running sums of one epoch, kept on the device until the epoch ends."""

    loss: Any = 0.0
    k4_loss: Any = 0.0
    k4_found: Any = 0.0
    k4_count: Any = 0.0
    norm: Any = 0.0
    rows: int = 0
    steps: int = 0
    first_bad: Any = math.inf  # 0-based step of the first loss that is not finite

    def add(self, result: LossResult, norm: Tensor, rows: int) -> None:
        bad = torch.where(torch.isfinite(result.loss), math.inf, float(self.steps))
        self.first_bad = torch.clamp(bad, max=self.first_bad)
        self.loss = self.loss + result.loss * rows
        self.k4_loss = self.k4_loss + torch.nan_to_num(result.k4_loss) * result.k4_count
        self.k4_found = self.k4_found + torch.nan_to_num(result.k4_accuracy) * result.k4_count
        self.k4_count = self.k4_count + result.k4_count
        self.norm = self.norm + norm
        self.rows += rows
        self.steps += 1

    def means(self) -> dict[str, float]:
        k4 = float(self.k4_count)
        return {
            "train_loss": float(self.loss) / self.rows,
            "train_k4_loss": float(self.k4_loss) / k4 if k4 else math.nan,
            "train_k4_recall": float(self.k4_found) / k4 if k4 else math.nan,
            "gradient_norm": float(self.norm) / self.steps,
        }


@dataclass
class _State:
    """What is carried from epoch to epoch beside the model, the optimiser and the generators."""

    history: list[dict[str, Any]] = field(default_factory=list)
    best_key: tuple[float, ...] | None = None
    best_epoch: int = 0
    rows: int = 0
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Everything but the weights, JSON-safe."""
        return {name: value for name, value in vars(self).items() if name != "best_weights"}


def _check(config: TrainConfig) -> None:
    if config.epochs < 1 or config.batch_size < 1 or config.patience < 1:
        raise ConfigError("epochs, batch_size and patience must be 1 or more")
    if not config.learning_rate > 0 or not 0 <= config.warmup_frac <= 1 or not config.grad_clip > 0:
        raise ConfigError("learning_rate and grad_clip must be positive and warmup_frac in [0, 1]")


def train(
    model_config: ModelConfig,
    train_config: TrainConfig,
    loss_config: LossConfig,
    train_set: BatchSource,
    validation_set: BatchSource | None,
    *,
    initial: Mapping[str, Tensor] | None = None,
    progress: Progress | None = None,
    resume: Resume | None = None,
) -> TrainResult:
    """Train a fresh model, or go on from the state `initial`; `progress(step, steps)` counts steps of all epochs.

    Without a validation set all `epochs` are run and the last weights (or their average) are kept.

    With `resume` the state is stored after every epoch and a stored one is continued, to the same bits on a CPU.
    The same settings, rows and seed give the same bits on a CPU with the same number of threads. Raises `BadInputError`
    for an empty or unlabelled set and for a sequence without a valid bar, `TrainingDivergedError` when a loss is not
    finite, `ConfigError` for settings out of range.
    """
    _check(train_config)
    y_train = targets_of(train_set, "train")
    y_validation = None if validation_set is None else targets_of(validation_set, "validation")
    device = resolve_device(train_config.device)
    monitor = NO_MONITOR
    if y_validation is not None:
        monitor = Monitor.choose(train_config, int((y_validation == K4).sum()))
    first = np.zeros(1, dtype=np.int64)
    n_features, context = train_set.batch(first)[0].shape[-1], context_of(train_set, first)
    with seeded(train_config.seed, device), torch.backends.cudnn.flags(enabled=False):  # see `training.seeding`
        n_context = 0 if context is None else context.shape[-1]
        model = build_model(model_config, n_features=n_features, n_context=n_context).to(device)
        counts = np.bincount(y_train, minlength=N_CLASSES)
        loss_config = balanced(loss_config, counts)
        loss = AsymmetricLoss(loss_config).to(device)
        if initial is not None:
            model.load_state_dict(initial)
        else:
            if context is not None:
                rows = context_of(train_set, np.arange(len(train_set)))
                assert rows is not None
                model.beside.fit(Standardiser.fit(rows.cpu().numpy()))  # type: ignore[operator,union-attr]
            model.head.start_at(weighted_log_prior(counts.tolist(), loss_config).to(device))  # type: ignore[operator,union-attr]
        # The class weights put the mean loss at 2 to 20; the clip should see gradients of a loss of order one.
        mean_weight = float(counts @ np.asarray(loss_config.class_weights) / counts.sum())
        step = TrainStep(model, loss, train_config, loss_scale=1.0 / mean_weight)
        return _Run(train_config, step, monitor, train_set, validation_set, y_validation, progress, resume).fit(counts)


class _Run:
    """One training run: the state that lives from the first epoch to the last."""

    def __init__(
        self,
        config: TrainConfig,
        step: TrainStep,
        monitor: Monitor,
        train_set: BatchSource,
        validation_set: BatchSource | None,
        y_validation: np.ndarray | None,
        progress: Progress | None,
        resume: Resume | None = None,
    ) -> None:
        self.config, self.step, self.monitor, self.progress = config, step, monitor, progress
        self.resume = resume
        self.train_set, self.validation_set, self.y_validation = train_set, validation_set, y_validation
        self.graphed: GraphedStep | None = None
        if (
            step.fast
            and isinstance(train_set, OnDevice)
            and train_set.fused
            and len(train_set) >= config.batch_size
            and config.batch_size % parallel.size() == 0
        ):
            step.model.train()
            self.graphed = GraphedStep(step, train_set, config.batch_size // parallel.size())
        self.steps_per_epoch = len(self._batches(np.arange(len(train_set))))
        self.total_steps = self.steps_per_epoch * config.epochs
        self.train_seconds = 0.0

    def _batches(self, order: np.ndarray) -> list[np.ndarray]:
        return split_evenly(order, self.config.batch_size, equal=self.graphed is not None)

    def fit(self, class_counts: np.ndarray) -> TrainResult:
        begin = time.perf_counter()
        state = self._restored() or _State()
        for epoch in range(len(state.history) + 1, self.config.epochs + 1):
            if state.history and epoch - 1 - state.best_epoch >= self.config.patience:
                break
            sums, rate = self._epoch(epoch)
            state.rows += sums.rows
            with self.step.averaged():
                metrics = self._validate(epoch)
            state.history.append(
                json_safe(
                    {
                        "epoch": epoch,
                        "learning_rate": rate,
                        **sums.means(),
                        **{f"validation_{name}": value for name, value in metrics.items()},
                    }
                )
            )
            key = self.monitor.key(metrics) if metrics else (float(epoch),)
            if state.best_key is None or key > state.best_key:
                state.best_key, state.best_epoch = key, epoch
                state.best_weights = self.step.kept_weights()
            self._keep(state)
        history, best_epoch, rows = state.history, state.best_epoch, state.rows
        model = self.step.model
        model.load_state_dict(state.best_weights)
        if self.progress is not None:
            self.progress(self.total_steps, self.total_steps)
        value = history[best_epoch - 1].get(f"validation_{self.monitor.name}")
        return TrainResult(
            model=model.eval(),
            history=history,
            best_epoch=best_epoch,
            monitor_name=self.monitor.name,
            monitor_value=value,
            monitor_note=self.monitor.note,
            stopped_early=len(history) < self.config.epochs,
            seconds=time.perf_counter() - begin,
            samples_per_s=rows / max(self.train_seconds, 1e-9),
            device=str(self.step.device),
            seed=self.config.seed,
            train_rows=len(self.train_set),
            validation_rows=0 if self.validation_set is None else len(self.validation_set),
            class_counts=class_counts.tolist(),
            class_weights=self.step.loss.class_weights.cpu().tolist(),
        )

    def _keep(self, state: _State) -> None:
        if self.resume is None or parallel.rank():
            return
        tensors = {
            **packed("model", self.step.model.state_dict()),
            **packed("best", state.best_weights),
            **packed("optimiser", optimiser_tensors(self.step.optimiser)),
            **packed("generator", generator_states(self.step.device)),
            **packed("average", {str(i): value for i, value in enumerate(self.step.average)}),
        }
        self.resume.save(tensors, {**state.facts(), "train_seconds": self.train_seconds, "updates": self.step.updates})

    def _restored(self) -> _State | None:
        stored = self.resume.load() if self.resume is not None else None
        known = 0 if stored is None else len(stored[1]["history"])
        if not parallel.agreed(known, self.step.device) or stored is None:
            return None
        tensors, facts = stored
        self.train_seconds = facts.pop("train_seconds")
        self.step.model.load_state_dict(unpacked("model", tensors))
        restore_optimiser(self.step.optimiser, unpacked("optimiser", tensors))
        restore_generators(self.step.device, unpacked("generator", tensors))
        average = unpacked("average", tensors)
        self.step.restart_average([average[str(i)] for i in range(len(average))])
        self.step.updates = facts.pop("updates")
        facts["best_key"] = tuple(facts["best_key"])
        return _State(**facts, best_weights=unpacked("best", tensors))

    def _epoch(self, epoch: int) -> tuple[_Sums, float]:
        begin = time.perf_counter()
        sums, rate = _Sums(), 0.0
        self.step.model.train()
        parallel.reseed(self.config.seed, epoch)
        order = epoch_order(len(self.train_set), self.config.seed, epoch)
        batches = self._batches(order)
        for i, rows in enumerate(batches):
            done = (epoch - 1) * self.steps_per_epoch + i
            rate = learning_rate_at(done, self.total_steps, self.config.learning_rate, self.config.warmup_frac)
            if self.graphed is not None:
                sums.add(*self.graphed(parallel.mine(rows), rate), len(rows))
            else:
                sums.add(*self._step(epoch, i, rows, rate), len(rows))
            if self.progress is not None:
                self.progress(done + 1, self.total_steps)
        if not math.isfinite(float(sums.loss)):
            bad = int(min(float(sums.first_bad), len(batches) - 1))
            self._diverged(epoch, bad + 1, batches[bad], rate)
        self.train_seconds += time.perf_counter() - begin
        return sums, rate

    def _step(self, epoch: int, i: int, rows: np.ndarray, rate: float) -> tuple[LossResult, Tensor]:
        device, mine = self.step.device, parallel.mine(rows)
        x, mask, y, weight = self.train_set.batch(mine)
        if mask.device.type == "cpu":
            check_mask(mask)
        assert y is not None  # targets_of has seen them
        x, mask, y = (t.to(device, non_blocking=True) for t in (x, mask, y))
        context = context_of(self.train_set, mine)
        extra = () if context is None else (context.to(device, non_blocking=True),)
        result, norm = self.step(x, mask, y, None if weight is None else weight.to(device), rate, *extra)
        # Reading a value waits for a GPU: there the check comes once an epoch.
        if device.type == "cpu" and not math.isfinite(float(result.loss)):
            self._diverged(epoch, i + 1, rows, rate)
        return result, norm

    def _validate(self, epoch: int) -> dict[str, float]:
        if self.validation_set is None or self.y_validation is None:
            return {}
        shared = parallel.size() > 1
        rows = parallel.Part(self.validation_set) if shared else self.validation_set
        logits = predict_logits(self.step.model, rows, precision=self.config.precision)
        if shared:
            logits = parallel.gathered(logits, len(self.validation_set), self.step.device)
        if not torch.isfinite(logits).all():
            self._diverged(epoch, self.steps_per_epoch, None, self.config.learning_rate)
        target = torch.from_numpy(self.y_validation)
        loss = float(copy.deepcopy(self.step.loss).cpu()(logits, target).loss)
        if self.config.prior_correction:
            logits = logits - torch.log(self.step.loss.class_weights.cpu())
        p = torch.softmax(logits.double(), dim=-1).numpy()
        return validation_metrics(p, self.y_validation, loss, self.config.budget_frac)

    def _diverged(self, epoch: int, step: int, rows: np.ndarray | None, rate: float) -> NoReturn:
        cause = "lower learning_rate or grad_clip, or raise warmup_frac"
        if rows is not None:
            x, mask, y, weight = self.train_set.batch(rows)
            if not torch.isfinite(x[mask]).all():
                cause = "the inputs themselves hold NaN or infinity: check the scaler and the feature panel"
            if self.resume is not None:
                batch = {"x": x, "mask": mask, "y": y, "weight": weight, "rows": torch.as_tensor(rows)}
                at = {"epoch": str(epoch), "step": str(step), "learning_rate": repr(rate)}
                cause += f"; the batch is kept in {self.resume.keep_batch(batch, at)}"
        raise TrainingDivergedError(
            f"training diverged: the loss is not finite at epoch {epoch}, step {step} of {self.steps_per_epoch} "
            f"(learning rate {rate:.2g}); {cause}"
        )
