"""The declarations are complete, in canonical order, and what the computation does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from k4_pipeline.errors import ConfigError
from k4_pipeline.features import spec as spec_module
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.spec import (
    FEATURE_NAMES,
    FEATURES,
    MARKET_CHANNELS,
    MARKET_COLUMN,
    MARKET_FEATURES,
    PATTERN_CHANNELS,
    feature_list_hash,
)
from k4_pipeline_tests.features.conftest import bars_of, random_ticker


def test_there_are_26_core_19_ebp_and_24_derived_features_in_canonical_order() -> None:
    assert [f.group for f in FEATURES] == ["core"] * 26 + ["ebp"] * 19 + ["derived"] * 24
    assert [f.index for f in FEATURES] == list(range(1, 70))
    assert len(set(FEATURE_NAMES)) == 69
    anchors = {1: "days_since_activation", 9: "current_bbw_20", 26: "distance_from_power_pct"}
    anchors |= {27: "cci_bbw_compression", 45: "ebp_signal", 46: "avg_range_20d", 69: "days_in_qualification"}
    assert {i: FEATURE_NAMES[i - 1] for i in anchors} == anchors


def test_the_pattern_channels_are_the_fourteen_of_the_table() -> None:
    wanted = [1, 2, 3, 4, 23, 24, 25, 26, 49, 50, 51, 52, 67, 69]
    assert (PATTERN_CHANNELS + 1).tolist() == wanted
    assert sorted([*MARKET_CHANNELS, *PATTERN_CHANNELS]) == list(range(69))


def test_the_first_value_stands_on_the_last_bar_of_the_declared_look_back() -> None:
    bars = bars_of({"CLEAN": random_ticker(3, 500)})
    values = compute_market_features(bars, dtype=np.float64)
    for i, feature in enumerate(MARKET_FEATURES):
        there = np.isfinite(values[:, i])
        assert int(np.argmax(there)) + 1 == feature.lookback_bars, feature.name
        assert there[feature.lookback_bars - 1 :].all(), feature.name


def test_an_incomplete_declaration_is_an_error() -> None:
    plain = FEATURES[MARKET_CHANNELS[0]]
    for changes in (
        {"lookback_bars": 0},
        {"recursive": True},
        {"warmup_bars": 7},
        {"scale": "invariant"},
        {"clip": (0.0, 1.0)},
        {"scale": "invariant", "clip": (1.0, 1.0)},
    ):
        with pytest.raises(ConfigError, match=plain.name):
            replace(plain, **changes)


def test_the_feature_list_hash_follows_the_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    before = feature_list_hash()
    changed = (*FEATURES[:-1], replace(FEATURES[-1], formula="something else"))
    monkeypatch.setattr(spec_module, "FEATURES", changed)
    assert feature_list_hash() != before


def test_clips_contain_what_the_formulas_bound() -> None:
    values = compute_market_features(bars_of({"CLEAN": random_ticker(4, 900)}))
    for name in ("current_bbw_percentile", "cci_score", "var_score", "nes_rsa_proxy", "nes_score", "ebp_signal"):
        column = values[:, MARKET_COLUMN[name]]
        clip = MARKET_FEATURES[MARKET_COLUMN[name]].clip
        assert clip is not None
        assert np.nanmin(column) >= np.float32(clip[0])
        assert np.nanmax(column) <= np.float32(clip[1])
