"""Why a model gave a snapshot its P(K4): contributions of every channel, and the training rows most like it.

Contributions are Shapley values, estimated with Captum's permutation sampling: each channel (all its bars together) is
switched between the snapshot's values and those of an average training row, and the change of the log odds of K4 is
shared out. They need only the model's forward pass, so they hold for networks, trees and ensembles of both alike. For a
model that adds up its channels they are exact.

They say what this model used, not what causes breakouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from k4_pipeline.config import CLASS_NAMES, K4, PipelineConfig
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.pipeline.members import member_of, rows_of
from k4_pipeline.progress import Progress
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.dataset import SequenceDataset
from k4_pipeline.sequences.standardisation import Scaler

Forward = Callable[..., Tensor]  # (x, mask[, context]) -> logits
BACKGROUND = 128
# Contributions sum to the change of the log odds by construction; more than rounding means a broken estimate.
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Inputs:
    """Model inputs of some rows: x (n, 50, 69), mask (n, 50) bool, context (n, k) or None."""

    x: Tensor
    mask: Tensor
    context: Tensor | None = None

    def of(self, row: int) -> Inputs:
        """One row, still with its first axis."""
        part = slice(row, row + 1)
        return Inputs(self.x[part], self.mask[part], None if self.context is None else self.context[part])


def inputs_of(data: SequenceDataset, rows: int | None = None) -> Inputs:
    """The first `rows` rows of a dataset (all by default)."""
    positions = np.arange(data.n if rows is None else min(rows, data.n))
    batch = data.batch(positions)
    beside = getattr(data, "bar_context", None)
    return Inputs(batch.x.float(), batch.mask.bool(), None if beside is None else beside(positions))


def average(background: Inputs) -> tuple[Tensor, Tensor | None]:
    """The average training row: mean of every bar and channel; median of the context, where it is known."""
    context = background.context
    return background.x.mean(dim=0), None if context is None else torch.nan_to_num(context.nanmedian(dim=0).values)


def log_odds(model: Forward, inputs: Inputs) -> Tensor:
    """log P(K4) - log P(not K4), float64 (n,)."""
    extra = [] if inputs.context is None else [inputs.context]
    logits = model(inputs.x, inputs.mask, *extra).double()
    others = [i for i in range(logits.shape[1]) if i != K4]
    return logits[:, K4] - torch.logsumexp(logits[:, others], dim=1)


@torch.no_grad()
def contributions(
    model: Forward, row: Inputs, background: Inputs, *, samples: int = 25, seed: int = 0
) -> dict[str, Any]:
    """Contributions (69 + k,) to the log odds of K4 of one row against the average of `background`.

    Also `base` and `value`, the log odds of the average and of the row; `gap`, how far the contributions miss their
    difference; `stability`, the correlation of two estimates from different permutations.
    """
    from captum.attr import ShapleyValueSampling

    mean_x, mean_context = average(background)
    n = row.x.shape[-1]
    width = n + (0 if row.context is None else row.context.shape[-1])

    def forward(switch: Tensor) -> Tensor:
        on = switch > 0.5
        x = torch.where(on[:, None, :n], row.x, mean_x)
        mask = row.mask.expand(len(switch), -1)
        context = None
        if row.context is not None and mean_context is not None:
            context = torch.where(on[:, n:], row.context, mean_context)
        return log_odds(model, Inputs(x, mask, context))

    on, off = torch.ones(1, width), torch.zeros(1, width)
    value, base = float(forward(on)[0]), float(forward(off)[0])
    halves = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(2):
            method = ShapleyValueSampling(forward)
            made = method.attribute(on, baselines=off, n_samples=max(samples // 2, 1), perturbations_per_eval=64)
            halves.append(made[0].double().numpy())
    mean = np.mean(halves, axis=0)
    moves = all(half.std() > 0 for half in halves)
    return {
        "contributions": mean,
        "base": base,
        "value": value,
        "gap": float(mean.sum() - (value - base)),
        "stability": float(np.corrcoef(halves)[0, 1]) if moves else float("nan"),
    }


def neighbours(
    row: Inputs, train: Inputs, table: pd.DataFrame, day: pd.Timestamp, most: int = 5
) -> list[dict[str, Any]]:
    """The training rows whose last bar is most like that of `row`, among those whose outcome was known before `day`.

    Distance is Euclidean over all channels, each in its standard deviations over `train`.
    """
    last, own = train.x[:, -1].numpy(), row.x[0, -1].numpy()
    scale = np.where(last.std(axis=0) > 1e-9, last.std(axis=0), np.inf)
    distance = np.sqrt((((last - own) / scale) ** 2).mean(axis=1))
    out: list[dict[str, Any]] = []
    known = (table["label_end_date"] < day).to_numpy()
    for i in np.argsort(distance, kind="stable"):
        if not known[i]:
            continue
        entry = table.iloc[int(i)]
        if any(entry["ticker"] == other["ticker"] and entry["start_date"] == other["_start"] for other in out):
            continue  # one row of each pattern says it
        out.append(
            {
                "ticker": entry["ticker"],
                "snapshot_date": str(entry["snapshot_date"].date()),
                "outcome": CLASS_NAMES[int(entry["outcome_class"])],
                "distance": float(distance[i]),
                "_start": entry["start_date"],
            }
        )
        if len(out) == most:
            break
    return [{k: v for k, v in entry.items() if k != "_start"} for entry in out]


def channel_names(width: int) -> list[str]:
    """Names of the contributions, in order: the 69 channels, then the context features."""
    names = list(FEATURE_NAMES)
    if width > len(names):
        from k4_pipeline.features.context import CONTEXT_NAMES

        names += list(CONTEXT_NAMES)
    return names[:width]


def percentile(row: Inputs, train: Inputs) -> np.ndarray:
    """Where the row's last bar lies among those of the training rows, in percent (69 + k,); NaN where not known."""

    def share(own: np.ndarray, others: np.ndarray) -> np.ndarray:
        below = (others < own).mean(axis=0) + (others == own).mean(axis=0) / 2
        return np.where(np.isfinite(own), 100 * below, np.nan)

    parts = [share(row.x[0, -1].numpy(), train.x[:, -1].numpy())]
    if row.context is not None and train.context is not None:
        parts.append(share(row.context[0].numpy(), train.context.numpy()))
    return np.concatenate(parts)


def in_words(name: str, contribution: float, at: float) -> str:
    """`bbw_percentile (at 12% of the training rows) raises the odds of K4 by 35%`."""
    where = f" (at {at:.0f}% of the training rows)" if np.isfinite(at) else ""
    direction = "raises" if contribution > 0 else "lowers"
    return f"{name}{where} {direction} the odds of K4 by {abs(np.expm1(contribution)):.0%}"


def explain_rows(
    folder: Path,
    *,
    wanted: pd.DataFrame,
    wanted_sequences: pd.DataFrame,
    split: pd.DataFrame,
    sequences: pd.DataFrame,
    panel: Any,
    config: PipelineConfig,
    context: np.ndarray | None = None,
    own_inputs: tuple[Any, np.ndarray | None] | None = None,
    samples: int = 25,
    most: int = 10,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Explanations of the snapshots `wanted` (rows of `wanted_sequences`) by the model in `folder`.

    `split` and `sequences` give the training rows of that model. `own_inputs`: panel and context that the rows of
    `wanted_sequences` count in, where they are not those of the training rows. Each: `reasons` (the `most` largest
    contributions with name, value and words), `neighbours`, and `sanity` (what the sums and the second estimate say of
    the estimate).
    """
    from k4_pipeline.training.checkpoint import load_checkpoint

    model, meta = load_checkpoint(folder)
    fitted_scaler = Scaler.from_json(meta["scaler_json"])

    def dataset(table: pd.DataFrame, rows: np.ndarray, panel: Any, context: np.ndarray | None) -> SequenceDataset:
        return SequenceDataset(
            panel.values, SequenceIndex.from_frame(table, panel.close), rows, fitted_scaler, context=context
        )

    train_rows, train_table = member_of(split, sequences, "train")
    chosen = np.linspace(0, len(train_rows) - 1, min(len(train_rows), 4000)).astype(int)
    train = inputs_of(dataset(sequences, train_rows[chosen], panel, context))
    step = max(len(chosen) // BACKGROUND, 1)
    background = Inputs(train.x[::step], train.mask[::step], None if train.context is None else train.context[::step])
    rows, keys = rows_of(wanted_sequences, wanted)
    own = inputs_of(dataset(wanted_sequences, rows, *(own_inputs or (panel, context))))
    out = []
    for i in range(len(rows)):
        row = own.of(i)
        made = contributions(model, row, background, samples=samples)
        names, at = channel_names(len(made["contributions"])), percentile(row, train)
        largest = np.argsort(-np.abs(made["contributions"]), kind="stable")[:most]
        out.append(
            {
                "ticker": keys.iloc[i]["ticker"],
                "snapshot_date": str(keys.iloc[i]["snapshot_date"].date()),
                "reasons": [
                    {
                        "name": names[j],
                        "contribution": float(made["contributions"][j]),
                        "percentile": float(at[j]),
                        "in_words": in_words(names[j], made["contributions"][j], at[j]),
                    }
                    for j in largest
                ],
                "neighbours": neighbours(row, train, train_table.iloc[chosen], keys.iloc[i]["snapshot_date"]),
                "base_log_odds": made["base"],
                "log_odds": made["value"],
                "sanity": {
                    "sum_misses_by": made["gap"],
                    "adds_up": abs(made["gap"]) <= SUM_TOLERANCE * max(1.0, abs(made["value"] - made["base"])),
                    "two_estimates_correlate": made["stability"],
                },
            }
        )
        if progress is not None:
            progress(i + 1, len(rows))
    return out
