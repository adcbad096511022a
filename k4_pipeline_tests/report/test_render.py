"""The report renders every number it is given, marks what failed, and is one self-contained page."""

from __future__ import annotations

import json

import numpy as np
import pytest

from k4_pipeline.config import IntegrityConfig
from k4_pipeline.evaluation.integrity import run_integrity_tests
from k4_pipeline.evaluation.validation import class_table
from k4_pipeline.report.page import plotly_file
from k4_pipeline.report.render import render_html, render_report, share_plotly, with_proofs
from k4_pipeline.report.sections import verdict_groups
from k4_pipeline.report.summary import counted, headline_lines, money, next_steps, state
from k4_pipeline.report.text import render_markdown
from k4_pipeline.report.trading import render_backtest
from k4_pipeline.storage.json_values import json_safe
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
    base = report["metrics"]["baselines"]["volatility_20"]["k4_auc"]["value"]
    assert (
        f"| {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f}) | 0.500 | {base:.3f} (volatility 20) |" in text
    )
    for title in ("K4 recall in the top 5%", "K4 recall in the top 10%", "EV correlation (Pearson)"):
        assert title in text


def test_what_failed_stands_in_the_headline_and_in_its_table(report):
    text = render_markdown(report)
    assert "Not passed:" in text
    assert "no pattern in two splits" in text.split("## ")[0]
    assert "What to do next" in text.split("## ")[0]
    assert "no evidence" in text


def passing(report: dict) -> dict:
    """The same report with every test and proposition passed."""
    tests = [{**t, "passed": True, "status": "passed"} for t in report["integrity"]]
    verdicts = [{**v, "passed": True, "findings": [], "cases": 9} for v in report["verdicts"]]
    return {**report, "integrity": tests, "verdicts": verdicts}


def test_not_enough_evidence_is_counted_apart_from_failed(report):
    good = passing(report)
    assert state(good) == ("ok", "PASSED")
    thin = {**good["integrity"][0], "passed": False, "status": "not enough evidence"}
    assert state({**good, "integrity": [thin]}) == ("open", "NOT ENOUGH EVIDENCE")
    wrong = {**good["integrity"][1], "passed": False, "status": "failed"}
    assert counted({**good, "integrity": [thin, wrong]}) == (
        "Integrity tests and propositions: 1 failed, 1 without enough evidence."
    )
    assert state({**good, "integrity": [thin, wrong]})[0] == "bad"


def test_worse_than_the_class_mix_is_the_first_line(report):
    said = "Worse than the class mix (log loss 1.600 against 1.500): its probabilities are not worth having."
    metrics = {**report["metrics"], "headline": [said, "The logit wins."]}
    lines = headline_lines({**report, "metrics": metrics})
    assert lines[0].startswith(said)
    assert sum(said in line for line in lines) == 1
    assert any("The logit wins." in line for line in lines)
    assert "Do not use" in render_html({**report, "metrics": metrics})
    good = {**metrics, "headline": ["Probabilities better than the class mix (log loss 1.4 against 1.5)."]}
    assert not any("Do not use" in line for line in headline_lines({**report, "metrics": good}))


def test_the_page_reads_plotly_from_the_shared_file_or_holds_it(report, tmp_path):
    page = render_html(report)
    assert "NOT ENOUGH EVIDENCE" in page
    assert f'<script src="../{plotly_file()}">' in page
    assert page.count('class="plot"') >= 5
    assert share_plotly(tmp_path).name == plotly_file()
    single = render_html(report, single_file=True)
    assert "<script src=" not in single
    assert len(single) > 1_000_000 > len(page)


EVIL = "<script>alert(1)</script>"


def test_no_value_reaches_the_page_as_markup(report):
    verdict = {
        "name": EVIL,
        "passed": False,
        "cases": 3,
        "findings": [EVIL + "<img src=x onerror=alert(1)>"],
        "detail": {},
    }
    chart = {"dates": ["2015-01-02"], "start": EVIL, "snapshot": "2015-01-02", "upper": 2.0, "lower": 1.0, "power": 2.1}
    chart |= {"stop": 0.9, **{name: [1.0] for name in ("open", "high", "low", "close")}}
    card = {"ticker": EVIL, "snapshot_date": EVIL, "signal": EVIL, "p_4": 0.1, "p_5": 0.1, "ev": 0.0, "chart": chart}
    evil = {
        **report,
        "verdicts": [verdict],
        "data": {EVIL: EVIL},
        "provenance": {EVIL: EVIL},
        "versions": {EVIL: EVIL},
        "code": {EVIL: EVIL},
        "leak_demo": {"left_out": EVIL},
        "top_signals": [{**card, "reasons": [{"in_words": EVIL}]}],
        "trading": {"left_out": EVIL},
        "classes": [{**row, "split": EVIL} for row in report["classes"]],
        "model": {**report["model"], EVIL: EVIL},
    }
    for text in (render_html(evil), render_markdown(evil)):
        assert "<script>alert" not in text
        assert "<img" not in text
    assert "&lt;script&gt;alert(1)" in render_html(evil)


def test_propositions_are_grouped_by_the_asset_they_are_about(report):
    verdicts = [{**v, "detail": {"asset": asset}} for v, asset in zip(report["verdicts"], ("dataset_split", "signals"))]
    titles = [group["title"] for group in verdict_groups({**report, "verdicts": verdicts})]
    assert titles == ["dataset split: 1 of 1 hold", "signals: 0 of 1 hold"]


def test_the_three_files_are_written_and_the_json_has_no_nan(report, tmp_path):
    files = render_report(report, tmp_path / "out")
    stored = json.loads(files.json.read_text())
    assert stored["metrics"]["n"] == report["metrics"]["n"]
    assert "NaN" not in files.json.read_text()
    assert 20_000 < files.html.stat().st_size < 1_000_000
    assert files.markdown.read_text().startswith("# Validation report")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]


def test_values_that_are_not_finite_become_null():
    assert json_safe({"a": float("nan"), "b": [float("inf"), 1.0]}) == {"a": None, "b": [None, 1.0]}


def test_a_backtest_without_a_filled_order_is_a_page_that_says_so():
    trading = {"results": [], "curves": [], "monthly": [{"year": 2024, "months": [None] * 12, "year_return": 0.0}]}
    row = {
        "rule": "model",
        "exits": "race",
        "trades": 0,
        "net_return": 0.0,
        "mean_net": None,
        "low": None,
        "high": None,
    }
    row |= {"hit_rate": None, "max_drawdown": 0.0, "turnover": 0.0, "break_even_cost": None, "mean_cost": None}
    said = "model: no order was filled, so there is nothing to judge."
    assert said in render_backtest({**trading, "results": [row], "in_words": [said], "assumptions": []}, "Backtest")


@pytest.mark.parametrize(
    "learnt, source, said",
    [
        (0, {"path": "/my/bars"}, "0 K4 rows to learn from: add tickers or years to /my/bars."),
        (0, {}, "`k4 run --path DIR` reads your own bars"),
        (300, {}, "`k4 run --again --test-months 24`"),
    ],
)
def test_few_k4_rows_are_answered_with_the_commands_that_bring_more(report, learnt, source, said):
    classes = [{**row, "k4": learnt if row["split"] == "train" else 0} for row in report["classes"]]
    config = {"source": source, "split": {"test_months": 12}}
    few = {**passing(report), "metrics": {**report["metrics"], "n_k4": 3}, "classes": classes, "config": config}
    steps = " ".join(next_steps(few))
    assert said in steps
    assert f"`k4 walk-forward{' --path /my/bars' if source else ''} --from YEAR --to YEAR`" in steps


@pytest.mark.parametrize(
    "trades, low, high, said",
    [
        (1, None, None, "in one trade, which shows nothing"),
        (9, -0.02, 0.04, "the interval holds zero, so no edge is shown"),
        (9, -0.04, -0.02, "the whole interval lies below zero"),
        (9, 0.01, 0.04, "(+1.00% to +4.00%)."),
    ],
)
def test_the_sentence_about_money_follows_from_the_interval(report, trades, low, high, said):
    rule = {"headline": True, "trades": trades, "net_return": 0.05, "mean_net": 0.02, "low": low, "high": high}
    assert said in money({**report, "trading": {"results": [rule]}})


def test_the_page_says_which_proofs_were_made_once():
    page = with_proofs("<h1>Report</h1>\n<p>body</p>", "Audit: 3 of 3 checks hold.")
    again = with_proofs(page, "Audit: 2 of 3 checks hold <b>.")
    assert page.count("proofs") == again.count("proofs") == 1
    assert "2 of 3 checks hold &lt;b&gt;." in again
    assert "3 of 3" not in again
