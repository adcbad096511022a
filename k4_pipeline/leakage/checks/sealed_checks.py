"""Side channels: values computed again without files, under other names, on other dates; the end of each ticker."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, N_CLASSES, PipelineConfig
from k4_pipeline.features import compute, context as features_context
from k4_pipeline.features.context import CONTEXT_NAMES
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_NAMES
from k4_pipeline.leakage.checks.model_input_proofs import WINDOW_COLUMNS
from k4_pipeline.leakage.checks.replay_at_cutoffs import compare_paths
from k4_pipeline.leakage.checks.replay_per_bar import scoped
from k4_pipeline.leakage.engine.audit import AuditContext, check, day_text, verdict_of
from k4_pipeline.leakage.engine.compare import ROW_NUMBERS, Comparison, compare_arrays, compare_tables, differ
from k4_pipeline.leakage.engine.corruptions import corrupt_label, corrupt_panel, corrupt_sequence, corrupt_snapshot
from k4_pipeline.leakage.engine.sealed import SealBrokenError, disguised, sealed
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline.patterns import snapshots
from k4_pipeline.pipeline import stages as production, training_windows
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.sequences import windows
from k4_pipeline.verdict import Verdict

_DATES = ("start_date", "activation_date", "snapshot_date", "label_end_date")
_NAMED = ("ticker", "pattern_id")


def renamed_table(table: pd.DataFrame, name_of: dict[str, str], weeks: int) -> pd.DataFrame:
    """A table of the disguised world in the names and dates of the real one, without its pattern numbers."""
    back = {c: table[c] + pd.Timedelta(weeks=weeks) for c in _DATES if c in table.columns}
    names = pd.Series([name_of[str(t)] for t in table["ticker"]], index=table.index, dtype="str")
    out = table.drop(columns=[c for c in _NAMED if c in table.columns and c != "ticker"])
    return out.assign(ticker=names, **back)


def _memory(context: AuditContext) -> AuditContext:
    """One cell in the middle of the panel remembers another history."""
    panel = np.array(context.full.panel)
    known = np.flatnonzero(np.isfinite(panel[:, 7]))
    at = known[len(known) // 3]
    panel[at, 7] = np.nextafter(panel[at, 7], np.float32(np.inf))
    return context.with_full(panel=panel)


@check(
    "isolation",
    proves="Features, context, the whole scan (undrawn), windows, labels and scores are reproduced with the same bits "
    "in a process that may open no file outside the installed code and has an empty home, from bars cut at a date, "
    "under other ticker names, whole weeks earlier.",
    misses="A side channel that knows neither names, dates nor files (memory of the same process; every check "
    "has its own).",
    corruptions=(corrupt_panel, _memory, corrupt_sequence),
)
def nothing_is_read_but_the_bars(context: AuditContext) -> Verdict:
    """Disguise, seal, compute, compare."""
    full, out = scoped(context.full, context.sample_tickers(17)), Comparison()
    weeks = int(context.rng(17).integers(5, 40))
    inner = context.cut_days(2, 17)
    whole = context.full
    if whole.context is not None:
        other = disguised(whole.bars, weeks)
        try:
            with sealed():
                again = features_context.compute_context(other)
            keys = whole.bars.to_frame()[["ticker", "date"]]
            pair = ("context_features", keys, np.asarray(whole.context), again, CONTEXT_NAMES)
            at, cause = ("ticker", "date"), "it comes from a file, from a name or from the date itself"
            out.merge(compare_arrays(*pair, when="sealed, renamed", cause=cause, key_columns=at))
        except SealBrokenError as error:
            out.add(1, 1, [f"sealed replay of the context: {error}"])
    for day in (int(inner[0]), int(context.sessions[-1])):
        bars = full.bars.until(day)
        try:
            out.merge(_compare_disguised(full, bars, day, weeks))
        except SealBrokenError as error:
            out.add(1, 1, [f"sealed replay at {day_text(day)}: {error}"])
    return verdict_of(out, weeks=weeks, tickers=full.bars.n_tickers)


def _compare_disguised(full: PipelineRun, bars: Bars, day: int, weeks: int) -> Comparison:
    out, when = Comparison(), f"sealed, renamed, {weeks} weeks earlier, cut at {day_text(day)}"
    cause = "it comes from a file, from the name of the ticker or from the date itself, not from its bars"
    other = disguised(bars, weeks)
    name_of = dict(zip(map(str, other.tickers), map(str, bars.tickers)))
    alias = {real: new for new, real in name_of.items()}
    dated = full.bars.date <= day
    undrawn = dataclasses.replace(full.config.patterns, sample_probability=1.0, sample_probability_late=1.0)
    known = snapshots.make_snapshots(bars, undrawn) if full.given is None else None
    past = full.snapshots[to_days(full.snapshots["snapshot_date"]) <= day].reset_index(drop=True)
    mine = past.assign(
        ticker=pd.Series([alias[str(t)] for t in past["ticker"]], dtype="str"),
        **{c: past[c] - pd.Timedelta(weeks=weeks) for c in _DATES if c in past.columns},
    )
    stored = full.sequences[to_days(full.sequences["snapshot_date"]) <= day]
    rows = np.flatnonzero(to_days(full.sequences["snapshot_date"]) <= day)
    with sealed():
        panel = compute.compute_market_features(other)
        made = snapshots.make_snapshots(other, undrawn) if known is not None else None
        index = windows.index_sequences(other, mine)
        labeled = production.label(other, mine, full.config)
        world = dataclasses.replace(full, bars=other, panel=panel, sequences=index, snapshots=mine, _cache={})
        tensors = world.canonical() if len(mine) else None
        inputs = world.inputs() if len(mine) and full.fitted is not None else None
    keys = bars.to_frame()[["ticker", "date"]]
    values = ("market_features", keys, np.asarray(full.panel)[dated], panel, MARKET_NAMES)
    out.merge(compare_arrays(*values, when=when, cause=cause, key_columns=("ticker", "date")))
    if known is not None and made is not None:
        plain, again = known.drop(columns="pattern_id"), renamed_table(made, name_of, weeks)
        columns = [c for c in plain.columns if c not in KEYS]
        out.merge(compare_tables("snapshots (undrawn)", plain, again, KEYS, columns, when=when, cause=cause))
    if not len(mine) or len(index) != len(stored):
        return out
    numbers = [c for c in stored.columns if stored[c].dtype.kind == "f"]
    again = renamed_table(index, name_of, weeks)
    out.merge(compare_tables("sequences", stored, again, KEYS, numbers, when=when, cause=cause))
    x, mask = full.canonical(rows)
    part = stored[KEYS]
    if tensors is not None:
        out.merge(compare_arrays("canonical sequence", part, x, tensors[0], FEATURE_NAMES, when=when, cause=cause))
        bar = [f"bar {i + 1}" for i in range(mask.shape[1])]
        out.merge(compare_arrays("mask", part, mask, tensors[1], bar, when=when, cause=cause))
    if inputs is not None:
        z = full.inputs(rows)[0]
        out.merge(compare_arrays("model inputs", part, z, inputs[0], FEATURE_NAMES, when=when, cause=cause))
    # Holidays lie elsewhere on other dates, so that only races of full length must end alike.
    raced = renamed_table(labeled, name_of, weeks)
    honest = production.label(bars, past, full.config) if day < full.bars.last_day else full.labeled
    whole = raced["outcome_class"].notna() & ~raced["censored"]
    both = raced[whole].merge(honest[[*KEYS, "outcome_class", "censored"]], on=KEYS, how="inner", suffixes=("", "_own"))
    both = both[both["outcome_class_own"].notna() & ~both["censored_own"].astype(bool)]
    wrong = (both["outcome_class"].astype(int) != both["outcome_class_own"].astype(int)).to_numpy()
    lines = (
        f"labeled_snapshots: {r.ticker} {r.snapshot_date.date()}: another class, {when}"
        for r in both[wrong].itertuples()
    )
    out.add(len(both), int(wrong.sum()), lines)
    return out


def _dead(context: AuditContext) -> tuple[list[str], np.ndarray]:
    """Tickers whose bars end before the last day (most often with snapshots first), and their last days."""
    bars = context.full.bars
    last = bars.date[bars.offsets[1:] - 1]
    gone = np.flatnonzero(last < bars.last_day)
    rows = context.full.snapshots["ticker"].value_counts()
    order = sorted(gone, key=lambda i: -int(rows.get(str(bars.tickers[i]), 0)))[:MAX_DEAD]
    return [str(bars.tickers[i]) for i in order], np.unique(last[order]) if len(order) else last[:0]


MAX_DEAD = 24
LOOKBACK, SHOWN = 251, 15  # bars of the longest window of a context feature; sessions before a cut that are compared
COUNTS_ALL = CONTEXT_NAMES.index("log_history")  # reads more bars than that; the cuts of the whole history see it


def context_before(full: PipelineRun, day: int, sessions: np.ndarray) -> Comparison:
    """The context of every ticker in the last sessions up to `day`, from the last bars of the universe cut there."""
    bars, out = full.bars, Comparison()
    past = bars.date <= day
    ends = np.repeat(bars.offsets[:-1] + np.add.reduceat(past, bars.offsets[:-1]), np.diff(bars.offsets))
    late = past & (np.arange(len(bars)) >= ends - (LOOKBACK + SHOWN + 5))
    frame = pd.DataFrame({name: getattr(bars, name)[late] for name in ("open", "high", "low", "close", "volume")})
    codes = np.repeat(np.arange(bars.n_tickers), np.diff(bars.offsets))[late]
    keys = pd.DataFrame({"ticker": bars.tickers[codes], "date": to_dates(bars.date[late])})
    made = features_context.compute_context(Bars.from_frame(pd.concat([keys, frame], axis=1)))
    first = sessions[max(0, int(np.searchsorted(sessions, day, side="right")) - SHOWN)]
    shown = bars.date[late] >= first
    known, again = (np.delete(v, COUNTS_ALL, axis=1) for v in (np.asarray(full.context)[late][shown], made[shown]))
    wrong = differ(known, again)
    out.add(wrong.size, 0)
    if wrong.any():
        bad, names = wrong.any(axis=1), np.delete(np.array(CONTEXT_NAMES), COUNTS_ALL)
        cause = "the context of a ticker knows when its bars end, or reads bars after its own date"
        pair = (keys[shown][bad], known[bad], again[bad], list(names))
        at = ("ticker", "date")
        out.merge(
            compare_arrays("context_features", *pair, when=f"bars cut at {day_text(day)}", cause=cause, key_columns=at)
        )
    return out


def windows_before(known: pd.DataFrame, bars: Bars, day: int, config: PipelineConfig) -> Comparison:
    """The training windows of some tickers whose label is known by `day`, from bars cut there."""
    made = training_windows.index_windows(bars.until(day), config)
    mine = known[known["label_end_date"] <= pd.Timestamp(to_dates(np.array([day]))[0])].reset_index(drop=True)
    columns = [c for c in WINDOW_COLUMNS if c not in ROW_NUMBERS]
    cause = "a training window or its label knows when the bars of its ticker end"
    return compare_tables(
        "training_windows", mine, made, KEYS, columns, when=f"bars cut at {day_text(day)}", cause=cause
    )


def _dead_context_corrupted(context: AuditContext) -> AuditContext:
    """One context feature of the last bar of a ticker that died, by one unit in the last place."""
    full, (names, _) = context.full, _dead(context)
    if full.context is None:
        return corrupt_label(context)
    row = full.bars.ticker_slice(names[0] if names else str(full.bars.tickers[0])).stop - 1 - 2 * (not names)
    values = np.array(full.context)
    values[row, 3] = np.nextafter(values[row, 3], np.float32(np.inf))
    return context.with_full(context=values)


def _dead_corrupted(context: AuditContext) -> AuditContext:
    """The last snapshot of a ticker that died, moved by one unit in the last place."""
    names, _ = _dead(context)
    made = context.full.snapshots.copy()
    mine = made.index[made["ticker"].isin(names)] if names else made.index
    at = (mine if len(mine) else made.index)[0]
    made.loc[at, "upper"] = np.nextafter(made.loc[at, "upper"], np.inf)
    return context.with_full(snapshots=made)


def _dead_window_corrupted(context: AuditContext) -> AuditContext:
    """The class of the training window, of a ticker that died, whose label is known first."""
    names, ends = _dead(context)
    windows = context.full.windows
    mine = None if windows is None else windows[windows["ticker"].isin(names)]
    if windows is None or mine is None or not len(mine):
        return corrupt_label(context)
    if to_days(mine["label_end_date"]).min() > ends[-1]:  # no cut shows one
        return corrupt_label(context)
    at, windows = mine["label_end_date"].idxmin(), windows.copy()
    windows.loc[at, "outcome_class"] = (int(windows.loc[at, "outcome_class"]) + 1) % N_CLASSES
    return context.with_full(windows=windows)


@check(
    "replay",
    proves="What tickers that died show up to their last bar, and in the weeks after it, is what was there when "
    "nobody could know that they would: the universe cut at the last bar of each of them or some sessions later, one "
    "of three times in turn (in a thorough audit all three).",
    misses="Dead tickers beyond the first two dozen with most snapshots.",
    needs=("scanned",),
    corruptions=(_dead_corrupted, _dead_context_corrupted, _dead_window_corrupted, corrupt_snapshot, corrupt_label),
)
def the_dead_look_as_they_did_alive(context: AuditContext) -> Verdict:
    """Cut at the last day of each ticker that ended, and after it: those tickers and a few that go on."""
    names, ends = _dead(context)
    living = [t for t in context.sample_tickers(18) if t not in set(names)][:2]
    full, out = context.full, Comparison()
    last = full.bars.date[full.bars.offsets[1:] - 1]
    witness = str(full.bars.tickers[int(np.flatnonzero(last == full.bars.last_day)[0])])
    earliest = str(full.snapshots.loc[full.snapshots["snapshot_date"].idxmin(), "ticker"])
    scope = scoped(full, sorted({*names, *living, witness, earliest}))
    # The context is of the whole market: it is cut apart.
    scope = dataclasses.replace(scope, context=None, windows=None, fitted=None, _cache={})
    of_scope = None if full.windows is None else full.windows[full.windows["ticker"].isin(scope.bars.tickers)]
    patience = context.config.labels.delisted_after_sessions
    sessions = context.sessions
    at = np.searchsorted(sessions, ends)
    shifts = np.array((0, patience // 2, patience + 2))
    if context.sample.tickers is not None and len(ends) > 3:  # each of the many at one of the three times, in turn
        shifts = shifts[np.arange(len(ends)) % 3][None]
    else:
        shifts = shifts[:, None]
    days = set(sessions[np.minimum(at + shifts, len(sessions) - 2)].ravel().tolist())
    for day in sorted(days) or [int(sessions[-2])]:
        again = production.build_again(scope, scope.bars.until(day))
        out.merge(compare_paths(scope, again, day, when=f"bars cut at {day_text(day)}", tensor_rows=200))
        if of_scope is not None:
            out.merge(windows_before(of_scope, scope.bars, day, context.config))
        if full.context is not None:
            out.merge(context_before(full, day, sessions))
        if out.full:
            break
    return verdict_of(out, dead=len(names), cuts=len(days))
