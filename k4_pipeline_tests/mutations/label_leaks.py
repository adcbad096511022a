"""Leaks in the labels: the window, the date on which a label is known, and which labels exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import LabelConfig
from k4_pipeline.market.bars import Bars, to_dates, to_days
from k4_pipeline_tests.mutations.registry import register

LABEL = "patterns.labels.label_snapshots"
_LABELS = ("labels_are_those_of_an_independent_race", "every_label_is_known_on_its_date_and_not_before")


def _relabelled(edit: Callable[[pd.DataFrame, Bars, LabelConfig], pd.DataFrame]) -> Callable[..., Any]:
    def wrapper(
        original: Callable[..., pd.DataFrame], bars: Bars, snapshots: pd.DataFrame, config: LabelConfig, **kwargs: Any
    ) -> pd.DataFrame:
        return edit(original(bars, snapshots, config, **kwargs), bars, config)

    return wrapper


def _in_reverse(
    original: Callable[..., pd.DataFrame], bars: Bars, snapshots: pd.DataFrame, config: LabelConfig, **kwargs: Any
) -> pd.DataFrame:
    backwards = original(bars, snapshots.iloc[::-1].reset_index(drop=True), config, **kwargs)
    return backwards.iloc[::-1].reset_index(drop=True)


_BENIGN: dict[str, Any] = {"benign": _in_reverse, "benign_does": "the snapshots are labelled in reverse order"}


def _rows(labeled: pd.DataFrame, bars: Bars) -> np.ndarray:
    return bars.locate(labeled["ticker"], to_days(labeled["snapshot_date"].to_numpy()))


register(
    "label_window_starts_at_the_snapshot",
    stage="labels",
    where="patterns.labels.locate_snapshots",
    description="the race starts with the snapshot bar itself, whose high and low are known",
    expected=_LABELS,
    leak=lambda original, bars, snapshots: original(bars, snapshots) - 1,
    benign=lambda original, bars, snapshots: original(bars, snapshots.iloc[::-1])[::-1],
    benign_does="the snapshot bars are looked up in reverse order",
)


def _known_in_calendar_days(labeled: pd.DataFrame, bars: Bars, config: LabelConfig) -> pd.DataFrame:
    known = labeled["label_end_date"].notna() & ~labeled["censored"]
    early = labeled["snapshot_date"] + pd.Timedelta(days=config.horizon_bars)
    return labeled.assign(label_end_date=labeled["label_end_date"].where(~known, early).astype("datetime64[us]"))


register(
    "label_known_after_calendar_days",
    stage="labels",
    where=LABEL,
    description="the horizon is counted in calendar days instead of bars: a label counts as known weeks too early",
    expected=("labels_are_those_of_an_independent_race", "everything_is_reproduced_from_bars_cut_at_a_date"),
    leak=_relabelled(_known_in_calendar_days),
    **_BENIGN,
)


def _known_when_decided(labeled: pd.DataFrame, bars: Bars, config: LabelConfig) -> pd.DataFrame:
    rows, end = _rows(labeled, bars), labeled["label_end_date"].to_numpy(copy=True)
    upper = labeled["upper"].to_numpy() * (1.0 + config.gain_thresholds[3])
    lower = labeled["lower"].to_numpy() * (1.0 - config.stop_loss)
    for i in np.flatnonzero(labeled["outcome_class"].isin([4, 5]).to_numpy()):
        window = slice(rows[i] + 1, rows[i] + 1 + int(labeled["label_bars"].iloc[i]))
        hit = np.flatnonzero((bars.high[window] >= upper[i]) | (bars.low[window] <= lower[i]))
        if len(hit):
            end[i] = to_dates(bars.date[window][hit[:1]])[0]
    return labeled.assign(label_end_date=end)


register(
    "label_known_when_decided",
    stage="labels",
    where=LABEL,
    description="a decided race counts as known at once: extreme outcomes enter training earlier than the others",
    expected=("labels_are_those_of_an_independent_race",),
    leak=_relabelled(_known_when_decided),
    **_BENIGN,
)


def _open_ones_filled(labeled: pd.DataFrame, bars: Bars, config: LabelConfig) -> pd.DataFrame:
    unknown = labeled["outcome_class"].isna()
    next_day = labeled["snapshot_date"] + pd.Timedelta(days=1)
    return labeled.assign(
        outcome_class=labeled["outcome_class"].fillna(0),
        label_end_date=labeled["label_end_date"].where(~unknown, next_day).astype("datetime64[us]"),
    )


register(
    "open_labels_count_as_stagnant",
    stage="labels",
    where=LABEL,
    description="a race that is not over yet is called stagnant and known",
    expected=("labels_are_those_of_an_independent_race", "everything_is_reproduced_from_bars_cut_at_a_date"),
    leak=_relabelled(_open_ones_filled),
    **_BENIGN,
)


def _longer_horizon(
    original: Callable[..., pd.DataFrame], bars: Bars, snapshots: pd.DataFrame, config: LabelConfig, **kwargs: Any
) -> pd.DataFrame:
    labeled = original(bars, snapshots, config, **kwargs)
    rows, stop = _rows(labeled, bars), bars.offsets[1:]
    ends = stop[np.searchsorted(bars.offsets, rows, side="right") - 1]
    upper = labeled["upper"].to_numpy() * (1.0 + config.gain_thresholds[3])
    outcome = labeled["outcome_class"].copy()
    for i in np.flatnonzero((outcome.notna() & ~labeled["censored"]).to_numpy()):
        after = slice(rows[i] + 1 + config.horizon_bars, min(rows[i] + 11 + config.horizon_bars, ends[i]))
        if len(bars.high[after]) and bars.high[after].max() >= upper[i] and outcome.iloc[i] != 5:
            outcome.iloc[i] = 4
    return labeled.assign(outcome_class=outcome)


register(
    "label_looks_past_its_end_date",
    stage="labels",
    where=LABEL,
    description="a target reached up to ten bars after label_end_date still counts",
    expected=_LABELS,
    leak=_longer_horizon,
    **_BENIGN,
)


def _stopped_ones_dropped(labeled: pd.DataFrame, bars: Bars, config: LabelConfig) -> pd.DataFrame:
    gone = labeled["censored"].to_numpy()
    return labeled.assign(
        outcome_class=labeled["outcome_class"].mask(gone),
        label_end_date=labeled["label_end_date"].mask(gone),
        censored=False,
        label_bars=labeled["label_bars"].mask(gone, 0),
    )


register(
    "delisted_snapshots_lose_their_label",
    stage="labels",
    where=LABEL,
    description="snapshots of tickers that were delisted during the race are left without a label: survivors train",
    expected=("labels_are_those_of_an_independent_race",),
    leak=_relabelled(_stopped_ones_dropped),
    **_BENIGN,
)


def _sorted_values(labeled: pd.DataFrame, bars: Bars, config: LabelConfig) -> pd.DataFrame:
    known = labeled["outcome_class"].notna()
    by_date = labeled[known].sort_values(["snapshot_date", "ticker"], kind="stable")
    outcome = labeled["outcome_class"].copy()
    outcome[known] = by_date["outcome_class"].array
    return labeled.assign(outcome_class=outcome)


register(
    "labels_joined_by_position",
    stage="labels",
    where=LABEL,
    description="classes in the order of dates are put by position beside snapshots in the order of tickers",
    expected=("labels_are_those_of_an_independent_race", "everything_is_reproduced_from_bars_cut_at_a_date"),
    leak=_relabelled(_sorted_values),
    **_BENIGN,
)


def _target_first(labeled: pd.DataFrame, bars: Bars, config: LabelConfig) -> pd.DataFrame:
    rows, outcome = _rows(labeled, bars), labeled["outcome_class"].copy()
    for i in np.flatnonzero((outcome == 5).fillna(False).to_numpy()):
        window = slice(rows[i] + 1, rows[i] + 1 + int(labeled["label_bars"].iloc[i]))
        stop = np.flatnonzero(bars.low[window] <= labeled["lower"].iloc[i] * (1.0 - config.stop_loss))
        if len(stop) and bars.high[window][stop[0]] >= labeled["upper"].iloc[i] * (1.0 + config.gain_thresholds[0]):
            outcome.iloc[i] = 1
    return labeled.assign(outcome_class=outcome)


register(
    "target_before_stop_on_one_bar",
    stage="labels",
    where=LABEL,
    description="a bar that reaches both the stop and a target counts as the target",
    expected=("labels_are_those_of_an_independent_race",),
    leak=_relabelled(_target_first),
    **_BENIGN,
)
