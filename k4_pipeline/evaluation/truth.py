"""True class probabilities of simulated snapshots: the simulation continued from the hidden state at the snapshot.

A model cannot do better than these probabilities (they know the hidden state), so they are the yardstick of what can
be learned; in the null world they show how little that is. Nothing here is for real bars.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from k4_pipeline._numba import njit, run_chunks
from k4_pipeline.config import K3, K4, N_CLASSES, LabelConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.market.bars import to_days
from k4_pipeline.market.sources.simulation.process import CLOSE, HIGH, LOW, N_BAR, N_STATE, advance
from k4_pipeline.market.sources.simulation.truth import SimulationTruth
from k4_pipeline.patterns.labels import _first_breach, _race

_CHUNK = 64


@njit
def _count_classes(rng, p, start, upper, lower, factors, stop_factor, horizon, by_close, first_breach, draws, counts):
    """Continue from `start` (N_STATE,) `draws` times and add the classes to `counts` (6,). Prices are unadjusted."""
    state = np.empty(N_STATE)
    bar = np.empty(N_BAR)
    gain = np.empty(horizon)
    loss = np.empty(horizon)
    targets = factors * upper
    stop = stop_factor * lower
    for _ in range(draws):
        state[:] = start
        best_gain = 0.0
        used = 0
        while used < horizon:
            advance(rng, p, rng.standard_normal(), state, bar)
            gain[used] = bar[CLOSE] if by_close else bar[HIGH]
            loss[used] = bar[CLOSE] if by_close else bar[LOW]
            best_gain = max(best_gain, gain[used])
            stopped = loss[used] <= stop
            used += 1
            # Under both rules later bars no longer matter: K4 was reached, or the stop without a K3.
            if best_gain >= targets[K4 - 1] or (stopped and best_gain < targets[K3 - 1]):
                break
            if rng.random() < p.delist_hazard:
                break
        if first_breach:
            counts[_first_breach(gain[:used], loss[:used], targets, stop)] += 1
        else:
            counts[_race(gain[:used], loss[:used], targets, stop)] += 1


def _stream(seed: int, ticker: str, day: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}|{ticker}|{day}|continuation".encode()).digest()
    return np.random.Generator(np.random.PCG64(np.frombuffer(digest, dtype=np.uint32)))


def true_class_probabilities(
    truth: SimulationTruth,
    snapshots: pd.DataFrame,
    label_config: LabelConfig,
    *,
    draws: int = 200,
    seed: int = 0,
    threads: int | None = None,
) -> np.ndarray:
    """P(K0..K5) of each snapshot given the hidden state at its close, float64 (n, 6), rows sum to 1.

    `snapshots` needs ticker, snapshot_date, upper, lower, in the price units of the simulated bars. Each row is the
    share of `draws` independent continuations, so its standard error is sqrt(p (1 - p) / draws). A row depends on
    (seed, ticker, date) and its boundaries alone, not on the other rows or on `threads`. A continuation that is
    delisted is labelled on the bars it has, as labels.py does; splits are left out, since labels are scale-free.
    Raises `BadInputError` for a snapshot that is not of this simulation, `ConfigError` for `draws` < 1.
    """
    if draws < 1:
        raise ConfigError(f"draws is {draws}; at least one continuation per snapshot is needed")
    days = to_days(snapshots["snapshot_date"].to_numpy())
    tickers = snapshots["ticker"].to_numpy(dtype=object)
    rows = truth.locate(tickers, days)
    code = truth.ticker_code(rows)
    upper = snapshots["upper"].to_numpy(dtype=np.float64) * truth.adjustment[rows]
    lower = snapshots["lower"].to_numpy(dtype=np.float64) * truth.adjustment[rows]
    factors = 1.0 + np.array(label_config.gain_thresholds, dtype=np.float64)
    counts = np.zeros((len(rows), N_CLASSES), dtype=np.int64)

    def chunk(first: int, last: int) -> None:
        for i in range(first, last):
            _count_classes(
                _stream(seed, tickers[i], int(days[i])),
                truth.params[code[i]],
                truth.states[rows[i]],
                upper[i],
                lower[i],
                factors,
                1.0 - label_config.stop_loss,
                label_config.horizon_bars,
                label_config.measured_on == "close",
                label_config.labeling == "first_breach",
                draws,
                counts[i],
            )

    run_chunks(chunk, len(rows), _CHUNK, threads)
    return counts / draws
