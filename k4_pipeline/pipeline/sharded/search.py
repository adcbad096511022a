"""The trials of a search through Ray Tune: several at once, wherever the cluster has a core (or a GPU) free.

The tables of the fold are put into Ray's object store once. Suggestions and the journal stay in the process of the
search. A trial whose worker or node dies is begun again.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch

from k4_pipeline.errors import K4Error
from k4_pipeline.pipeline.sharded.engine import cluster
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.progress import Progress

FAILURES = 2  # of a trial, before the search has failed
LOSS = "log_loss"
# Ctrl-C is an error here as elsewhere; no tables on standard output, no files for viewers that are not asked for.
QUIET = {"TUNE_DISABLE_SIGINT_HANDLER": "1", "RAY_AIR_NEW_OUTPUT": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
Settings = dict[str, Any]


class TrialFailedError(K4Error):
    """A trial ended without a loss."""


class _Shown:
    """A progress of this process alone: in the copies that Ray Tune keeps of a search it shows nothing."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress

    def __call__(self, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(done, total)

    def __reduce__(self) -> tuple[type, tuple[None]]:
        return _Shown, (None,)


def _trial(settings: Settings, *, path: PipelineRun, loss_of: Callable[[PipelineRun, Settings], float]) -> None:
    from ray import tune

    torch.set_num_threads(1)  # the bits of a training on the processor depend on it, not on where it ran
    tune.report({LOSS: loss_of(path, settings)})


def run_trials(
    path: PipelineRun,
    study: Any,
    storage: Any,
    propose: Callable[[Any], Settings],
    loss_of: Callable[[PipelineRun, Settings], float],
    trials: int,
    progress: Progress | None,
) -> None:
    """`trials` trials of the Optuna `study` in `storage`: `loss_of(path, propose(trial))`, told to it as they end.

    One core each, and one GPU each where the cluster has some. Raises `TrialFailedError` with what the worker said.
    """
    os.environ |= QUIET
    with cluster(path.config.execution) as ray, tempfile.TemporaryDirectory() as place:
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it has to say is the error below
        from ray import tune
        from ray.tune.search.optuna import OptunaSearch

        shown = _Shown(progress)

        class _Told(tune.Callback):
            done = 0

            def on_trial_complete(self, *_: Any, **__: Any) -> None:
                self.done += 1
                shown(self.done, trials)

        gpus = int(ray.cluster_resources().get("GPU", 0))
        one = tune.with_parameters(_trial, path=path, loss_of=loss_of)
        found = tune.Tuner(
            tune.with_resources(one, {"cpu": 1, "gpu": 1 if gpus else 0}),
            tune_config=tune.TuneConfig(
                num_samples=trials,
                metric=LOSS,
                mode="min",
                search_alg=OptunaSearch(
                    propose,
                    metric=LOSS,
                    mode="min",
                    sampler=study.sampler,
                    study_name=study.study_name,
                    storage=storage,
                ),
                max_concurrent_trials=gpus or int(ray.cluster_resources()["CPU"]),
            ),
            run_config=tune.RunConfig(
                storage_path=place,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=FAILURES),
                callbacks=[_Told()],
            ),
        ).fit()
    if found.errors:
        why = getattr(found.errors[0], "cause", None) or found.errors[0]
        raise TrialFailedError(f"{len(found.errors)} of {trials} trials on Ray failed: {type(why).__name__}: {why}")
