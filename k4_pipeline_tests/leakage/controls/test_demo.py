"""The leak demo: what is held equal between the two splits, and how it is shown."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from k4_pipeline.leakage.controls import demo
from k4_pipeline.pipeline import stages as production
from k4_pipeline.report.text import demo_section
from k4_pipeline_tests.mutations.universe import make_universe


@pytest.fixture(scope="module")
def honest() -> production.PipelineRun:
    universe = make_universe("simulated", 0)
    return production.run_path(universe.raw, universe.config, universe.as_of, model=None, today=universe.today)


def test_the_random_split_has_members_of_the_same_size_and_mixes_patterns(honest):
    random = demo.random_split(honest, seed=0)
    known = random["outcome_class"].notna()
    for name in ("train", "validation", "test"):
        of_member = (honest.split["split"] == name) & honest.split["outcome_class"].notna()
        assert ((random["split"] == name) & known).sum() == of_member.sum()
    members = random[random["split"] != "excluded"].groupby("pattern_id")["split"].nunique()
    assert (members > 1).any()  # what the honest split never has
    assert honest.split[honest.split["split"] != "excluded"].groupby("pattern_id")["split"].nunique().max() == 1
    assert demo.random_split(honest, seed=0).equals(random)


def test_both_trainings_stand_side_by_side_with_their_intervals(honest):
    universe = make_universe("simulated", 0)
    done = []
    path = production.build_from_raw(universe.raw, universe.config, today=universe.today)
    market = demo.compare_on("a small market", path, universe.as_of, 0, lambda: done.append(1))
    assert len(done) == 2
    assert [row["metric"] for row in market["rows"]] == [title for _, title in demo.METRICS]
    for row in market["rows"]:
        for name in ("honest", "random"):
            assert row[name]["low"] <= row[name]["value"] <= row[name]["high"] or np.isnan(row[name]["value"])
    assert market["test"]["honest"]["rows"] == market["test"]["random"]["rows"]
    text = demo_section({"markets": [market], "in_words": demo.in_words([market])})
    assert "honest split (by date, purged)" in text
    assert f"{market['rows'][0]['honest']['value']:.3f}" in text


def test_a_metric_that_is_not_defined_is_said_to_be_so():
    nothing = {"value": float("nan"), "low": float("nan"), "high": float("nan")}
    market = {
        "market": "m",
        "as_of": "2020-01-01",
        "rows": [{"metric": "K4 AUC", "honest": nothing, "random": nothing}],
        "test": {name: {"rows": 3, "k4": 0} for name in ("honest", "random")},
    }
    words = demo.in_words([market])
    assert "holds no K4 row" in words
    assert "n/a" in demo_section({"markets": [market], "in_words": words})


@pytest.mark.slow
def test_the_command_prints_the_counts_as_one_json_document(monkeypatch):
    from k4_pipeline import cli

    monkeypatch.delenv("K4_REAL_DATA", raising=False)
    arguments = ["audit", "--planted", "--sample", "2", "--seeds", "1", "--clean-runs", "2", "--json"]
    result = CliRunner().invoke(cli.app, arguments)
    printed = json.loads(result.stdout)
    assert printed["planted"] == printed["detected"] == 2, printed["not_detected"]
    assert printed["clean_runs"] == 2
    assert printed["false_alarms"] == 0, printed["alarms"]
    assert printed["universes_left_out"] == ["real"]
    assert printed["seconds_per_check"]
    assert result.exit_code == 0


def test_a_sample_that_is_no_number_is_explained():
    from k4_pipeline import cli

    result = CliRunner().invoke(cli.app, ["audit", "--planted", "--sample", "few"])
    assert result.exit_code == 1
    assert "no number of leaks" in result.stderr
