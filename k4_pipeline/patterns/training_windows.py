"""Training windows: boxes at any bar, whatever it looks like, for the first phase of training.

The scanner of consolidation.py with every criterion switched off: the high and low of `box_bars` bars are a box, active
until it is left, and then the next one begins. Boundaries, sampling by hash and labels are those of snapshots, so a
window is a function of bars up to its date and its label one of bars up to its `label_end_date`.
"""

from __future__ import annotations

import dataclasses
import math

import pandas as pd

from k4_pipeline.config import LabelConfig, PatternConfig, WindowConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.market.bars import Bars, DayLike, to_days
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.sampling import sampling_uniform
from k4_pipeline.patterns.snapshots import make_snapshots

_KEEPING = 1_000_003  # between the seed that samples bars of a box and the one that keeps windows


def any_bar(windows: WindowConfig, patterns: PatternConfig) -> PatternConfig:
    """The pattern settings whose patterns are boxes at any bar."""
    if windows.box_bars < 1 or not 0 <= windows.sample_probability <= 1 or not 0 < windows.density <= 1:
        raise ConfigError(
            "windows.box_bars must be 1 or more, windows.sample_probability in [0, 1] and windows.density in (0, 1], "
            f"found {windows.box_bars}, {windows.sample_probability} and {windows.density}"
        )
    return dataclasses.replace(
        patterns,
        bbw_percentile_max=math.inf,
        adx_max=math.inf,
        volume_ratio_max=math.inf,
        range_ratio_max=math.inf,
        min_other=0,
        qualifying_bars=windows.box_bars,
        # Where patterns may begin early, windows may as well.
        min_history_bars=min(windows.min_history_bars, patterns.min_history_bars),
        sample_probability=windows.sample_probability,
        sample_probability_late=windows.sample_probability,
        sampling_seed=windows.seed,
    )


def make_training_windows(
    bars: Bars,
    windows: WindowConfig,
    patterns: PatternConfig,
    labels: LabelConfig,
    *,
    default_exchange: str = "XNYS",
    data_end: DayLike | None = None,
) -> pd.DataFrame:
    """The labelled windows, with the columns of labelled snapshots; those whose label is not known yet are left out.

    Sorted by (ticker, start_date, snapshot_date); `pattern_id` begins with `window|`, so that none is a pattern's.
    """
    made = make_snapshots(bars, any_bar(windows, patterns))
    uniform = sampling_uniform(
        windows.seed + _KEEPING, made["ticker"].to_numpy(dtype=object), to_days(made["snapshot_date"].to_numpy())
    )
    made = made[uniform < windows.density].reset_index(drop=True)
    made["pattern_id"] = ("window|" + made["pattern_id"]).astype("str")
    labeled = label_snapshots(bars, made, labels, default_exchange=default_exchange, data_end=data_end)
    return labeled[labeled["outcome_class"].notna()].reset_index(drop=True)
