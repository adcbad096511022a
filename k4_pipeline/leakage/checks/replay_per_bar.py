"""Exhaustive replays, cheap enough to leave no date out: every bar and every snapshot as the last one of its history.

Two facts make it cheap. If the value at t from the bars up to t equals the value of the full run for *every* t, nothing
at any t can depend on what follows it, so only the last bar of each cut is compared. And tickers may be cut at
different dates in one run: run j cuts every ticker at its own j-th snapshot, so that a universe of hundreds of snapshot
dates takes as many runs as its busiest ticker has snapshots.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.features import compute
from k4_pipeline.features.proof_tools import ChannelSet, Piece, computed_pieces
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_FEATURES, MARKET_NAMES
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import (
    ROW_NUMBERS,
    Columns,
    Comparison,
    compare_arrays,
    compare_tables,
    differ,
    relative,
)
from k4_pipeline.leakage.engine.corruptions import corrupt_panel, corrupt_sequence, corrupt_snapshot, drop_snapshot
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline.patterns import snapshots
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.sequences import assemble, model_inputs, windows
from k4_pipeline.sequences.windows import SEQUENCE_COLUMNS
from k4_pipeline.verdict import Verdict

# Through the module at call time, so that the code under audit is the code in use.
CHANNELS = ChannelSet(MARKET_FEATURES, lambda bars: compute.compute_market_features(bars))


# Bars of one computation: few enough that its result stays in the cache and its memory is used again.
_BATCH_BARS = 25_000


def batches(pieces: list[Piece]) -> Iterator[tuple[int, int]]:
    """Consecutive ranges of pieces of about `_BATCH_BARS` bars each."""
    first = total = 0
    for i, piece in enumerate(pieces):
        total += piece.stop - piece.start
        if total >= _BATCH_BARS or i + 1 == len(pieces):
            yield first, i + 1
            first, total = i + 1, 0


def _corrupt_one_late_cell(context: AuditContext) -> AuditContext:
    """One channel of one bar in the middle of the history, as a leak of a single cell would."""
    panel = np.array(context.full.panel)
    first, last = context.full.bars.offsets[-2:]
    panel[(first + last) // 2, 3] += np.float32(1.0)
    return context.with_full(panel=panel)


@check(
    "replay",
    proves="Every market channel of every bar (of the sampled tickers) has the same bits when it is the last bar.",
    misses="What enters after the panel; the replay of every snapshot looks at that.",
    corruptions=(corrupt_panel, _corrupt_one_late_cell),
)
def every_bar_is_reproduced_as_the_last_one(context: AuditContext) -> Verdict:
    """Cut at every single bar; a leak in one cell of one day has nowhere to hide."""
    full, out = context.full, Comparison()
    tickers = context.sample_tickers(3)
    pieces: list[Piece] = []
    for ticker in tickers:
        rows = full.bars.ticker_slice(ticker)
        stops = np.arange(rows.start + 1, rows.stop + 1)
        if context.sample.cell_cuts is not None and context.sample.cell_cuts < len(stops):
            stops = np.sort(context.rng(rows.start).choice(stops, context.sample.cell_cuts, replace=False))
        pieces += [Piece(rows.start, int(stop)) for stop in stops]
    last = np.array([piece.stop - 1 for piece in pieces])
    made = np.empty((len(pieces), full.panel.shape[1]), dtype=full.panel.dtype)
    for first, stop in batches(pieces):
        for i, values in computed_pieces(full.bars, pieces[first:stop], CHANNELS):
            made[first + i] = values[-1]
    known = np.asarray(full.panel[last])
    out.add(known.size, 0)
    bad = differ(known, made).any(axis=1)
    if bad.any():
        at = last[bad]
        code = np.searchsorted(full.bars.offsets, at, side="right") - 1
        keys = pd.DataFrame({"ticker": full.bars.tickers[code], "date": to_dates(full.bars.date[at])})
        cause = "the channel reads bars after its own date (shift, centred window, fill, full-sample statistic)"
        out.merge(
            compare_arrays(
                "market_features",
                keys,
                known[bad],
                made[bad],
                MARKET_NAMES,
                when="cut at this very bar",
                cause=cause,
                key_columns=("ticker", "date"),
            )
        )
    return verdict_of(out, tickers=len(tickers), of_tickers=full.bars.n_tickers, cuts=len(pieces))


def cut_each(bars: Bars, stops: np.ndarray) -> Bars:
    """Ticker i keeps its rows before `stops[i]` (absolute row numbers); a ticker without rows vanishes."""
    lengths = np.maximum(stops - bars.offsets[:-1], 0)
    keep = np.zeros(len(bars), dtype=bool)
    for first, length in zip(bars.offsets[:-1], lengths):
        keep[first : first + length] = True
    columns = {c: getattr(bars, c)[keep] for c in ("date", "open", "high", "low", "close", "volume")}
    there = lengths > 0
    offsets = np.concatenate([[0], np.cumsum(lengths[there])]).astype(np.int64)
    return Bars(tickers=bars.tickers[there], offsets=offsets, **columns)


def ragged_cuts(context: AuditContext, scope: PipelineRun) -> Iterator[np.ndarray]:
    """Stops (n_tickers,) of each run: every snapshot of every ticker ends one run, free places take random bars.

    With `snapshot_cuts` in the sample, so many snapshots of each ticker, at random.
    """
    bars, rng, count = scope.bars, context.rng(4), context.sample.snapshot_cuts
    events: list[np.ndarray] = []
    end_rows = scope.sequences["end_row"].to_numpy()
    for first, stop in zip(bars.offsets[:-1], bars.offsets[1:]):
        mine = np.unique(end_rows[(end_rows >= first) & (end_rows < stop)])
        if count is not None and count < len(mine):
            mine = np.sort(rng.choice(mine, count, replace=False))
        events.append(mine + 1)
    runs = max((len(e) for e in events), default=0)
    for i, own in enumerate(events):
        first, stop = int(bars.offsets[i]), int(bars.offsets[i + 1])
        filler = rng.integers(first + 1, stop + 1, size=runs - len(own))
        events[i] = rng.permutation(np.concatenate([own, filler]))
    for run in range(runs):
        yield np.array([own[run] for own in events], dtype=np.int64)


def scoped(full: PipelineRun, tickers: list[str]) -> PipelineRun:
    """The path of some tickers only: tables, bars and panel restricted, row numbers of the sequences moved along."""
    if len(tickers) == full.bars.n_tickers:
        return full
    wanted = set(tickers)
    chosen = np.array([t in wanted for t in full.bars.tickers])
    kept = np.repeat(chosen, np.diff(full.bars.offsets))
    moved = np.cumsum(kept) - 1

    def part(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["ticker"].isin(wanted)].reset_index(drop=True)

    sequences = part(full.sequences)
    for column in ROW_NUMBERS:
        sequences[column] = moved[sequences[column].to_numpy()]
    return PipelineRun(
        config=full.config,
        as_of=full.as_of,
        raw=None,
        bars=full.bars.subset(tickers),
        rejects=None,
        panel=np.ascontiguousarray(full.panel[kept]),
        context=None if full.context is None else np.ascontiguousarray(full.context[kept]),
        snapshots=part(full.snapshots),
        labeled=part(full.labeled),
        sequences=sequences,
        fitted=full.fitted,
        given=None if full.given is None else part(full.given),
    )


@check(
    "replay",
    proves="Every snapshot (of the sampled tickers) is reproduced, with its boundaries, window, mask and model input "
    "to the bit, when its bar is the last one of the history; and no snapshot is missing because of later bars.",
    misses="A snapshot that later bars removed, when none of the cuts falls between it and those bars.",
    needs=("scanned",),
    corruptions=(corrupt_snapshot, drop_snapshot, corrupt_sequence),
)
def every_snapshot_is_reproduced_as_the_last_bar(context: AuditContext) -> Verdict:
    """Cut every ticker at each of its snapshots in turn and build snapshots, sequences and inputs again."""
    scope = scoped(context.full, context.sample_tickers(3))
    snapshot_day = to_days(scope.snapshots["snapshot_date"])
    code_of = {t: i for i, t in enumerate(scope.bars.tickers)}
    ticker_code = scope.snapshots["ticker"].map(code_of).to_numpy(dtype=np.int64)
    sequence_end = scope.sequences["end_row"].to_numpy()
    columns = [c for c in scope.snapshots.columns if c not in KEYS]
    sequence_columns = [c for c in SEQUENCE_COLUMNS if c not in KEYS]
    stored = Columns(scope.snapshots, [*KEYS, *columns])
    stored_seq = Columns(scope.sequences, [*KEYS, *sequence_columns], counted=True)
    same_rows = len(scope.snapshots) == len(scope.sequences)
    out, runs, tensors = Comparison(), 0, []
    if not same_rows:
        out.add(1, 1, [f"{len(scope.snapshots)} snapshots but {len(scope.sequences)} sequences; they belong together"])
    when, cause = "its bar is the last one", "the scan, its boundaries or the choice of snapshots depends on later bars"
    for stops in ragged_cuts(context, scope):
        if out.full:
            break
        runs += 1
        bars = cut_each(scope.bars, stops)
        made = snapshots.make_snapshots(bars, scope.config.patterns)
        cut_day = scope.bars.date[stops - 1]
        past = snapshot_day <= cut_day[ticker_code]
        if stored.equal(past, made):
            out.add(len(made) * len(columns), 0)
        else:
            out.merge(compare_tables("snapshots", scope.snapshots[past], made, KEYS, columns, when=when, cause=cause))
        if not same_rows or not past.any() or len(made) != past.sum():
            continue
        again = windows.index_sequences(bars, made)
        text = "the window, its mask or its geometry depends on later bars"
        if stored_seq.equal(past, again):
            out.add(len(again) * len(sequence_columns), 0)
        else:
            tables = relative(scope.sequences[past]), relative(again)
            out.merge(compare_tables("sequences", *tables, KEYS, sequence_columns, when=when, cause=text))
        now = past & (sequence_end == stops[ticker_code] - 1)  # the rows that end on the cut
        ends = np.flatnonzero(now[past])
        if len(ends) == now.sum() and len(ends):
            panel = compute.compute_market_features(bars)
            index = assemble.SequenceIndex.from_frame(again, bars.close)
            made_tensors = [*assemble.assemble_canonical(panel, index, ends)]
            if scope.fitted is not None:
                made_tensors.append(model_inputs.assemble_inputs(panel, index, ends, scope.fitted.scaler)[0])
            tensors.append((np.flatnonzero(now), made_tensors))
    out.merge(_compare_last_tensors(scope, tensors, when))
    return verdict_of(
        out,
        tickers=scope.bars.n_tickers,
        of_tickers=context.full.bars.n_tickers,
        snapshots=len(scope.snapshots),
        runs=runs,
    )


def _compare_last_tensors(scope: PipelineRun, tensors: list, when: str) -> Comparison:
    out = Comparison()
    if not tensors:
        return out
    rows = np.concatenate([r for r, _ in tensors])
    keys = scope.sequences.iloc[rows][KEYS]
    x, mask = scope.canonical(rows)
    known = [x, mask]
    if scope.fitted is not None:
        known.append(scope.inputs(rows)[0])
    bars = [f"bar {i + 1}" for i in range(mask.shape[1])]
    causes = (
        ("canonical sequence", FEATURE_NAMES, "a channel of the sequence reads bars after the snapshot"),
        ("mask", bars, "the mask depends on bars after the snapshot"),
        ("model inputs", FEATURE_NAMES, "the model input is scaled or filled with knowledge of later bars"),
    )
    for i, stored in enumerate(known):
        table, names, cause = causes[i]
        again = np.concatenate([t[i] for _, t in tensors])
        out.merge(compare_arrays(table, keys, stored, again, names, when=when, cause=cause))
    return out
