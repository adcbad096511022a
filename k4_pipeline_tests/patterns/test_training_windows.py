"""Training windows: any bar, labelled by the race, sampled by hash, and as they were known at every date."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import LabelConfig, PatternConfig, WindowConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.engine.small import small_config
from k4_pipeline.market.bars import to_days
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.sampling import thinned
from k4_pipeline.patterns.training_windows import any_bar, make_training_windows
from k4_pipeline.pipeline.training_windows import LABEL_COLUMNS, index_windows
from k4_pipeline.schemas import validate
from k4_pipeline.schemas.training_windows import TRAINING_WINDOWS

CONFIG = dataclasses.replace(small_config(1), windows=WindowConfig(sample_probability=0.2, density=1.0))


@pytest.fixture(scope="module")
def bars():
    return clean_bars(read_bars(CONFIG.source, CONFIG.simulation), CONFIG.cleaning).bars.subset(
        [f"S{i:04d}" for i in range(8)]
    )


@pytest.fixture(scope="module")
def table(bars):
    return make_training_windows(bars, CONFIG.windows, CONFIG.patterns, CONFIG.labels)


def test_the_box_is_the_high_and_low_of_its_ten_bars_and_begins_at_any_bar(bars, table):
    start = bars.locate(table["ticker"], to_days(table["start_date"]))
    last = bars.locate(table["ticker"], to_days(table["activation_date"]))
    assert (last - start == CONFIG.windows.box_bars - 1).all()
    for i in range(0, len(table), 17):
        box = slice(start[i], last[i] + 1)
        assert table["upper"].iloc[i] == bars.high[box].max()
        assert table["lower"].iloc[i] == bars.low[box].min()
    scanned = any_bar(CONFIG.windows, PatternConfig())
    assert scanned.min_other == 0
    assert len(table) > 10 * len(set(table["ticker"]))


def test_labels_are_the_race_of_snapshots_and_all_are_known(bars, table):
    again = label_snapshots(bars, table.drop(columns=LABEL_COLUMNS), CONFIG.labels)
    pd.testing.assert_frame_equal(again[LABEL_COLUMNS], table[LABEL_COLUMNS])
    assert table["outcome_class"].notna().all()
    assert (table["label_end_date"] > table["snapshot_date"]).all()


def test_on_cut_bars_the_windows_known_by_then_come_out_again_and_no_others(bars):
    whole = index_windows(bars, CONFIG)
    assert validate(TRAINING_WINDOWS, whole) == []
    for day in np.quantile(np.unique(bars.date), [0.7, 0.9]).astype(int):
        known = whole[to_days(whole["label_end_date"]) <= day].reset_index(drop=True)
        made = index_windows(bars.until(int(day)), CONFIG)
        rows = ["end_row", "first_row", "start_row", "activation_row"]
        assert len(known) > 20
        pd.testing.assert_frame_equal(known.drop(columns=rows), made.drop(columns=rows))


def test_density_and_limits_keep_nested_subsets(bars, table):
    half = make_training_windows(bars, dataclasses.replace(CONFIG.windows, density=0.5), CONFIG.patterns, CONFIG.labels)
    keys = ["ticker", "start_date", "snapshot_date"]
    assert 0.35 < len(half) / len(table) < 0.65
    assert len(half.merge(table, on=keys)) == len(half)
    rows = np.arange(len(table)) + 7
    names, days = table["ticker"].to_numpy(dtype=object), to_days(table["snapshot_date"].to_numpy())
    few, more = thinned(1, names, days, rows, 20), thinned(1, names, days, rows, 60)
    assert len(few) == 20
    assert set(few) < set(more)
    assert thinned(1, names, days, rows, len(table)) is rows
    assert few.min() >= 7


def test_no_window_bears_the_name_of_a_pattern(table):
    assert table["pattern_id"].str.startswith("window|").all()


def test_senseless_settings_are_refused():
    with pytest.raises(ConfigError, match=r"windows\.density"):
        any_bar(WindowConfig(density=0.0), PatternConfig())
    assert LabelConfig().horizon_bars == 100
