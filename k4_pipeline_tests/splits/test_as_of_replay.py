"""The split as it would have been made on the as-of date: same train, same validation, same weights."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import LabelConfig, PatternConfig, SplitConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars, to_day
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.splits.as_of import quarter_starts
from k4_pipeline.splits.verify import verify_split
from k4_pipeline.splits.walk_forward import split_snapshots
from k4_pipeline_tests.sequences.conftest import random_bars, snapshots_at

CONFIG = SplitConfig(min_train_rows=1, min_validation_rows=1, validation_months=6, weight_by_uniqueness=True)
HORIZON = LabelConfig(horizon_bars=30)


def universe() -> tuple[Bars, pd.DataFrame]:
    """Tickers that trade on, end early, and pause for longer than a delisting; snapshots all along."""
    bars = random_bars({"AAA": 1500, "DEAD": 700, "GAP": 1500, "LATE": 400}, seed=4)
    frame = bars.to_frame()
    number = frame.groupby("ticker").cumcount()
    paused = (frame["ticker"] == "GAP") & number.between(600, 690)
    bars = Bars.from_frame(frame[~paused].reset_index(drop=True))
    rng = np.random.default_rng(9)
    cases = []
    for ticker in bars.tickers:
        n = len(bars.date[bars.ticker_slice(ticker)])
        for start in range(30, n - 12, 35):
            for offset in np.unique(rng.integers(0, 60, size=3)):
                if start + 9 + offset < n:
                    cases.append((ticker, start, start + 9, start + 9 + int(offset)))
    snapshots = snapshots_at(bars, cases)
    return bars, snapshots[snapshots["upper"] > snapshots["lower"]].reset_index(drop=True)


@pytest.mark.parametrize("horizon", [HORIZON, dataclasses.replace(HORIZON, labeling="first_breach")])
def test_bars_cut_at_the_as_of_date_give_the_same_train_and_validation(horizon: LabelConfig) -> None:
    bars, snapshots = universe()
    labeled = label_snapshots(bars, snapshots, horizon)
    assert labeled["censored"].any()
    assert labeled["outcome_class"].isna().any()
    compared = 0
    for as_of in quarter_starts("2016-01-01", "2020-12-31"):
        try:
            split, manifest = split_snapshots(labeled, as_of, CONFIG)
        except BadInputError:
            continue
        assert verify_split(split, manifest, labeled) == []
        then = bars.until(to_day(as_of))
        known = snapshots[snapshots["snapshot_date"] <= pd.Timestamp(as_of)].reset_index(drop=True)
        replayed, manifest_then = split_snapshots(label_snapshots(then, known, horizon), as_of, CONFIG)
        assert manifest_then.fit_fingerprint == manifest.fit_fingerprint
        parts = [s[s["split"].isin(["train", "validation"])].reset_index(drop=True) for s in (split, replayed)]
        pd.testing.assert_frame_equal(*parts)
        compared += 1
    assert compared >= 10


def test_the_default_bars_to_split_path_holds_on_real_bars(real_data_dir) -> None:
    """Scanned snapshots of real bars: the shipped splitter at its own default as-of date, replayed."""
    from k4_pipeline.patterns.snapshots import make_snapshots
    from k4_pipeline.splits.as_of import default_as_of

    frame = pd.read_parquet(real_data_dir / "us_daily_bars_small.parquet")
    frame["ticker"] = frame["ticker"].astype("str")
    sane = (frame[["open", "high", "low", "close"]] > 0).all(axis=1) & (frame["high"] >= frame["low"])
    frame = frame[sane].drop_duplicates(["ticker", "date"]).sort_values(["ticker", "date"]).reset_index(drop=True)
    bars = Bars.from_frame(frame)
    patterns, labels, config = PatternConfig(), LabelConfig(), SplitConfig()
    labeled = label_snapshots(bars, make_snapshots(bars, patterns), labels)
    as_of = default_as_of(labeled, config)
    split, manifest = split_snapshots(labeled, as_of, config)
    assert verify_split(split, manifest, labeled) == []
    assert min(manifest.rows[name] for name in ("train", "validation", "test")) > 0
    then = bars.until(to_day(as_of))
    labeled_then = label_snapshots(then, make_snapshots(then, patterns), labels)
    _, manifest_then = split_snapshots(labeled_then, as_of, config)
    assert manifest_then.fit_fingerprint == manifest.fit_fingerprint
