"""`k4 bench sequences`: assembling batches from the panel against memcpy of the same bytes, side by side.

Assembled batches are first compared with a plain numpy gather. Every repeat times, in turn and with the same number of
threads, a memcpy of one batch (4096, 50, 69) float32 and the assembly of a batch into a preallocated buffer; each
repeat takes other sequences, in the shuffled order of training, so that nothing is left in the cache from the last one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from k4_pipeline._numba import n_threads, run_chunks
from k4_pipeline.bench.environment import environment
from k4_pipeline.config import (
    N_FEATURES,
    SEQUENCE_BARS,
    CleaningConfig,
    PatternConfig,
    ScalerConfig,
    SimulationConfig,
    SourceConfig,
)
from k4_pipeline.errors import BadInputError
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.spec import MARKET_CHANNELS
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline.sequences.assemble import END, SequenceIndex, assemble_canonical
from k4_pipeline.sequences.model_inputs import assemble_inputs
from k4_pipeline.sequences.scaler import fit_scaler
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.sequences.windows import index_sequences

ORIGINAL_SECONDS_PER_SEQUENCE = 18.0  # what the system this one replaces needed
MANY = 100_000
_MIN_REPEATS = 25  # a batch takes milliseconds: fewer repeats would report the machine's other guests


def run(bars: Path | str | None = None, repeats: int = _MIN_REPEATS, batch_size: int = 4096) -> dict[str, Any]:
    """Median milliseconds and ratios to memcpy (memcpy time / assembly time); `bars` a long table, else simulated.

    `ratio_memcpy`: canonical sequences, shuffled, all threads. `ratio_memcpy_key_order`: sequences in key order, as for
    prediction and export. `ratio_memcpy_inputs`: scale-free, standardised model inputs. `seconds_100k`: all of 100,000
    sequences in batches (sequences repeat when the universe has fewer).
    """
    timings, loaded, panel = _prepare(bars)
    sequences_frame = timings.pop("frame")
    index = SequenceIndex.from_frame(sequences_frame, loaded.close)
    fit_rows = np.arange(min(len(index), 2000))
    scaler = fit_scaler(panel, index, fit_rows, ScalerConfig(), keys=sequences_frame.iloc[fit_rows])
    _compare(panel, index, batch_size)
    threads = n_threads()
    repeats = max(repeats, _MIN_REPEATS)
    measured = _side_by_side(panel, index, scaler, batch_size, repeats, threads)
    alone = _side_by_side(panel, index, scaler, batch_size, repeats, 1) if threads > 1 else measured
    many = _many(panel, index, scaler, batch_size)
    bars_to_sequences = sum(timings.values()) + many["canonical"]
    return {
        "ratio_memcpy": measured["memcpy"] / measured["shuffled"],
        "ratio_memcpy_key_order": measured["memcpy"] / measured["key_order"],
        "ratio_memcpy_inputs": measured["memcpy"] / measured["inputs"],
        "ratio_memcpy_one_thread": alone["memcpy"] / alone["shuffled"],
        "memcpy_ms": measured["memcpy"],
        "canonical_ms": measured["shuffled"],
        "canonical_key_order_ms": measured["key_order"],
        "inputs_ms": measured["inputs"],
        "memcpy_gb_per_s": batch_size * SEQUENCE_BARS * N_FEATURES * 4 / measured["memcpy"] / 1e6,
        "seconds_100k": many["canonical"],
        "seconds_100k_inputs": many["inputs"],
        "seconds_bars_to_100k_sequences": bars_to_sequences,
        "times_faster_than_original": ORIGINAL_SECONDS_PER_SEQUENCE * MANY / bars_to_sequences,
        "stages_s": timings,
        "batch": [batch_size, SEQUENCE_BARS, N_FEATURES],
        "bars": len(loaded),
        "tickers": loaded.n_tickers,
        "sequences": len(index),
        "repeats": repeats,
        "threads": threads,
        **environment(torch.device("cpu")),
    }


def _prepare(path: Path | str | None) -> tuple[dict[str, Any], Bars, np.ndarray]:
    """Stage times (and, under `frame`, the sequences table), the bars and the panel."""
    source = SourceConfig() if path is None else SourceConfig(source="table", path=str(path))
    # Compile before timing: a compiled kernel is kept on disk, so users meet the compiler once.
    warm = clean_bars(read_bars(SourceConfig(), SimulationConfig(n_tickers=8, n_bars=900)), CleaningConfig()).bars
    compute_market_features(warm)
    snapshots = make_snapshots(warm, PatternConfig())
    index_sequences(warm, snapshots)
    stages: dict[str, Any] = {}

    def timed(name: str, function: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = function()
        stages[name] = time.perf_counter() - begin
        return result

    raw = timed("read_bars", lambda: read_bars(source, SimulationConfig()))
    bars = timed("clean_bars", lambda: clean_bars(raw, CleaningConfig()).bars)
    panel = timed("features", lambda: compute_market_features(bars))
    snapshots = timed("snapshots", lambda: make_snapshots(bars, PatternConfig()))
    if len(snapshots) == 0:
        raise BadInputError(f"{len(bars)} bars hold no pattern, so there is nothing to assemble; give more bars")
    stages["frame"] = timed("index", lambda: index_sequences(bars, snapshots))
    return stages, bars, panel


def _compare(panel: np.ndarray, index: SequenceIndex, batch_size: int) -> None:
    """Stop when a batch differs from a numpy gather: a wrong result has no speed."""
    rows = np.random.default_rng(0).integers(0, len(index), size=batch_size)
    values, mask = assemble_canonical(panel, index, rows)
    window = index.rows[rows, END][:, None] + np.arange(1 - SEQUENCE_BARS, 1)
    expected = panel[np.where(mask, window, 0)]  # (b, 50, 55)
    expected[~mask] = 0.0
    if not np.array_equal(values[:, :, MARKET_CHANNELS], expected, equal_nan=True):
        raise BadInputError("assembled sequences differ from a gather of the panel; nothing was measured")


def _side_by_side(
    panel: np.ndarray, index: SequenceIndex, scaler: Scaler, batch_size: int, repeats: int, threads: int
) -> dict[str, float]:
    """Median milliseconds of each variant; the variants take turns in every repeat."""
    rng = np.random.default_rng(1)
    shape = (batch_size, SEQUENCE_BARS, N_FEATURES)
    out, source = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    mask = np.zeros(shape[:2], bool)
    times: dict[str, list[float]] = {"memcpy": [], "shuffled": [], "key_order": [], "inputs": []}

    def copy(begin: int, end: int) -> None:
        np.copyto(out[begin:end], source[begin:end])

    def timed(name: str, function: Callable[[], Any]) -> None:
        begin = time.perf_counter()
        function()
        times[name].append((time.perf_counter() - begin) * 1e3)

    def canonical(rows: np.ndarray) -> Any:
        return assemble_canonical(panel, index, rows, out, mask, threads=threads)

    for _ in range(repeats + 1):
        shuffled, other = (rng.permutation(len(index))[np.arange(batch_size) % len(index)] for _ in range(2))
        first = int(rng.integers(0, max(1, len(index) - batch_size + 1)))
        in_order = (first + np.arange(batch_size)) % len(index)
        timed("memcpy", partial(run_chunks, copy, batch_size, -(-batch_size // threads), threads))
        timed("shuffled", partial(canonical, shuffled))
        timed("key_order", partial(canonical, in_order))
        timed("inputs", partial(assemble_inputs, panel, index, other, scaler, out, mask, threads=threads))
    return {name: statistics.median(values[1:]) for name, values in times.items()}  # the first repeat warms up


def _many(panel: np.ndarray, index: SequenceIndex, scaler: Scaler, batch_size: int) -> dict[str, float]:
    """Seconds for `MANY` sequences in batches into one buffer, in key order."""
    rows = np.sort(np.arange(MANY) % len(index))
    out = np.empty((batch_size, SEQUENCE_BARS, N_FEATURES), np.float32)
    mask = np.empty(out.shape[:2], bool)
    seconds = {}
    for name in ("canonical", "inputs"):
        begin = time.perf_counter()
        for start in range(0, MANY, batch_size):
            part = rows[start : start + batch_size]
            if name == "canonical":
                assemble_canonical(panel, index, part, out[: len(part)], mask[: len(part)])
            else:
                assemble_inputs(panel, index, part, scaler, out[: len(part)], mask[: len(part)])
        seconds[name] = time.perf_counter() - begin
    return seconds
