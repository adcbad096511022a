"""A search for better settings inside one fold: fitted on its train rows, judged by log loss on its validation rows.

Test rows are never read. So that some years stay unseen by every choice, a fold too near to the end is refused
(`fold_leaves_the_last_years_alone`). Trials are kept in a journal file and a later search goes on from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.pipeline import fit as candidate, stages, tables as stored_tables
from k4_pipeline.progress import Progress
from k4_pipeline.training.loop import TrainingDivergedError
from k4_pipeline.verdict import Verdict

# Setting -> how a trial suggests it: (low, high) on a logarithmic scale, (low, high, "linear"), or a list of choices.
SPACE: dict[str, Any] = {
    "training.learning_rate": (1e-4, 2e-3),
    "training.epochs": [1, 2, 3, 4],
    "training.weight_decay": (1e-3, 1e-1),
    "model.dropout": (0.0, 0.3, "linear"),
    "model.head_dropout": (0.0, 0.6, "linear"),
    "model.bars": [10, 20, 50],
    "recipe.pretrain_epochs": [1, 2, 3, 4],
    "recipe.pretrain_learning_rate": (3e-4, 3e-3),
    "recipe.forest_min_leaf_rows": [10, 20, 40, 80],
}


def fold_leaves_the_last_years_alone(labeled: pd.DataFrame, as_of: str, months: int) -> Verdict:
    """Whether a search at `as_of` chooses by no row of the last `months` before the newest labelled snapshot."""
    newest = labeled.loc[labeled["outcome_class"].notna(), "snapshot_date"].max()
    last = newest - pd.DateOffset(months=months)
    findings = []
    if pd.Timestamp(as_of) > last:
        findings.append(
            f"as_of {as_of} is later than {last.date()}: the last {months} months before {newest.date()} are kept for "
            "testing what a search has chosen"
        )
    return Verdict.of("the_search_leaves_the_last_years_alone", len(labeled), findings, last_as_of=str(last.date()))


def changed(config: PipelineConfig, settings: dict[str, Any]) -> PipelineConfig:
    """`config` with `section.field` -> value."""
    for name, value in settings.items():
        section, field = name.split(".")
        config = replace(config, **{section: replace(getattr(config, section), **{field: value})})
    return config


@dataclass
class Proposals:
    """The settings of each trial, kept beside it: `base` (as they stand) once, then what Optuna suggests."""

    base: dict[str, Any] | None

    def __call__(self, trial: Any) -> dict[str, Any]:
        """The settings of `trial` by name."""
        if self.base:
            out, self.base = self.base, None
            trial.set_user_attr("base", True)
        else:
            out = {name: _suggested(trial, name, space) for name, space in SPACE.items()}
        trial.set_user_attr("settings", out)
        return out


def _suggested(trial: Any, name: str, space: Any) -> Any:
    if isinstance(space, list):
        return trial.suggest_categorical(name, space)
    return trial.suggest_float(name, space[0], space[1], log=len(space) == 2)


def validation_loss(path: stages.PipelineRun, config: PipelineConfig) -> float:
    """Log loss of the raw probabilities on the validation rows that no member was stopped on; nothing is refitted."""
    config = replace(config, recipe=replace(config.recipe, refit=False))
    stored = stages.tables(path)
    made = candidate.fit(stored, stored_tables.fit_scaler(stored, config), config)
    held = made.p_calibration
    y = held["outcome_class"].to_numpy(dtype=np.int64)
    p = held[[f"p_raw_{c}" for c in range(6)]].to_numpy()
    return float(-np.log(np.maximum(p[np.arange(len(y)), y], 1e-12)).mean())


def loss_of(path: stages.PipelineRun, settings: dict[str, Any]) -> float:
    """`validation_loss` under other settings; infinite where the training diverges."""
    try:
        return validation_loss(path, changed(path.config, settings))
    except TrainingDivergedError:
        return math.inf


def base_settings(config: PipelineConfig) -> dict[str, Any]:
    """The settings of the search as they stand in `config`."""
    pairs = [name.split(".") for name in SPACE]
    return {f"{section}.{field}": getattr(getattr(config, section), field) for section, field in pairs}


def _as_it_stands(study: Any) -> list[float]:
    return [t.value for t in study.trials if t.value is not None and t.user_attrs.get("base")]


def search(
    path: stages.PipelineRun,
    as_of: str,
    *,
    trials: int,
    journal: Path,
    reserved_months: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """`trials` more trials in `journal`: the settings as they stand first, if it is new, then those Optuna suggests.

    Returns as_of, rows, the trials of this call, the loss of the settings as they stand, the best loss and its
    settings. Raises `ConfigError` for a fold that is too near to the end.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    verdict = fold_leaves_the_last_years_alone(path.labeled, as_of, reserved_months)
    if not verdict.holds:
        raise ConfigError("; ".join(verdict.findings) + f"; choose --as-of {verdict.detail['last_as_of']} or earlier")
    path = stages.split_at(path.unfitted(split=None, manifest=None), as_of)
    assert path.split is not None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(study_name=f"as_of {as_of}", storage=storage, load_if_exists=True)
    engine = path.config.execution.engine
    # A search that goes on draws other numbers than the one before. Trials under way count as bad ones for the next.
    study.sampler = optuna.samplers.TPESampler(seed=seed + 1000 * len(study.trials), constant_liar=engine != "local")
    propose = Proposals(None if _as_it_stands(study) else base_settings(path.config))
    if engine == "local":
        for number in range(trials):
            trial = study.ask()
            study.tell(trial, loss_of(path, propose(trial)))
            if progress is not None:
                progress(number + 1, trials)
    else:
        from k4_pipeline.pipeline.sharded.search import run_trials

        run_trials(path, study, storage, propose, loss_of, trials, progress)
    done = [t for t in study.trials if t.value is not None]
    best = study.best_trial
    counts = path.split["split"].value_counts()
    return {
        "as_of": as_of,
        "train_rows": int(counts["train"]),
        "validation_rows": int(counts["validation"]),
        "trials": trials,
        "trials_in_journal": len(done),
        "log_loss_as_it_stands": next(iter(_as_it_stands(study)), None),
        "log_loss_best": best.value,
        "best": best.user_attrs["settings"],
        "journal": str(journal),
    }
