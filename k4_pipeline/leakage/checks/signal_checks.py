"""Today's signals: found by an independent scan, scored one by one, and what else a row of them says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

from k4_pipeline.config import BUYS, CLASS_VALUES, KEYS, N_CLASSES
from k4_pipeline.evaluation.calibration import Calibrator
from k4_pipeline.features.context_table import read_context
from k4_pipeline.features.panel import FeaturePanel, read_panel
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison, compare_tables
from k4_pipeline.leakage.oracles.inputs import InputOracle
from k4_pipeline.leakage.oracles.reader import as_sent
from k4_pipeline.leakage.oracles.scan import scan
from k4_pipeline.leakage.oracles.signals import signal_of
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline.patterns import snapshots
from k4_pipeline.pipeline import model_files
from k4_pipeline.pipeline.night import open_patterns
from k4_pipeline.pipeline.reference import Reference
from k4_pipeline.pipeline.stored_bars import NIGHT_BARS, bars_of_tonight
from k4_pipeline.sequences import windows
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.storage import read_parquet
from k4_pipeline.training.checkpoint import load_checkpoint
from k4_pipeline.verdict import Verdict

RAW = [f"p_raw_{i}" for i in range(N_CLASSES)]
CALIBRATED = [f"p_{i}" for i in range(N_CLASSES)]
MAX_SIGNALS = 60  # scored one by one
ORACLE_TOLERANCE = 2e-3  # of probabilities from inputs computed in another order of operations


def _signals(context: AuditContext) -> pd.DataFrame:
    """The stored signals (or those of a self-test)."""
    corrupted = context.extra.get("signals")
    return (
        corrupted
        if corrupted is not None
        else read_parquet(context.extra["store"].current("signals").path("signals.parquet"))
    )


def _with_signals(context: AuditContext, table: pd.DataFrame) -> AuditContext:
    return dataclasses.replace(context, extra={**context.extra, "signals": table})


def _one_signal_less(context: AuditContext) -> AuditContext:
    table = _signals(context)
    extra = pd.DataFrame([{**dict.fromkeys(table.columns), "ticker": "!", **dict.fromkeys(KEYS[1:], pd.Timestamp(0))}])
    return _with_signals(context, table.iloc[1:].reset_index(drop=True) if len(table) else extra)


def _changed(context: AuditContext, column: str, change: Callable[[Any], Any]) -> AuditContext:
    """The column changed in every row: which of them are sampled does not matter."""
    table = _signals(context)
    if not len(table):
        return _one_signal_less(context)
    return _with_signals(context, table.assign(**{column: [change(value) for value in table[column]]}))


def _nudged_signal(context: AuditContext) -> AuditContext:
    return _changed(context, "p_4", lambda p: p + 1e-8)


def _nearer_stop(context: AuditContext) -> AuditContext:
    return _changed(context, "stop", lambda stop: stop * (1 + 1e-8))


def _better_tier(context: AuditContext) -> AuditContext:
    return _changed(context, "tier", lambda tier: "STRONG" if tier == "GOOD" else "GOOD")


def _not_left_out(context: AuditContext) -> AuditContext:
    return _changed(context, "left_out", lambda why: "" if why else "excluded by name")


def _not_refused(context: AuditContext) -> AuditContext:
    return _changed(context, "refused", lambda why: "" if why else "too far outside")


def bars_tonight(context: AuditContext) -> Bars:
    """The bars the signals are of: those of the last full run, with what nights added since."""
    store = context.extra["store"]
    return bars_of_tonight(store) if NIGHT_BARS in store.current("signals").inputs else context.full.bars


def open_by_scan(context: AuditContext) -> pd.DataFrame:
    """ticker, start_date, snapshot_date of the patterns open on the last day, by the independent scan."""
    bars, found = bars_tonight(context), []
    for code, ticker in enumerate(bars.tickers):
        rows = slice(int(bars.offsets[code]), int(bars.offsets[code + 1]))
        if bars.date[rows.stop - 1] != bars.last_day:
            continue
        columns = (bars.high[rows], bars.low[rows], bars.close[rows], bars.volume[rows])
        patterns = scan(*columns, context.config.patterns)
        n = rows.stop - rows.start
        if patterns and patterns[-1].end == n:
            found.append((str(ticker), bars.date[rows.start + patterns[-1].start], bars.date[rows.stop - 1]))
    start, last = (to_dates(np.array([f[i] for f in found], dtype=np.int32)) for i in (1, 2))
    return pd.DataFrame(
        {"ticker": pd.Series([f[0] for f in found], dtype="str"), "start_date": start, "snapshot_date": last}
    )


@check(
    "serving",
    proves="Today's signals are the patterns that an independent scan finds open on the last day, each scored alone by "
    "the model of the champion, again from inputs computed independently; calibration, expected value, signal, tier, "
    "stop, size, order, and what is refused or left out follow.",
    misses="Whether the champion deserves to serve (the check of the champion); the stored inputs that refusals are "
    "judged by; kinds of securities.",
    needs=("stored", "signals"),
    reads_files=True,
    corruptions=(
        _one_signal_less,
        _nudged_signal,
        _nearer_stop,
        _better_tier,
        _not_left_out,
        _not_refused,
    ),
)
def signals_are_those_of_the_champion_one_by_one(context: AuditContext) -> Verdict:
    """Find the open patterns again and score them one at a time."""
    out, store = Comparison(), context.extra["store"]
    table, champion = _signals(context), store.current("champion_model")
    made, whole = store.current("signals"), bars_tonight(context)
    expected = open_by_scan(context)
    mine = table.sort_values(KEYS).reset_index(drop=True)
    cause = "an open pattern was left out, or one that is not open was added"
    out.merge(compare_tables("signals", mine, expected.sort_values(KEYS), KEYS, [], when="scanned again", cause=cause))
    out.add(whole.n_tickers, 0)
    other = made.meta["bars_fingerprint"] != whole.fingerprint()
    out.add(1, int(other), ["signals were made from other bars than are stored"] * other)
    order = table.sort_values(["ev", "ticker"], ascending=[False, True], kind="stable")
    wrong_order = not order["ticker"].equals(table["ticker"])
    out.add(1, int(wrong_order), ["signals are not in the order of their expected value"] * wrong_order)
    if out.findings or not len(table):
        return verdict_of(out, signals=len(table))
    record = json.loads(champion.path("champion.json").read_text())
    odd = table["champion_as_of"] != record["as_of"]
    out.add(len(table), int(odd.sum()), [f"signals name champion {table['champion_as_of'].iloc[0]}"] * bool(odd.any()))
    refs, bars, of_bars = context.extra["refs"], whole, None
    if NIGHT_BARS in made.inputs:
        found = open_patterns(whole, context.config)
        bars, open_now, of_bars = found.bars, found.snapshots, found.context
        panel = FeaturePanel.from_bars(bars)
    else:
        panel = read_panel(refs["market_features"].dir)
        open_now = snapshots.active_snapshots(bars, context.config.patterns)
        if "context_features" in refs:
            of_bars = np.asarray(read_context(refs["context_features"].dir).values)
    model, meta = load_checkpoint(champion.dir)
    calibrator = Calibrator.from_json(champion.path(model_files.CALIBRATOR).read_text())
    scaler = Scaler.from_json(meta["scaler_json"])
    oracle = InputOracle(bars, np.asarray(panel.values))
    reference = Reference.read(champion.dir)
    inputs = read_parquet(store.current("signals").path("inputs.parquet"))
    certificates = {c.tier: c.threshold for c in model_files.certificates_of(champion.dir).tiers}
    center, scale = scaler.center.astype(np.float64), scaler.scale.astype(np.float64)
    levels = ("upper", "lower", "power")
    for i in np.linspace(0, len(open_now) - 1, min(len(open_now), MAX_SIGNALS)).astype(int):
        one = open_now.iloc[[i]].reset_index(drop=True)
        stored = table.merge(one[KEYS], on=KEYS).iloc[0]
        alone = model_files.score_snapshots(
            champion.dir,
            wanted=one.assign(split="open"),
            sequences=windows.index_sequences(bars, one),
            panel=panel,
            context=of_bars,
            config=context.config,
        ).iloc[0]
        window = oracle.canonical(one.iloc[0])
        x = torch.tensor(oracle.inputs(window, center, scale, scaler.clip_sigmas)[None], dtype=torch.float32)
        with torch.inference_mode():
            beside = []
            if of_bars is not None:
                end = bars.locate(one["ticker"], to_days(one["snapshot_date"]))
                beside = [torch.tensor(of_bars[end], dtype=torch.float32)]
            logits = model.eval()(x, torch.tensor(window[1][None]), *beside).double().numpy()[0]
        p = np.exp(logits - logits.max())
        p /= p.sum()
        z = np.log(np.maximum(alone[RAW].to_numpy(dtype=np.float64), 1e-7)) * calibrator.scale + calibrator.bias
        q = np.exp(z - z.max())
        q /= q.sum()
        ev = float(q @ np.array(CLASS_VALUES))
        where = f"signals: {stored['ticker']}"
        checks: list[tuple[str, Any, Any, float]] = [
            *((c, stored[c], alone[c], 0.0) for c in (*CALIBRATED, "ev")),
            *((c, float(alone[c]), float(p[k]), ORACLE_TOLERANCE * max(float(p[k]), 0.01)) for k, c in enumerate(RAW)),
            *((c, float(stored[c]), float(q[k]), 1e-9) for k, c in enumerate(CALIBRATED)),
            ("ev", float(stored["ev"]), ev, 1e-9),
            *((c, float(stored[c]), float(one[c].iloc[0]), 0.0) for c in levels),
            *_levels_and_size(context, stored),
            ("p_k4_certified", stored["p_k4_certified"], alone["p_k4_certified"], 0.0),
        ]
        for name, a, b, tolerance in checks:
            wrong = not abs(a - b) <= tolerance
            out.add(1, int(wrong), [f"{where}: {name} is {a}, scored alone it is {b}"] * wrong)
        word = "AVOID" if stored["refused"] else signal_of(ev, float(q[5]), context.config.signals)
        tier = _tier(float(alone["p_k4_certified"]), certificates) if not stored["refused"] else "AVOID"
        pattern = f"{stored['ticker']}|{stored['start_date'].date()}"
        for name, said, due in (("signal", stored["signal"], word), ("tier", stored["tier"], tier)):
            out.add(1, int(said != due), [f"{where}: {name} is {said}, the settings give {due}"] * (said != due))
        out.add(
            1, int(stored["pattern_id"] != pattern), [f"{where}: not {pattern}"] * (stored["pattern_id"] != pattern)
        )
        out.merge(_left_out(context, stored, where))
        if reference is not None and context.config.serving.refuse_outside:
            out.merge(_refused(reference, inputs, stored, where))
        else:
            odd = bool(stored["refused"])
            out.add(1, int(odd), [f"{where}: refused ({stored['refused']!r}) where nothing is to be refused"] * odd)
    return verdict_of(out, signals=len(table))


def _last_bars(context: AuditContext, ticker: str) -> slice:
    rows = bars_tonight(context).ticker_slice(ticker)
    return slice(max(rows.start, rows.stop - context.config.serving.lookback_bars), rows.stop)


def _levels_and_size(context: AuditContext, stored: pd.Series) -> list[tuple[str, Any, Any, float]]:
    """Stop, price and dollar volume of a signal from its box and from its last bars."""
    bars, last = bars_tonight(context), _last_bars(context, str(stored["ticker"]))
    stop = float(stored["lower"]) * (1.0 - context.config.labels.stop_loss)
    price, money = sorted(bars.close[last]), sorted(bars.close[last] * bars.volume[last])
    middle = [(v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2 for v in (price, money)]
    pairs = zip(("stop", "price", "dollar_volume"), (stop, *middle))
    return [(name, float(stored[name]), float(value), 1e-9 * abs(float(value))) for name, value in pairs]


def _tier(score: float, thresholds: dict[str, float]) -> str:
    return next((t for t in BUYS if t in thresholds and score >= thresholds[t]), "AVOID")


def _left_out(context: AuditContext, stored: pd.Series, where: str) -> Comparison:
    """Whether a signal is left out of the list by name, size or price; kinds of securities are told by the bars."""
    limits, said = context.config.serving, str(stored["left_out"])
    names = {str(stored["ticker"]).upper(), as_sent(pd.Series([stored["ticker"]])).iloc[0].upper()}
    due = bool(names & {t.upper() for t in limits.excluded_tickers})
    due |= bool(stored["dollar_volume"] < limits.min_dollar_volume or stored["price"] < limits.min_price)
    wrong = bool(said) != due and not (said.startswith("kind: ") and said[6:] in limits.excluded_kinds)
    return Comparison(1, int(wrong), [f"{where}: left out ({said!r}) against the limits of serving"] * wrong)


def _refused(reference: Reference, inputs: pd.DataFrame, stored: pd.Series, where: str) -> Comparison:
    """Whether a signal is refused: more of its inputs outside the bounds of the train rows than those rows had."""
    mine = inputs[(inputs["ticker"] == stored["ticker"]) & (inputs["snapshot_date"] == stored["snapshot_date"])]
    row, bounds = mine[list(reference.names)].to_numpy(dtype=np.float32)[0], reference.range
    count = sum(bool(v < low or v > high) for v, low, high in zip(row, bounds.low, bounds.high))
    due = count / len(row) > max(bounds.outside_frac, 1.0 / len(row))
    wrong = due != bool(stored["refused"])
    text = f"{where}: refused is {stored['refused']!r}, {count} of its {len(row)} inputs lie outside the train rows"
    return Comparison(1, int(wrong), [text] * wrong)
