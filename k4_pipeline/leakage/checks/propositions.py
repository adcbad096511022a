"""Propositions about stored tables, named as sentences. Each takes tables and returns a `Verdict`.

They look at what is stored; that the code which made it cannot see the future is shown by replaying it on shortened
bars (`leakage/checks/replay_at_cutoffs.py`). A proposition with nothing to look at fails.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import EXCLUDED, KEYS, N_CLASSES, SEQUENCE_BARS, LabelConfig, ScalerConfig, SplitConfig
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.leakage.oracles.membership import months_before, oracle_membership
from k4_pipeline.market.bars import Bars, to_day, to_days
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.verdict import Verdict


def _rows(frame: pd.DataFrame, bad: np.ndarray | pd.Series, columns: list[str]) -> list[str]:
    """One finding per offending row, naming its values."""
    return [
        ", ".join(f"{c}={v.date() if isinstance(v, pd.Timestamp) else v}" for c, v in row.items())
        for row in frame.loc[np.asarray(bad), columns].head(21).to_dict("records")
    ]


def no_bar_lies_in_the_future(bars: Bars, today: dt.date) -> Verdict:
    """No stored bar is dated after `today`. Does not see a bar whose values were revised later."""
    late = np.flatnonzero(bars.date > to_day(today))
    frame = bars.to_frame().iloc[late] if len(late) else pd.DataFrame(columns=["ticker", "date"])
    return Verdict.of(
        "no_bar_lies_in_the_future", len(bars), _rows(frame, np.ones(len(late), bool), ["ticker", "date"])
    )


def every_snapshot_knows_only_its_past(snapshots: pd.DataFrame, bars: Bars) -> Verdict:
    """Start <= activation <= snapshot, each is a bar of its ticker, and the box is that of bars start..activation."""
    rows = {c: bars.locate(snapshots["ticker"], to_days(snapshots[c])) for c in [*KEYS[1:], "activation_date"]}
    bad = (snapshots["start_date"] > snapshots["activation_date"]) | (
        snapshots["activation_date"] > snapshots["snapshot_date"]
    )
    findings = _rows(snapshots, bad, [*KEYS, "activation_date"])
    missing = np.logical_or.reduce([r < 0 for r in rows.values()])
    findings += [f"no bar for {text}" for text in _rows(snapshots, missing, [*KEYS, "activation_date"])]
    patterns = snapshots[~missing].drop_duplicates("pattern_id")
    start = rows["start_date"][patterns.index]
    end = rows["activation_date"][patterns.index]
    upper = np.array([bars.high[a : b + 1].max() for a, b in zip(start, end)])
    lower = np.array([bars.low[a : b + 1].min() for a, b in zip(start, end)])
    off = (upper != patterns["upper"].to_numpy()) | (lower != patterns["lower"].to_numpy())
    findings += [
        f"box is not that of its qualifying bars: {text}" for text in _rows(patterns, off, [*KEYS, "upper", "lower"])
    ]
    return Verdict.of("every_snapshot_knows_only_its_past", len(snapshots), findings, patterns=len(patterns))


def every_sequence_ends_at_its_snapshot(sequences: pd.DataFrame, bars: Bars) -> Verdict:
    """The last of the 50 bars is the snapshot's own bar, and none belongs to another ticker."""
    end = sequences["end_row"].to_numpy()
    inside = (end >= 0) & (end < len(bars))
    ticker_of = np.repeat(bars.tickers, np.diff(bars.offsets))
    safe = np.where(inside, end, 0)
    own_ticker = ticker_of[safe] == sequences["ticker"].to_numpy(dtype=object)
    own_date = bars.date[safe] == to_days(sequences["snapshot_date"])
    first = sequences["first_row"].to_numpy()
    true_first = bars.offsets[:-1][np.searchsorted(bars.offsets, safe, side="right") - 1]
    valid = sequences["n_valid"].to_numpy()
    within = (valid >= 1) & (valid <= SEQUENCE_BARS) & (end - valid + 1 >= true_first) & (first == true_first)
    bad = ~(inside & own_ticker & own_date & within)
    return Verdict.of(
        "every_sequence_ends_at_its_snapshot", len(sequences), _rows(sequences, bad, [*KEYS, "end_row", "n_valid"])
    )


def every_label_window_starts_after_its_snapshot(
    labeled: pd.DataFrame, bars: Bars, config: LabelConfig, *, default_exchange: str, sample: int, seed: int
) -> Verdict:
    """Labels end after their snapshot, and do not change when the snapshot bar and all before it are corrupted.

    The second half relabels a sample on bars whose highs and lows up to the snapshot are replaced by values that
    would trigger every threshold; a label that starts too early changes.
    """
    known = labeled[labeled["outcome_class"].notna()]
    bad = known["label_end_date"] <= known["snapshot_date"]
    findings = _rows(known, bad, [*KEYS, "label_end_date"])
    rng = np.random.default_rng(seed)
    chosen = known.iloc[np.sort(rng.choice(len(known), size=min(sample, len(known)), replace=False))]
    for row in chosen.itertuples():
        one = bars.subset([row.ticker])
        upto = one.date <= to_day(row.snapshot_date)
        corrupted = Bars(
            tickers=one.tickers,
            offsets=one.offsets,
            date=one.date,
            open=one.open,
            high=np.where(upto, row.upper * 100.0, one.high),
            low=np.where(upto, row.lower * 0.01, one.low),
            close=np.where(upto, row.upper * 50.0, one.close),
            volume=one.volume,
        )
        again = label_snapshots(
            corrupted, labeled.loc[[row.Index]], config, default_exchange=default_exchange, data_end=bars.last_day
        )
        got = again["outcome_class"].iloc[0]
        if pd.isna(got) != pd.isna(row.outcome_class) or (not pd.isna(got) and got != row.outcome_class):
            findings.append(
                f"{row.ticker} {row.snapshot_date.date()}: class {row.outcome_class}, but {got} when the bars up to "
                "the snapshot are corrupted: the label window includes one of them"
            )
    return Verdict.of("every_label_window_starts_after_its_snapshot", len(known), findings, relabelled=len(chosen))


def purge_holds(split: pd.DataFrame, manifest: dict[str, Any], config: SplitConfig) -> Verdict:
    """Every member belongs where the dates put it: spans, purge and embargo by a second implementation.

    Train labels end before validation minus the embargo, validation labels before as_of; the margins are in days.
    """
    as_of = dt.date.fromisoformat(manifest["as_of"])
    part, end = split["split"].to_numpy(dtype=object), split["label_end_date"]
    bad = (part != EXCLUDED) & (part != np.array(oracle_membership(split, as_of, config), dtype=object))
    limit = months_before(as_of, config.validation_months) - dt.timedelta(days=config.embargo_days)
    margins = {
        f"{name}_margin_days": (pd.Timestamp(bound) - end[part == name].max()).days if (part == name).any() else None
        for name, bound in (("train", limit), ("validation", as_of))
    }
    findings = _rows(split, bad, [*KEYS, "split", "label_end_date"])
    return Verdict.of("purge_holds", int((part != EXCLUDED).sum()), findings, **margins)


def no_pattern_in_two_splits(split: pd.DataFrame) -> Verdict:
    """Every pattern_id, and every row, belongs to at most one of train, validation and test."""
    member = split[split["split"] != EXCLUDED]
    per_pattern = member.groupby("pattern_id")["split"].nunique()
    findings = [f"pattern {p} lies in {n} splits" for p, n in per_pattern[per_pattern > 1].items()]
    twice = split.duplicated(KEYS, keep=False)
    findings += [f"row is duplicated: {text}" for text in _rows(split, twice, [*KEYS, "split"])]
    return Verdict.of("no_pattern_in_two_splits", len(per_pattern), findings)


def scaler_was_fitted_on_train_only(
    scaler: Any, panel: FeaturePanel, sequences: pd.DataFrame, split: pd.DataFrame, config: ScalerConfig
) -> Verdict:
    """Refit on the train rows alone: the stored scaler must be reproduced, to the bit of its hash."""
    from k4_pipeline.sequences.assemble import SequenceIndex
    from k4_pipeline.sequences.scaler import fit_scaler

    train = split[split["split"] == "train"]
    index = sequences.merge(train[KEYS], on=KEYS, how="left", validate="1:1", indicator=True)
    rows = np.flatnonzero((index["_merge"] == "both").to_numpy())
    keys = sequences.iloc[rows][KEYS]
    again = fit_scaler(panel.values, SequenceIndex.from_frame(sequences, panel.close), rows, config, keys=keys)
    findings = []
    if again.hash() != scaler.hash():
        findings.append(
            f"stored scaler {scaler.hash()} is not the one the train rows give ({again.hash()}); "
            f"stored meta: {scaler.meta}"
        )
    return Verdict.of("scaler_was_fitted_on_train_only", len(rows), findings)


def rows_seen_are_those_permitted(seen: pd.DataFrame, split: pd.DataFrame, as_of: pd.Timestamp) -> Verdict:
    """The rows handed to fits (member, keys, label_end_date) are the train and validation rows of the split, each once,
    and every label among them was known before `as_of`."""
    columns = [*KEYS, "label_end_date"]
    late = ~(seen["label_end_date"] < pd.Timestamp(as_of))
    findings = [f"seen_rows: label not known before as_of: {text}" for text in _rows(seen, late, columns)[:10]]
    cases = 0
    for name in ("train", "validation"):
        mine, own = seen.loc[seen["member"] == name, columns], split.loc[split["split"] == name, columns]
        cases += len(own)
        joined = mine.merge(own, on=columns, how="outer", indicator=True)
        only = (
            joined["_merge"].map({"left_only": "was seen only", "right_only": "was not seen", "both": ""}).astype(str)
        )
        for text, what in zip(_rows(joined, only != "", columns), only[only != ""]):
            findings.append(f"seen_rows, {name}: {text} {what}; the split and the fit disagree")
        if mine.duplicated(KEYS).any():
            findings.append(f"seen_rows, {name}: {int(mine.duplicated(KEYS).sum())} rows were seen twice")
    return Verdict.of("rows_seen_are_those_permitted", cases, findings)


def probabilities_sum_to_one(predictions: pd.DataFrame) -> Verdict:
    """Raw and calibrated values are probabilities: each in [0, 1], each row summing to one within 1e-5."""
    findings: list[str] = []
    for prefix in ("p_raw", "p"):
        p = predictions[[f"{prefix}_{i}" for i in range(N_CLASSES)]].to_numpy(dtype=np.float64)
        bad = ~(np.isfinite(p).all(axis=1) & (p >= 0).all(axis=1) & (np.abs(p.sum(axis=1) - 1.0) < 1e-5))
        findings += [f"{prefix}: {text}" for text in _rows(predictions, bad, KEYS)]
    return Verdict.of("probabilities_sum_to_one", len(predictions), findings)


def predictions_are_for_snapshots_after_as_of(predictions: pd.DataFrame, as_of: pd.Timestamp) -> Verdict:
    """A model of as-of date T scores only snapshots dated T or later."""
    bad = predictions["snapshot_date"] < pd.Timestamp(as_of)
    return Verdict.of("predictions_are_for_snapshots_after_as_of", len(predictions), _rows(predictions, bad, KEYS))


def model_and_data_fingerprints_match(recorded: dict[str, str], actual: dict[str, str]) -> Verdict:
    """Every fingerprint the model recorded (data, split, scaler, features) equals that of the artifact in use."""
    findings = [
        f"{name}: the model was made from {value}, stored now is {actual.get(name, 'nothing')}"
        for name, value in recorded.items()
        if actual.get(name) != value
    ]
    findings += [f"{name}: the model recorded nothing to compare with" for name in actual if name not in recorded]
    return Verdict.of("model_and_data_fingerprints_match", len(recorded), findings)
