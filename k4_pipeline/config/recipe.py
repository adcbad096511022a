"""The recipe of a model as a whole: which members are averaged, in which phases they are trained, on what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MemberKind = Literal[
    "network",
    "network_without_context",
    "mamba_attention",
    "bilstm",
    "no_sequence",
    "tabm",
    "extra_trees",
    "gradient_boosting",
    "logit",
]
MODEL_PRESETS = ("default", "original", "fast")


@dataclass(frozen=True)
class WindowConfig:
    """Training windows: any bar with the box of its last bars, labelled by the same race; for pre-training only."""

    box_bars: int = 10  # bars whose high and low make the box
    min_history_bars: int = 260  # bars before a window
    sample_probability: float = 0.16  # of each bar of a box after its first one
    density: float = 1.0  # share of the windows that is kept
    seed: int = 1  # of the sampling
    max_rows: int = 200_000  # of one fit


@dataclass(frozen=True)
class RecipeConfig:
    """Members are averaged kind by kind. `network` is `model.architecture`, with the context where `context` is set."""

    members: tuple[MemberKind, ...] = ("network",)  # models whose probabilities are averaged
    seeds: int = 1  # of each network; they are averaged
    context: bool = False  # the context of the last bar is fed to the heads, beside the sequence
    pretrain_epochs: int = 0  # on the training windows, before the snapshots; 0: none
    # Networks of sequences see few windows more often: as many epochs as fit into so many steps, at most twice as many.
    pretrain_steps: int = 200
    pretrain_learning_rate: float = 1e-3  # of the first phase
    pretrain_batch_size: int = 512  # of the first phase
    market_context: bool = True  # whether models read the means over the date among the context features
    refit: bool = False  # fit once more on every row known at as_of, for the epochs that validation chose
    average_refit: bool = False  # average the first fit and the refit, a hedge; else the refit alone serves
    # Share of the validation tickers that early stopping looks at; the calibrator is fitted on the others. 1: both on
    # all of them; 0: no early stopping, training.epochs are run and all validation rows are left to the calibrator.
    stopping_frac: float = 1.0
    # What mends probabilities on the rows left to the calibrator: "vector" (a scale and a level of every class), for
    # losses that distort them, or "level" (levels alone, held close to zero).
    calibration: Literal["vector", "level"] = "vector"
    min_train_k4: int = 10  # fewer K4 rows to train on: no tier above AVOID, and no champion is replaced
    logit_c: float = 0.01  # inverse strength of the penalty
    forest_trees: int = 150  # trees of a forest
    forest_min_leaf_rows: int = 40  # smallest leaf
    forest_window_frac: float = 0.1  # share of the training windows that extremely randomised trees learn from
    forest_window_weight: float = 4.0  # of those windows together, in units of the snapshots together
    boosting_leaves: int = 8  # leaves of a boosted tree
    boosting_rounds: int = 120  # trees
    boosting_learning_rate: float = 0.05  # step of a tree
    boosting_min_leaf_rows: int = 20  # smallest leaf
