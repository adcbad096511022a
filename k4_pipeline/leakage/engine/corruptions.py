"""Corruptions of the bars after a date, and of one cell of a stored table: what replays and self-tests work with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from k4_pipeline.config import N_CLASSES
from k4_pipeline.leakage.engine.audit import AuditContext
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars

BarCorruption = Callable[[dict[str, np.ndarray], np.random.Generator], None]


def _shuffled(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    order = rng.permutation(len(columns["close"]))
    for values in columns.values():
        values[:] = values[order]


def _million_fold(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    for name in PRICE_COLUMNS:
        columns[name] *= 1e6


def _reversed(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    for values in columns.values():
        values[:] = values[::-1].copy()


def _noise(columns: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    n = len(columns["close"])
    level = np.exp(rng.normal(0.0, 2.0, n)) * 20.0
    spread = np.exp(np.abs(rng.normal(0.0, 0.2, n)))
    columns["high"][:], columns["low"][:] = level * spread, level / spread
    columns["open"][:], columns["close"][:] = level, level * spread ** rng.uniform(-1, 1, n)
    columns["volume"][:] = np.floor(np.exp(rng.normal(10.0, 3.0, n)))


BAR_CORRUPTIONS: dict[str, BarCorruption] = {
    "shuffled": _shuffled,
    "a million fold": _million_fold,
    "reversed": _reversed,
    "noise": _noise,
}


def corrupt_after(bars: Bars, day: int, how: BarCorruption, rng: np.random.Generator) -> Bars:
    """Bars dated after `day` changed by `how`, ticker by ticker; all stay valid bars, so that cleaning keeps them."""
    columns = {c: getattr(bars, c).copy() for c in (*PRICE_COLUMNS, "volume")}
    for a, b in zip(bars.offsets[:-1], bars.offsets[1:]):
        first = int(a + np.searchsorted(bars.date[a:b], day, side="right"))
        if first < b:
            how({c: v[first:b] for c, v in columns.items()}, rng)
    return Bars(tickers=bars.tickers, offsets=bars.offsets, date=bars.date, **columns)


def _early_row(context: AuditContext) -> int:
    """A row of the snapshots early enough to be replayed at every cut."""
    return int(context.full.snapshots["snapshot_date"].to_numpy().argmin())


def corrupt_panel(context: AuditContext) -> AuditContext:
    """The last finite market channel on the bar of an early snapshot, by one unit in the last place."""
    panel = np.array(context.full.panel)
    row = int(context.full.sequences["end_row"].iloc[_early_row(context)])
    panel[row, 0] = np.nextafter(panel[row, 0], np.float32(np.inf))
    return context.with_full(panel=panel)


def corrupt_snapshot(context: AuditContext) -> AuditContext:
    """A snapshot boundary, by one unit in the last place."""
    made = context.full.snapshots.copy()
    at = made.index[_early_row(context)]
    made.loc[at, "upper"] = np.nextafter(made.loc[at, "upper"], np.inf)
    return context.with_full(snapshots=made)


def drop_snapshot(context: AuditContext) -> AuditContext:
    """A snapshot removed, as if it had been left out for what followed."""
    made = context.full.snapshots.drop(index=context.full.snapshots.index[_early_row(context)])
    return context.with_full(snapshots=made.reset_index(drop=True))


def corrupt_label(context: AuditContext) -> AuditContext:
    """A class changed on the earliest known label."""
    labeled = context.full.labeled.copy()
    at = labeled["label_end_date"].idxmin()
    labeled.loc[at, "outcome_class"] = (int(labeled.loc[at, "outcome_class"]) + 1) % N_CLASSES
    return context.with_full(labeled=labeled)


def corrupt_sequence(context: AuditContext) -> AuditContext:
    """The mean volume of an early sequence."""
    sequences = context.full.sequences.copy()
    sequences.loc[sequences.index[_early_row(context)], "mean_volume"] *= 1.01
    return context.with_full(sequences=sequences)


def corrupt_prediction(context: AuditContext) -> AuditContext:
    """The raw K4 probability of the earliest prediction, by a billionth."""
    made = context.full.predictions.copy()  # type: ignore[union-attr]
    made.loc[made["snapshot_date"].idxmin(), "p_raw_4"] += 1e-9
    return context.with_full(predictions=made)


def corrupt_context(context: AuditContext) -> AuditContext:
    """The last finite context feature on the bar of an early snapshot, by one unit in the last place."""
    values = np.array(context.full.context)
    row = int(context.full.sequences["end_row"].iloc[_early_row(context)])
    at = int(np.flatnonzero(np.isfinite(values[row]))[-1])
    values[row, at] = np.nextafter(values[row, at], np.float32(np.inf))
    return context.with_full(context=values)


def corrupt_window(context: AuditContext) -> AuditContext:
    """The class of the training window whose label is known first."""
    windows = context.full.windows.copy()  # type: ignore[union-attr]
    at = windows["label_end_date"].idxmin()
    windows.loc[at, "outcome_class"] = (int(windows.loc[at, "outcome_class"]) + 1) % N_CLASSES
    return context.with_full(windows=windows)
