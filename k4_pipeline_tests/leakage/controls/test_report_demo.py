"""The leak demo of the report: made once for the same rows, and never missing without a reason."""

from __future__ import annotations

import dataclasses

import pytest

from k4_pipeline.config import ProofConfig
from k4_pipeline.leakage.controls import report_demo
from k4_pipeline.leakage.engine.small import SMALL_AS_OF
from k4_pipeline.report.text import demo_section

FINGERPRINTS = {name: name[::-1] for name in ("daily_bars", "labeled_snapshots", "market_features", "sequences")}


@pytest.fixture
def path(context):
    config = dataclasses.replace(context.config, proof=ProofConfig(demo_epochs=1))
    return dataclasses.replace(context.full, config=config, split=None, manifest=None, fitted=None, _cache={})


def _demo(folder, path, fingerprints=FINGERPRINTS, make=None):
    return report_demo.demo_of_report(folder, fingerprints, SMALL_AS_OF, path.config, make or (lambda: path))


def _never():
    raise AssertionError("trained again although nothing changed")


def test_the_demo_shows_both_splits_on_the_own_rows_and_is_kept(tmp_path, path):
    demo = _demo(tmp_path, path)
    (market,) = demo["markets"]
    assert market["market"] == "your own rows"
    assert market["test"]["honest"]["rows"] == market["test"]["random"]["rows"] > 50
    text = demo_section(demo)
    assert "random split (leaks)" in text
    assert "log loss" in text
    assert _demo(tmp_path, path, make=_never) == demo


def test_other_data_or_settings_are_another_demo(tmp_path, path):
    first = report_demo.demo_key(FINGERPRINTS, SMALL_AS_OF, path.config)
    other = report_demo.demo_key({**FINGERPRINTS, "sequences": "x"}, SMALL_AS_OF, path.config)
    later = report_demo.demo_key(FINGERPRINTS, "2024-07-01", path.config)
    settings = report_demo.demo_key(
        FINGERPRINTS, SMALL_AS_OF, dataclasses.replace(path.config, proof=ProofConfig(demo_rows=10))
    )
    assert len({first, other, later, settings}) == 4
    assert report_demo.demo_key({**FINGERPRINTS, "predictions": "y"}, SMALL_AS_OF, path.config) == first


def test_a_demo_that_is_switched_off_or_fails_says_so_and_how_to_get_it(tmp_path, path):
    off = dataclasses.replace(path, config=dataclasses.replace(path.config, proof=ProofConfig(leak_demo=False)))
    for demo in (_demo(tmp_path, off, make=_never), _demo(tmp_path / "other", path, make=_never)):
        assert "markets" not in demo
        assert "`k4 audit --demo`" in demo_section(demo)
    assert "proof.leak_demo is false" in _demo(tmp_path, off)["left_out"]


def test_a_report_made_before_there_was_a_demo_says_how_to_get_it():
    assert "`k4 audit --demo`" in demo_section({})
