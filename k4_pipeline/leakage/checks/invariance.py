"""Changes of the bars that must not matter: other tickers, the unit of prices, a later split, history long gone."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.features import proofs
from k4_pipeline.features.context import CONTEXT_FEATURES
from k4_pipeline.features.proof_tools import ProofResult
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.leakage.checks.replay_at_cutoffs import LABELS, compare_paths
from k4_pipeline.leakage.checks.replay_per_bar import CHANNELS, scoped
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_arrays, compare_tables
from k4_pipeline.leakage.engine.corruptions import corrupt_label, corrupt_panel, corrupt_snapshot, drop_snapshot
from k4_pipeline.market.bars import PRICE_COLUMNS, Bars, to_dates
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.verdict import Verdict

PRICED = ("upper", "lower", "power", "start_price")  # of the snapshots, in price units


def part_of(full: PipelineRun, tickers: list[str]) -> PipelineRun:
    """`full` restricted to `tickers`, with its membership."""
    out = scoped(full, tickers)
    if full.split is not None and out is not full:
        out.split = full.split[full.split["ticker"].isin(set(tickers))].reset_index(drop=True)
    return out


def with_another_ticker(bars: Bars, ticker: str, factor: float, name: str) -> Bars:
    """The universe with a rescaled copy of `ticker` in front, under a name that sorts first."""
    rows = bars.ticker_slice(ticker)
    n = rows.stop - rows.start
    columns = {c: np.concatenate([getattr(bars, c)[rows] * factor, getattr(bars, c)]) for c in PRICE_COLUMNS}
    return Bars(
        tickers=np.concatenate([np.array([name], dtype=object), bars.tickers]),
        offsets=np.concatenate([[0], bars.offsets + n]).astype(np.int64),
        date=np.concatenate([bars.date[rows], bars.date]),
        volume=np.concatenate([bars.volume[rows], bars.volume]),
        **columns,
    )


def _other_membership(context: AuditContext) -> AuditContext:
    if context.full.split is None:
        return drop_snapshot(context)
    split = context.full.split.copy()
    at = split.index[split["split"] == "validation"]
    split.loc[at, "split"] = "train"
    return context.with_full(split=split)


def _on_tickers(full: PipelineRun, tickers: list[str]) -> PipelineRun:
    return production.build_again(full, full.bars.subset(tickers))


@check(
    "isolation",
    proves="What is known of a ticker (features, snapshots, labels, sequences, inputs, membership) has the same bits "
    "when half of the other tickers are missing, and when another ticker is put before it.",
    misses="A dependence on tickers that are in both halves.",
    corruptions=(corrupt_panel, corrupt_snapshot, corrupt_label, _other_membership),
)
def nothing_depends_on_other_tickers(context: AuditContext) -> Verdict:
    """Run the path on halves of the universe and on one with another ticker in front."""
    full, out, rng = context.full, Comparison(), context.rng(11)
    names = [str(t) for t in full.bars.tickers]
    last_days = full.bars.date[full.bars.offsets[1:] - 1]
    # The last day of the universe is the day of knowledge: one ticker that reaches it stays in every half.
    witness = names[int(np.flatnonzero(last_days == full.bars.last_day)[0])]
    order = [names[i] for i in rng.permutation(len(names))]
    halves = [sorted({*order[: len(order) // 2], witness}), sorted({*order[len(order) // 2 :], witness})]
    if context.sample.tickers is not None:
        halves = [sorted({*rng.choice(order, min(len(order), context.sample.tickers), replace=False), witness})]
    day, runs, size = int(full.bars.last_day), 0, context.sample.tensor_rows
    for half in halves:
        what = ("half", tuple(half), full.config, full.context is None)
        again = context.once(
            what,
            functools.partial(_on_tickers, full, half),
            full.bars,
            full.given,
            for_self_tests=True,
        )
        known, again = own_context(part_of(full, half)), own_context(again)
        out.merge(compare_paths(known, again, day, when="with half of the tickers", rows_after=True, tensor_rows=size))
        out.merge(_same_membership(context, known, again))
        runs += 1
    if context.sample.tickers is None:
        what = ("another", order[0], full.config, full.context is None)
        wider = with_another_ticker(full.bars, order[0], 4.0, "!OTHER")
        again = context.once(
            what, lambda: production.build_again(full, wider), full.bars, full.given, for_self_tests=True
        )
        again = own_context(scoped(again, names))
        out.merge(
            compare_paths(
                own_context(full), again, day, when="with another ticker in front", rows_after=True, tensor_rows=size
            )
        )
        runs += 1
    return verdict_of(out, runs=runs, tickers=len(halves[0]))


def own_context(path: PipelineRun) -> PipelineRun:
    """The path without the context features that compare within a date: by their declaration they see other tickers."""
    if path.context is None:
        return path
    values = np.array(path.context)
    values[:, [spec.scope == "date" for spec in CONTEXT_FEATURES]] = 0.0
    return dataclasses.replace(path, context=values, _cache={})


def _same_membership(context: AuditContext, known: PipelineRun, again: PipelineRun) -> Comparison:
    if known.split is None:
        return Comparison()
    from k4_pipeline.splits import boundaries, walk_forward

    bounds = boundaries.SplitBoundaries.of(context.as_of_day, context.config.split)
    names, _ = walk_forward.assign_membership(again.labeled, bounds)
    made = again.labeled[KEYS].assign(split=pd.Series(names, dtype="str"))
    return compare_tables(
        "dataset_split",
        known.split,
        made,
        KEYS,
        ["split"],
        when="with half of the tickers",
        cause="membership depends on which other rows there are (row counts, shuffling, quantiles)",
    )


def rescaled(bars: Bars, factors: np.ndarray, before_day: int | None = None) -> Bars:
    """Prices of ticker i times `factors[i]`, volumes divided by it; only bars dated before `before_day` when given."""
    k = np.repeat(factors, np.diff(bars.offsets))
    if before_day is not None:
        k = np.where(bars.date < before_day, k, 1.0)
    columns = {c: getattr(bars, c) * k for c in PRICE_COLUMNS}
    return Bars(tickers=bars.tickers, offsets=bars.offsets, date=bars.date, volume=bars.volume / k, **columns)


def _level_as_width(context: AuditContext) -> AuditContext:
    """A price level where a model input belongs: its scale class is ignored."""
    panel = np.array(context.full.panel)
    panel[:, 5] = context.full.bars.close
    return context.with_full(panel=panel)


@check(
    "invariance",
    proves="With prices of each ticker times a power of two (volumes divided by it), for the whole history or only "
    "before a date as a later split does: the same snapshots, labels and masks, and model inputs of the same bits.",
    misses="Factors that are no powers of two, where rounding moves (features/proofs.py bounds those).",
    needs=("fitted", "scanned"),
    corruptions=(corrupt_snapshot, corrupt_label, _level_as_width),
)
def the_unit_of_prices_does_not_matter(context: AuditContext) -> Verdict:
    """Rescale every ticker by its own power of two, for the whole history and before a date."""
    full, out, rng = scoped(context.full, context.sample_tickers(12)), Comparison(), context.rng(12)
    factors = 2.0 ** rng.choice([-5, -3, -1, 1, 2, 4], size=full.bars.n_tickers)
    for before_day in (None, int(context.cut_days(2, 12)[-1])):
        what = ("rescaled", factors.tobytes(), before_day, full.config)
        build = functools.partial(production.build, rescaled(full.bars, factors, before_day), full.config)
        again = context.once(what, build, context.full.bars, for_self_tests=True)
        out.merge(_compare_rescaled(full, again, factors, before_day))
    return verdict_of(out, tickers=full.bars.n_tickers)


def _compare_rescaled(full: PipelineRun, again: PipelineRun, factors: np.ndarray, before_day: int | None) -> Comparison:
    when = "after rescaling" if before_day is None else "after a later split"
    out, cause = Comparison(), "the absolute price level enters, which in adjusted history tells of later splits"
    stamp = pd.Timestamp.max if before_day is None else pd.Timestamp(to_dates(np.array([before_day]))[0])
    factor_of = dict(zip(full.bars.tickers, factors))
    rows, rows_again = (t["snapshot_date"] < stamp for t in (full.snapshots, again.snapshots))
    known, made = full.snapshots[rows].copy(), again.snapshots[rows_again]
    k = known["ticker"].map(factor_of).to_numpy(dtype=np.float64)
    for column in PRICED:
        known[column] = known[column].to_numpy() * k
    columns = [c for c in known.columns if c not in KEYS]
    out.merge(compare_tables("snapshots", known, made, KEYS, columns, when=when, cause=cause))
    ended, ended_again = (t["label_end_date"] < stamp for t in (full.labeled, again.labeled))
    out.merge(
        compare_tables(
            "labeled_snapshots", full.labeled[ended], again.labeled[ended_again], KEYS, LABELS, when=when, cause=cause
        )
    )
    mine = np.flatnonzero(full.sequences["snapshot_date"] < stamp)
    theirs = np.flatnonzero(again.sequences["snapshot_date"] < stamp)
    if len(mine) and len(mine) == len(theirs):
        keys = full.sequences.iloc[mine][KEYS]
        z, mask = full.inputs(mine)
        z_again, mask_again = again.inputs(theirs, with_scaler=full.need_fitted().scaler)
        bars = [f"bar {i + 1}" for i in range(mask.shape[1])]
        out.merge(compare_arrays("mask", keys, mask, mask_again, bars, when=when, cause=cause))
        out.merge(compare_arrays("model inputs", keys, z, z_again, FEATURE_NAMES, when=when, cause=cause))
    return out


def _from_proof(name: str, result: ProofResult) -> Verdict:
    lines = [f"market_features: {line}" for line in result.findings]
    if result.violations and not lines:
        lines = [f"market_features: {result.violations} values break the statement"]
    return Verdict.of(name, result.cases, lines, violations=result.violations, **result.details)


@check(
    "invariance",
    proves="Market channels react to a rescaling of prices as their declared scale class says, and keep their bits "
    "when the ticker stands alone or beside others (features/proofs.py).",
    misses="Pattern channels, which the rescaling of the whole path covers.",
    corruptions=(corrupt_panel,),
)
def channels_react_to_scale_and_company_as_declared(context: AuditContext) -> Verdict:
    """The rescale and isolation proofs of the features on the stored panel."""
    name = "channels_react_to_scale_and_company_as_declared"
    tickers, full = context.sample.tickers or 8, context.full
    arguments = {
        "tickers": tickers,
        "seed": context.sample.seed,
        "channels": CHANNELS,
        "reference": np.asarray(full.panel),
    }
    if full.bars.n_tickers <= tickers:
        arguments["tickers"] = None
    rescale = proofs.check_rescale(full.bars, factors=(2.0**-3, 2.0**6), **arguments)  # type: ignore[arg-type]
    alone = proofs.check_isolation(full.bars, **arguments)  # type: ignore[arg-type]
    first, second = _from_proof(name, rescale), _from_proof(name, alone)
    return Verdict.of(
        name,
        first.cases + second.cases,
        [*first.findings, *second.findings],
        flipped_share=rescale.details.get("flipped_share", 0.0),
    )


def _older_history(context: AuditContext) -> AuditContext:
    """A channel that counts the bars since the ticker's listing."""
    panel = np.array(context.full.panel)
    for a, b in zip(context.full.bars.offsets[:-1], context.full.bars.offsets[1:]):
        panel[a:b, 10] = np.arange(b - a)
    return context.with_full(panel=panel)


@check(
    "invariance",
    proves="History before a channel's declared warm-up does not reach its value: to 1e-6 for recursive channels, not "
    "a bit for the others (features/proofs.py).",
    misses="Tickers shorter than the warm-up.",
    corruptions=(_older_history,),
)
def channels_forget_what_lies_before_their_warm_up(context: AuditContext) -> Verdict:
    """The warm-up proof of the features on the stored panel."""
    name = "channels_forget_what_lies_before_their_warm_up"
    tickers = context.sample.tickers or 8
    result = proofs.check_warmup(
        context.full.bars,
        tickers=tickers,
        cuts=3,
        seed=context.sample.seed,
        channels=CHANNELS,
        reference=np.asarray(context.full.panel),
    )
    return _from_proof(name, result)
