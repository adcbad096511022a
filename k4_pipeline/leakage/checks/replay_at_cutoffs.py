"""As-of replay of the whole universe: cut the bars at a date, run the path again, compare what is dated by then.

Also with the bars after the date corrupted instead of cut, which keeps tables as long as they were. Everything is
compared by key, both ways: a row that only exists with the future is a finding, and so is one that the future removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.features.context import CONTEXT_NAMES
from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_NAMES
from k4_pipeline.leakage.engine.audit import AuditContext, check, day_text, verdict_of
from k4_pipeline.leakage.engine.compare import (
    Columns,
    Comparison,
    compare_arrays,
    compare_tables,
    differ,
    key_text,
    relative,
)
from k4_pipeline.leakage.engine.corruptions import (
    BAR_CORRUPTIONS,
    corrupt_after,
    corrupt_label,
    corrupt_panel,
    corrupt_prediction,
    corrupt_sequence,
    corrupt_snapshot,
    drop_snapshot,
)
from k4_pipeline.market.bars import PRICE_COLUMNS, to_dates, to_days
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.sequences.windows import SEQUENCE_COLUMNS
from k4_pipeline.verdict import Verdict

LABELS = ("outcome_class", "label_end_date", "censored", "label_bars")
MAX_PREDICTED = 512
CUT_AT_DATES = "cut at dates"  # the checks that look at the same universes, cut at a date, share one process
CORRUPTED = (corrupt_panel, corrupt_snapshot, drop_snapshot, corrupt_label, corrupt_sequence)


def compare_bars(known: PipelineRun, again: PipelineRun, day: int, *, when: str) -> tuple[Comparison, bool]:
    """Bars and market channels dated up to `day`, and whether both runs hold the same bars.

    A ticker that by then has fewer bars than cleaning asks for is not yet in the universe: its first bars appear in
    hindsight, as history only, and are left out of the comparison.
    """
    out = Comparison()
    past, past_again = known.bars.until(day), again.bars.until(day)
    young = np.diff(past.offsets) < known.config.cleaning.min_bars
    young &= ~np.isin(past.tickers, past_again.tickers)
    keep = (known.bars.date <= day) & ~np.repeat(
        np.isin(known.bars.tickers, past.tickers[young]), np.diff(known.bars.offsets)
    )
    if young.any():
        past = past.subset(past.tickers[~young])
    same = (
        np.array_equal(past.tickers, past_again.tickers)
        and np.array_equal(past.offsets, past_again.offsets)
        and np.array_equal(past.date, past_again.date)
    )
    values = [*PRICE_COLUMNS, "volume"]
    if not same or any(differ(getattr(past, c), getattr(past_again, c)).any() for c in values):
        cause = "cleaning, adjustment or the choice of the universe reads later bars"
        frames = past.to_frame(), past_again.to_frame()
        out.merge(compare_tables("daily_bars", *frames, ["ticker", "date"], values, when=when, cause=cause))
    out.add(len(past) * len(values), 0)
    if same:
        mine, theirs = np.asarray(known.panel)[keep], again.panel[again.bars.date <= day]
        wrong = differ(mine, theirs)
        out.add(wrong.size, 0)
        if wrong.any():
            keys = past.to_frame()[["ticker", "date"]]
            cause = "the channel reads bars after its own date (shift, centred window, fill, full-sample statistic)"
            bad = wrong.any(axis=1)
            out.merge(
                compare_arrays(
                    "market_features",
                    keys[bad],
                    mine[bad],
                    theirs[bad],
                    MARKET_NAMES,
                    when=when,
                    cause=cause,
                    key_columns=("ticker", "date"),
                )
            )
        if known.context is not None and again.context is not None:
            mine, theirs = np.asarray(known.context)[keep], again.context[again.bars.date <= day]
            wrong = differ(mine, theirs)
            out.add(wrong.size, 0)
            if wrong.any():
                bad, keys = wrong.any(axis=1), past.to_frame()[["ticker", "date"]]
                cause = "the context reads bars after its own date, or tickers that were not listed by then"
                pair = (keys[bad], mine[bad], theirs[bad], CONTEXT_NAMES)
                at = ("ticker", "date")
                out.merge(compare_arrays("context_features", *pair, when=when, cause=cause, key_columns=at))
    return out, same


def compare_paths(
    known: PipelineRun, again: PipelineRun, day: int, *, when: str, rows_after: bool = False, tensor_rows: int = 4000
) -> Comparison:
    """Everything of `known` dated up to `day` against `again`, a run that did not know the bars after `day`.

    `rows_after`: `again` holds later rows (corrupted, not cut), whose dates say nothing about what was known.
    `tensor_rows`: so many sequences, the latest, are assembled and compared.
    """
    out, same_bars = compare_bars(known, again, day, when=when)

    rows, rows_again = _dated(known.snapshots, "snapshot_date", day), _dated(again.snapshots, "snapshot_date", day)
    columns = [c for c in known.snapshots.columns if c not in KEYS]
    cause = "the scan, its boundaries or the choice of snapshots depends on later bars"
    pair = (known.snapshots, rows, again.snapshots, rows_again)
    out.merge(_compare_rows("snapshots", *pair, columns, when=when, cause=cause))

    # A label is a row of its own date: it exists from label_end_date on.
    rows, rows_again = _dated(known.labeled, "label_end_date", day), _dated(again.labeled, "label_end_date", day)
    cause = "the label uses bars after its label_end_date, or is said to be known too early"
    pair = (known.labeled, rows, again.labeled, rows_again)
    out.merge(_compare_rows("labeled_snapshots", *pair, LABELS, when=when, cause=cause))
    if not rows_after:
        out.merge(nothing_after(again, day, when=when))

    if known.windows is not None and again.windows is not None and same_bars:
        # A window enters the table when its label is known.
        rows, rows_again = _dated(known.windows, "label_end_date", day), _dated(again.windows, "label_end_date", day)
        columns = [c for c in known.windows.columns if c not in KEYS]
        cause = "a training window, its geometry or its label depends on later bars"
        pair = (known.windows, rows, again.windows, rows_again)
        out.merge(_compare_rows("training_windows", *pair, columns, when=when, cause=cause, counted=True))

    rows, rows_again = _dated(known.sequences, "snapshot_date", day), _dated(again.sequences, "snapshot_date", day)
    columns = [c for c in SEQUENCE_COLUMNS if c not in KEYS]
    cause = "the window, its mask or its geometry depends on later bars"
    pair = (known.sequences, rows, again.sequences, rows_again)
    out.merge(_compare_rows("sequences", *pair, columns, when=when, cause=cause, counted=True))
    mine, theirs = np.flatnonzero(rows), np.flatnonzero(rows_again)
    if len(mine) == len(theirs) and same_bars and len(mine):
        recent = slice(max(0, len(mine) - tensor_rows), None)
        out.merge(compare_tensors(known, again, mine[recent], theirs[recent], when=when))
    return out


def _dated(table: pd.DataFrame, column: str, day: int) -> np.ndarray:
    """Mask of the rows dated up to `day`; a missing date is no date."""
    dates = table[column].to_numpy(dtype="datetime64[D]")
    return ~np.isnat(dates) & (dates.astype(np.int64) <= day)


def _compare_rows(
    table: str,
    known: pd.DataFrame,
    rows: np.ndarray,
    again: pd.DataFrame,
    rows_again: np.ndarray,
    columns: Sequence[str],
    *,
    when: str,
    cause: str,
    counted: bool = False,
) -> Comparison:
    """`compare_tables` of the chosen rows, which are only taken out of their tables when something differs."""
    if Columns(known, [*KEYS, *columns], counted=counted).equal(rows, again, rows_again):
        return Comparison(cases=int(np.count_nonzero(rows)) * len(columns))
    if counted:
        known, again = relative(known), relative(again)
    return compare_tables(table, known[rows], again[rows_again], KEYS, columns, when=when, cause=cause)


def nothing_after(again: PipelineRun, day: int, *, when: str) -> Comparison:
    """A run on bars cut at `day` holds no row dated later and no label that is known later or without a date."""
    out = Comparison()
    stamp = pd.Timestamp(to_dates(np.array([day]))[0])
    labeled = again.labeled
    for text, bad in (
        (
            "the class is known without a label_end_date",
            labeled["label_end_date"].isna() & labeled["outcome_class"].notna(),
        ),
        ("label_end_date lies after the last bar there is", labeled["label_end_date"] > stamp),
        ("the snapshot lies after the last bar there is", labeled["snapshot_date"] > stamp),
    ):
        rows = labeled[bad]
        lines = (f"labeled_snapshots: {key_text(row, KEYS)}: {text} ({when})" for _, row in rows.head(5).iterrows())
        out.add(len(labeled), len(rows), lines)
    return out


def compare_tensors(
    known: PipelineRun, again: PipelineRun, mine: np.ndarray, theirs: np.ndarray, *, when: str
) -> Comparison:
    """Masks, canonical sequences and (with a model) model inputs and predictions of matching rows."""
    out = Comparison()
    keys = known.sequences.iloc[mine][KEYS]
    x, mask = known.canonical(mine)
    x_again, mask_again = again.canonical(theirs)
    bars = [f"bar {i + 1}" for i in range(mask.shape[1])]
    cause = "the sequence holds bars after its snapshot, of another ticker, or padding that is none"
    out.merge(compare_arrays("mask", keys, mask, mask_again, bars, when=when, cause=cause))
    out.merge(compare_arrays("canonical sequence", keys, x, x_again, FEATURE_NAMES, when=when, cause=cause))
    if known.fitted is None:
        return out
    z, z_again = known.inputs(mine)[0], again.inputs(theirs, with_scaler=known.fitted.scaler)[0]
    cause = "the model input is scaled or filled with knowledge of later bars"
    out.merge(compare_arrays("model inputs", keys, z, z_again, FEATURE_NAMES, when=when, cause=cause))
    return out


def compare_predictions(known: PipelineRun, again: PipelineRun, day: int, *, when: str) -> Comparison:
    """Stored predictions dated up to `day` against the stored model on the replayed sequences."""
    out = Comparison()
    if known.predictions is None or known.fitted is None:
        return out
    stamp = pd.Timestamp(to_dates(np.array([day]))[0])
    stored = known.predictions[known.predictions["snapshot_date"] <= stamp]
    if not len(stored):
        return out
    by_date = np.argsort(stored["snapshot_date"].to_numpy(), kind="stable")  # from the first to the last, evenly
    spread = np.linspace(0, len(stored) - 1, min(len(stored), MAX_PREDICTED)).astype(np.int64)
    stored = stored.iloc[np.sort(by_date[spread])]
    numbered = again.sequences[KEYS].assign(_row=np.arange(len(again.sequences)))
    joined = stored[[*KEYS, "pattern_id", "split"]].merge(numbered, on=KEYS, how="inner", validate="1:1")
    made = production.predict(
        again,
        joined[["ticker", "pattern_id", *KEYS[1:], "split"]],
        joined["_row"].to_numpy(dtype=np.int64),
        known.fitted,
    )
    columns = [c for c in stored.columns if c not in (*KEYS, "pattern_id", "split")]
    return out.merge(
        compare_tables(
            "predictions",
            stored,
            made,
            KEYS,
            columns,
            when=when,
            cause="the score depends on later bars, on other rows of its batch, or on a scaler fitted again",
        )
    )


def rebuilt_at(context: AuditContext, day: int) -> PipelineRun:
    """The path on what was known at the close of `day`: raw bars cut when there are raw bars. Made once a day."""
    full = context.full

    def build() -> PipelineRun:
        if full.raw is not None:
            cut = production.cut_raw(full.raw, day)
            return production.build_from_raw(
                cut, full.config, today=context.today, given=full.given, for_models=full.context is not None
            )
        return production.build_again(full, full.bars.until(day))

    what = ("cut", day, full.config, context.today, full.context is None)
    return context.once(what, build, full.raw, full.bars, full.given)


def predicted_days(context: AuditContext) -> np.ndarray:
    """Dates with predictions, ascending, before the very last session."""
    made = context.full.predictions
    days = np.unique(to_days(made["snapshot_date"])) if made is not None else np.zeros(0, dtype=np.int64)
    return days[days < context.sessions[-1]]


def replay_days(context: AuditContext) -> list[int]:
    """The dates at which the universe is cut: spread over the history, the eve of the as-of date among them, the last
    of the others moved into the middle third of the dates with predictions."""
    days = context.cut_days(context.sample.cut_dates, 1).tolist()
    scored = predicted_days(context)
    if not len(scored):
        return days
    day = int(context.rng(1).choice(scored[len(scored) // 3 : 2 * len(scored) // 3 + 1]))
    others = [d for d in days if d != context.as_of_day - 1]
    return sorted({*set(days).difference(others[-1:]), day})


@check(
    "replay",
    proves="Bars, features, snapshots, labels, sequences, masks and model inputs dated up to a cut-off have the same "
    "bits when the raw bars after it never existed.",
    misses="A use of the future that leaves every value dated up to the sampled cut-offs unchanged (the cells and "
    "snapshots of single dates are covered by the exhaustive replays).",
    corruptions=CORRUPTED,
    together=CUT_AT_DATES,
)
def everything_is_reproduced_from_bars_cut_at_a_date(context: AuditContext) -> Verdict:
    """Cut the raw bars of the whole universe at sampled dates and run the path again."""
    out = Comparison()
    runs = 0
    for day in replay_days(context):
        again = rebuilt_at(context, int(day))
        when = f"bars cut at {day_text(day)}"
        out.merge(compare_paths(context.full, again, int(day), when=when, tensor_rows=context.sample.tensor_rows))
        runs += 1
        if out.full:
            break
    return verdict_of(out, cut_dates=runs, of_sessions=len(context.sessions))


@check(
    "replay",
    proves="Stored predictions are reproduced, to the bit, from the stored model on bars cut at sampled dates.",
    misses="A model whose weights themselves know the future (the refit checks look at that).",
    needs=("fitted", "predictions"),
    corruptions=(corrupt_prediction,),
    together=CUT_AT_DATES,
)
def predictions_are_reproduced_from_bars_cut_at_a_date(context: AuditContext) -> Verdict:
    """Score the sequences of cut bars with the stored model."""
    out = Comparison()
    scored = predicted_days(context)
    days = sorted({*(day for day in replay_days(context) if day in scored), *scored[-1:].tolist()})
    for day in days:
        again = rebuilt_at(context, int(day))
        out.merge(compare_predictions(context.full, again, int(day), when=f"bars cut at {day_text(day)}"))
    return verdict_of(out, cut_dates=len(days))


def _corrupted_after(full: PipelineRun, day: int, how: str, rng: np.random.Generator) -> PipelineRun:
    return production.build_again(full, corrupt_after(full.bars, day, BAR_CORRUPTIONS[how], rng))


@check(
    "replay",
    proves="What the bars after a date hold (shuffled, reversed, a million fold, noise) changes nothing before it.",
    misses="A dependence on dates and lengths alone; the cut replays see those.",
    corruptions=CORRUPTED,
)
def nothing_changes_when_later_bars_are_corrupted(context: AuditContext) -> Verdict:
    """Corrupt all bars after sampled dates, each way, and run the path again."""
    out, full = Comparison(), context.full
    days = context.cut_days(context.sample.corrupted_dates, 2)
    runs = 0
    for i, day in enumerate(days):
        for how in list(BAR_CORRUPTIONS)[i % 2 :: 2] if len(days) > 1 else BAR_CORRUPTIONS:
            if out.full:
                break
            build = partial(_corrupted_after, full, int(day), how, context.rng(200 + runs))
            what = ("corrupted", int(day), how, full.config, full.context is None)
            again = context.once(what, build, full.bars, full.given, for_self_tests=True)
            when = f"bars after {day_text(day)} {how}"
            size = context.sample.tensor_rows
            out.merge(compare_paths(full, again, int(day), when=when, rows_after=True, tensor_rows=size))
            runs += 1
    return verdict_of(out, runs=runs, dates=[day_text(d) for d in days])


@check(
    "replay",
    proves="Train and validation rows, their labels and weights at as_of T are those that bars cut before T give.",
    misses="Membership of test rows, which exist only later; the split oracle recomputes those from dates.",
    needs=("split",),
    corruptions=(lambda context: _move_to_train(context),),
    together=CUT_AT_DATES,
)
def membership_is_reproduced_from_bars_cut_before_as_of(context: AuditContext) -> Verdict:
    """Split again at T on bars that end before T."""
    day = context.as_of_day - 1
    again = production.split_at(replace(rebuilt_at(context, day), _cache={}), context.as_of_day)
    fitted = ["train", "validation"]
    known, split = context.full.split, again.split
    assert known is not None
    assert split is not None
    out = compare_tables(
        "dataset_split",
        known[known["split"].isin(fitted)],
        split[split["split"].isin(fitted)],
        KEYS,
        ["pattern_id", "label_end_date", "outcome_class", "split", "weight"],
        when=f"bars cut at {day_text(day)}",
        cause="membership, purge or weights depend on rows or labels of as_of and later",
    )
    return verdict_of(out)


def _move_to_train(context: AuditContext) -> AuditContext:
    split = context.full.split.copy()  # type: ignore[union-attr]
    at = split.index[split["split"] == "test"][0]
    split.loc[at, "split"] = "train"
    return context.with_full(split=split)
