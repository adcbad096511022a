"""The report renders every number it is given, marks what failed, and is one self-contained page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from k4_pipeline.config import IntegrityConfig
from k4_pipeline.evaluation.integrity import run_integrity_tests
from k4_pipeline.evaluation.validation import class_table
from k4_pipeline.report.render import json_safe, render_html, render_report
from k4_pipeline.report.text import render_markdown
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.evaluation.test_integrity import AS_OF, make_scored, make_split, metrics_of


@pytest.fixture(scope="module")
def report() -> dict:
    scored, split = make_scored(), make_split()
    metrics = metrics_of(scored)
    verdicts = [Verdict.of("purge_holds", 900, []), Verdict.of("no_pattern_in_two_splits", 0, [])]
    tests = run_integrity_tests(split, AS_OF, scored, metrics, IntegrityConfig(bootstrap_draws=50))
    history = [{"epoch": i, "train_loss": 2.0 - i, "validation_loss": 2.5 - i, "recall": 0.1 * i} for i in range(3)]
    return {
        "as_of": "2015-01-01",
        "data": {"source": "simulated", "tickers": 80},
        "classes": class_table(split),
        "model": {"architecture": "mamba_attention", "parameters": 500_000, "history": history, "monitor": "recall"},
        "metrics": metrics,
        "unlabelled_test_rows": 3,
        "integrity": [t.to_dict() for t in tests],
        "verdicts": [v.to_dict() for v in verdicts],
        "audit_passed": None,
        "passed": False,
        "provenance": {"daily_bars": "ab" * 32},
        "config": {},
        "versions": {"numpy": np.__version__},
    }


def test_the_markdown_gives_every_metric_with_its_base_rate_and_interval(report):
    text = render_markdown(report)
    auc = report["metrics"]["model"]["k4_auc"]
    assert f"**{auc['value']:.3f}**" in text
    assert f"{auc['low']:.3f} to {auc['high']:.3f}" in text
    base = report["metrics"]["volatility_ranking"]["k4_auc"]["value"]
    assert f"| 0.500 | {base:.3f} |" in text
    for title in ("K4 recall in the top 5%", "K4 recall in the top 10%", "EV correlation (Pearson)"):
        assert title in text


def test_what_failed_stands_in_the_headline_and_in_its_table(report):
    text = render_markdown(report)
    assert "Not passed:" in text
    assert "no pattern in two splits" in text.split("## Integrity tests")[0]
    assert "no evidence" in text


def test_the_page_is_self_contained_and_shows_the_verdict(report):
    page = render_html(report)
    assert "NOT PASSED" in page
    assert "<script src=" not in page
    assert page.count("plotly-graph-div") >= 5
    assert "PASSED.</b>" in render_html({**report, "passed": True})


def test_the_three_files_are_written_and_the_json_has_no_nan(report, tmp_path):
    files = render_report(report, tmp_path / "out")
    stored = json.loads(files.json.read_text())
    assert stored["metrics"]["n"] == report["metrics"]["n"]
    assert "NaN" not in files.json.read_text()
    assert files.html.stat().st_size > 100_000
    assert files.markdown.read_text().startswith("# Validation report")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]


def test_values_that_are_not_finite_become_null():
    assert json_safe({"a": float("nan"), "b": [float("inf"), 1.0]}) == {"a": None, "b": [None, 1.0]}
