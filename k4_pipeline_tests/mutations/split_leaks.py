"""Leaks in the split: purge, embargo, random membership, duplicates. Sums and manifests are made to fit the leak."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import Bars
from k4_pipeline.splits.boundaries import NEVER, SplitBoundaries, day_numbers, known_label_end
from k4_pipeline_tests.mutations.registry import Wrapper, register

ASSIGN = "splits.walk_forward.assign_membership"
_PURGE = ("purge_margins_hold_when_recomputed_from_bars", "membership_follows_from_dates_alone")
_APART = (
    "nothing_lies_in_two_members",
    "membership_follows_from_dates_alone",
    "purge_margins_hold_when_recomputed_from_bars",
)

Membership = tuple[np.ndarray, np.ndarray]


def _in_reverse(original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries) -> Membership:
    names, reasons = original(labeled.iloc[::-1].reset_index(drop=True), bounds)
    return names[::-1], reasons[::-1]


_BENIGN: dict[str, Any] = {"benign": _in_reverse, "benign_does": "membership is decided in reverse order of the rows"}


def _with_bounds(change: Callable[[SplitBoundaries], SplitBoundaries]) -> Wrapper:
    return lambda original, labeled, bounds: original(labeled, change(bounds))


def _members(names: np.ndarray) -> Membership:
    return names.astype(object), np.where(names == "excluded", "after_test", "").astype(object)


def _no_purge(original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries) -> Membership:
    snapshot, known = day_numbers(labeled["snapshot_date"]), known_label_end(labeled) < NEVER
    # As if every label were known on the day of its snapshot.
    end = pd.to_datetime(np.where(known, snapshot, 0).astype("datetime64[D]")).astype("datetime64[us]")
    return original(labeled.assign(label_end_date=pd.Series(end, index=labeled.index).where(known)), bounds)


register(
    "purge_of_zero",
    stage="split",
    where=ASSIGN,
    description="train and validation end where the next member starts, whatever their labels still wait for",
    expected=_PURGE,
    leak=_no_purge,
    **_BENIGN,
)


def _purge_by_rows(original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries) -> Membership:
    names, reasons = _no_purge(original, labeled, bounds)
    for name in ("train", "validation"):
        mine = np.flatnonzero(names == name)
        last = mine[np.argsort(day_numbers(labeled["snapshot_date"])[mine], kind="stable")][-5:]
        names[last], reasons[last] = "excluded", "label_not_known_before_validation"
    return names, reasons


register(
    "purge_by_row_count",
    stage="split",
    where=ASSIGN,
    description="the last five rows of each member are purged instead of those whose label is not known",
    expected=_PURGE,
    leak=_purge_by_rows,
    **_BENIGN,
)
register(
    "purge_half_open",
    stage="split",
    where=ASSIGN,
    description="a label that becomes known on the boundary day itself counts as known before it (<= instead of <)",
    expected=_PURGE,
    leak=_with_bounds(lambda b: dataclasses.replace(b, train_end=b.train_end + 1)),
    **_BENIGN,
)
register(
    "embargo_on_the_wrong_side",
    stage="split",
    where=ASSIGN,
    description="the embargo is added to the train span instead of taken from it",
    expected=_PURGE,
    leak=_with_bounds(lambda b: dataclasses.replace(b, train_end=2 * b.validation_start - b.train_end)),
    **_BENIGN,
)
register(
    "embargo_forgotten",
    stage="split",
    where=ASSIGN,
    description="no embargo between train and validation",
    expected=_PURGE,
    leak=_with_bounds(lambda b: dataclasses.replace(b, train_end=b.validation_start)),
    **_BENIGN,
)


def _at_random(key: str | None) -> Wrapper:
    """Labelled rows are assigned at random: by row, or by the value of `key`."""

    def wrapper(original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries) -> Membership:
        codes = np.arange(len(labeled)) if key is None else pd.factorize(labeled[key])[0]
        draw = np.random.default_rng(5).random(int(codes.max()) + 1)[codes]
        names = np.select([draw < 0.6, draw < 0.8], ["train", "validation"], "test").astype(object)
        names[labeled["outcome_class"].isna().to_numpy() & (names != "test")] = "excluded"
        return _members(names)

    return wrapper


for _name, _key, _what in (
    ("split_by_random_rows", None, "rows"),
    ("split_by_pattern", "pattern_id", "patterns"),
    ("split_by_ticker", "ticker", "tickers"),
):
    register(
        _name,
        stage="split",
        where=ASSIGN,
        description=f"{_what} are assigned to train, validation and test at random, whatever their dates",
        expected=_APART,
        leak=_at_random(_key),
        **_BENIGN,
    )


def _patterns_cut(original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries) -> Membership:
    # Every row a pattern of its own, so that nothing keeps a pattern together.
    alone = labeled.assign(pattern_id=[f"{i}" for i in range(len(labeled))])
    return original(alone, bounds)


register(
    "pattern_in_two_splits",
    stage="split",
    where=ASSIGN,
    description="snapshots of one pattern are assigned to validation and test alike",
    expected=_APART,
    leak=_patterns_cut,
    **_BENIGN,
)


def _late_rows_trained(
    original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries
) -> Membership:
    names, reasons = original(labeled, bounds)
    test = np.flatnonzero((names == "test") & labeled["outcome_class"].notna().to_numpy())
    names[test[:5]] = "train"
    return names, reasons


register(
    "test_rows_in_train",
    stage="split",
    where=ASSIGN,
    description="five rows of the test span are called train",
    expected=_PURGE,
    leak=_late_rows_trained,
    **_BENIGN,
)


def _unlabelled_trained(
    original: Callable[..., Membership], labeled: pd.DataFrame, bounds: SplitBoundaries
) -> Membership:
    rows = np.flatnonzero(known_label_end(labeled) >= bounds.as_of)
    end = labeled["label_end_date"].copy()
    early = labeled["snapshot_date"] + pd.Timedelta(days=1)
    end.iloc[rows] = early.iloc[rows]
    return original(labeled.assign(outcome_class=labeled["outcome_class"].fillna(0), label_end_date=end), bounds)


register(
    "labels_not_known_at_as_of_are_used",
    stage="split",
    where=ASSIGN,
    description="validation rows whose race is still open at the as-of date are kept, with the outcome of later",
    expected=_PURGE,
    leak=_unlabelled_trained,
    **_BENIGN,
)


def _copies_of(edit: Callable[[Bars], Bars]) -> Wrapper:
    def wrapper(original: Callable[..., Any], raw: Any, config: Any, **kwargs: Any) -> Any:
        result = original(raw, config, **kwargs)
        return dataclasses.replace(result, bars=edit(result.bars))

    return wrapper


def _with_a_copy(bars: Bars, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Bars:
    frame = bars.to_frame()
    first = frame[frame["ticker"] == bars.tickers[int(np.argmax(np.diff(bars.offsets)))]].copy()
    return Bars.from_frame(pd.concat([frame, change(first.assign(ticker="ZZ2"))], ignore_index=True))


def _renamed(part: pd.DataFrame) -> pd.DataFrame:
    part[["open", "high", "low", "close"]] *= 1.37
    return part


register(
    "duplicated_ticker",
    stage="split",
    where="market.cleaning.clean_bars",
    description="a second listing of one company stands in the universe under another name, at another price level",
    expected=("no_ticker_is_tested_under_another_name",),
    leak=_copies_of(lambda bars: _with_a_copy(bars, _renamed)),
    benign=_copies_of(lambda bars: Bars.from_frame(bars.to_frame())),
    benign_does="the bars pass through a table",
)


def _oversampled(original: Callable[..., Any], labeled: pd.DataFrame, as_of: Any, config: Any) -> Any:
    split, manifest = original(labeled, as_of, config)
    rare = split["outcome_class"].isin([4]) & (split["split"] != "excluded")
    weight = split["weight"].where(~rare, split["weight"] * 5.0)
    return split.assign(weight=weight), manifest


def _copied_before(original: Callable[..., Any], labeled: pd.DataFrame, as_of: Any, config: Any) -> Any:
    split, manifest = original(labeled, as_of, config)
    rare = split["outcome_class"].isin([3, 4]) & (split["split"] == "test")
    copies = split[rare].assign(split="train", reason="")
    return pd.concat([split, copies], ignore_index=True), manifest


for _name, _leak, _what in (
    ("oversampled_before_the_split", _copied_before, "rare rows are copied, and the copies land in train"),
    ("rare_classes_weighted_everywhere", _oversampled, "rare rows of every member weigh five times, test included"),
):
    register(
        _name,
        stage="split",
        where="splits.walk_forward.split_snapshots",
        description=_what,
        expected=("membership_follows_from_dates_alone", "nothing_lies_in_two_members"),
        leak=_leak,
        benign=lambda original, labeled, as_of, config: original(labeled.copy(), as_of, config),
        benign_does="the labelled snapshots are copied first",
    )
