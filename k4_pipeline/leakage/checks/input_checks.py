"""Checks of what the model sees: the box, the window, the mask and the inputs, against independent computations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, key_text, shown
from k4_pipeline.leakage.engine.corruptions import corrupt_snapshot
from k4_pipeline.leakage.oracles.inputs import InputOracle
from k4_pipeline.market.bars import to_days
from k4_pipeline.verdict import Verdict

RTOL = 2e-5  # the panel holds float32; a narrow channel magnifies its rounding
INPUT_ATOL = 5e-4  # of a standardised value


def _window_one_bar_late(context: AuditContext) -> AuditContext:
    sequences = context.full.sequences.copy()
    late = sequences["end_row"] + 1 < len(context.full.bars)
    sequences.loc[late, "end_row"] += 1
    return context.with_full(sequences=sequences)


def _mask_one_bar_short(context: AuditContext) -> AuditContext:
    sequences = context.full.sequences.copy()
    sequences["n_valid"] = np.maximum(sequences["n_valid"] - 1, 1)
    return context.with_full(sequences=sequences)


def _other_mean_volume(context: AuditContext) -> AuditContext:
    sequences = context.full.sequences.copy()
    sequences["mean_volume"] = sequences["mean_volume"] * 1.5
    return context.with_full(sequences=sequences)


@check(
    "inputs",
    proves="Window, mask, last bar, pattern channels and standardised inputs of the sampled rows equal a second "
    "implementation that starts from bars and snapshots: nothing of a later bar, another ticker or the label is "
    "in them.",
    misses="What is wrong in the panel or in the snapshots themselves (the replays look at those).",
    needs=("fitted",),
    corruptions=(_window_one_bar_late, _mask_one_bar_short, _other_mean_volume),
)
def model_inputs_equal_an_independent_computation(context: AuditContext) -> Verdict:
    """Assemble sampled rows as production does and as the oracle does."""
    full, out = context.full, Comparison()
    count = context.sample.input_rows
    n = len(full.sequences)
    chosen = np.arange(n) if count is None or count >= n else np.sort(context.rng(7).choice(n, count, replace=False))
    x, mask = full.canonical(chosen)
    z = full.inputs(chosen)[0]
    scaler = full.need_fitted().scaler
    keys = full.sequences.iloc[chosen][KEYS].reset_index(drop=True)
    wanted = keys.merge(full.snapshots, on=KEYS, how="left", validate="1:1")
    oracle = InputOracle(full.bars, full.panel)
    center, scale = scaler.center.astype(np.float64), scaler.scale.astype(np.float64)
    for i in range(len(chosen)):
        row = wanted.iloc[i]
        if pd.isna(row["upper"]):
            out.add(1, 1, [f"sequences: {key_text(row, KEYS)} is no snapshot"])
            continue
        made = oracle.canonical(row)
        x_i, mask_i = made[:2]
        z_i = oracle.inputs(made, center, scale, scaler.clip_sigmas)
        out.add(mask_i.size + x_i.size + z_i.size, 0)
        if not np.array_equal(mask_i, mask[i]):
            text = (
                f"mask: {key_text(row, KEYS)}: {int(mask[i].sum())} valid bars, expected {int(mask_i.sum())} at the end"
            )
            out.add(0, 1, [text + "; the mask is shifted or padding is taken for bars"])
            continue
        with np.errstate(invalid="ignore"):
            near = np.abs(x[i] - x_i) <= RTOL * np.maximum(np.maximum(np.abs(x_i), np.abs(x[i])), 1.0)
        near |= np.isnan(x[i]) & np.isnan(x_i)
        # Close to a clip or a division by almost nothing the two roundings may part further: the input decides.
        _collect(out, "canonical sequence", row, near, x[i], x_i)
        _collect(out, "model inputs", row, np.abs(z[i] - z_i) <= INPUT_ATOL * np.maximum(1.0, np.abs(z_i)), z[i], z_i)
    return verdict_of(out, rows=len(chosen), of_rows=n)


def _collect(out: Comparison, table: str, row: pd.Series, near: np.ndarray, got: np.ndarray, want: np.ndarray) -> None:
    if near.all():
        return
    bar, channel = (int(v) for v in np.argwhere(~near)[-1])
    text = (
        f"{table}: {key_text(row, KEYS)} bar {bar + 1} of {len(got)}: {FEATURE_NAMES[channel]} is "
        f"{shown(got[bar, channel])}, computed again from bars {shown(want[bar, channel])}; the window, the "
        "scaling or the "
        "source of the channel is another"
    )
    out.add(0, int((~near).sum()), [text])


def _box_of_all_bars(context: AuditContext) -> AuditContext:
    made = context.full.snapshots.copy()
    made["upper"] = made["upper"] * 1.01
    return context.with_full(snapshots=made)


def _earlier_activation(context: AuditContext) -> AuditContext:
    made = context.full.snapshots.copy()
    made["bars_active"] = made["bars_active"] + 1
    return context.with_full(snapshots=made)


@check(
    "snapshots",
    proves="Box, power, start price, activation and age of every snapshot follow from its own qualifying bars, "
    "recomputed from bars; the history behind the activation bar is long enough without counting any later bar.",
    misses="Which patterns exist at all; the replays look at that.",
    corruptions=(corrupt_snapshot, _box_of_all_bars, _earlier_activation),
)
def every_snapshot_follows_from_its_qualifying_bars(context: AuditContext) -> Verdict:
    """Recompute geometry and age from the bars start..activation."""
    full, config, bars = context.full, context.config.patterns, context.full.bars
    made = full.snapshots
    rows = {
        c: bars.locate(made["ticker"], to_days(made[c])) for c in ("start_date", "activation_date", "snapshot_date")
    }
    start, activation, end = rows.values()
    there = (start >= 0) & (activation >= 0) & (end >= 0)
    out = Comparison()

    def report(bad: np.ndarray, what: str) -> None:
        out.add(
            len(made),
            int(bad.sum()),
            (f"snapshots: {key_text(made.iloc[i], KEYS)}: {what}" for i in np.flatnonzero(bad)[:5]),
        )

    report(~there, "no bar on its start, activation or snapshot date")
    first = bars.offsets[np.searchsorted(bars.offsets, np.maximum(end, 0), side="right") - 1]
    report(there & ~((first <= start) & (start <= activation) & (activation <= end)), "its dates are not in order")
    boxes = {
        (a, b): (bars.high[a : b + 1].max(), bars.low[a : b + 1].min())
        for a, b in set(zip(start[there].tolist(), activation[there].tolist()))
        if a <= b
    }
    nothing = (np.nan, np.nan)
    box = np.array([boxes.get(key, nothing) for key in zip(start.tolist(), activation.tolist())]).reshape(-1, 2)
    cause = "is not that of the bars start..activation; it was taken over other bars"
    report(there & (made["upper"].to_numpy() != box[:, 0]), "upper " + cause)
    report(there & (made["lower"].to_numpy() != box[:, 1]), "lower " + cause)
    report(there & (made["power"].to_numpy() != box[:, 0] * config.power_factor), "power is not upper times its factor")
    report(there & (made["start_price"].to_numpy() != bars.close[np.maximum(start, 0)]), "start_price is another close")
    if full.given is None:
        report(there & (activation - start + 1 != config.qualifying_bars), "activation is not the last qualifying bar")
        report(there & (made["bars_active"].to_numpy() != end - activation), "bars_active is not the age in bars")
        short = activation - first + 1 < config.min_history_bars
        report(there & short, "too little history up to its activation bar (was it counted over the whole ticker?)")
    return verdict_of(out, snapshots=len(made))
