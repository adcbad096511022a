"""`k4 run` from the shell on a tiny simulated market, and what the other commands make of its results."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from rich.console import Console
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.cli.progress import readable
from k4_pipeline.cli.results import show_result
from k4_pipeline.defs.export import EXPORTS
from k4_pipeline.defs.graph import ASSET_ORDER
from k4_pipeline.defs.instance import create_home, open_instance
from k4_pipeline.defs.run import DATA_ASSETS, RunOutcome, run_graph
from k4_pipeline.evaluation.baselines import BASELINES
from k4_pipeline.leakage.controls.negative_controls import CONTROLS
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings, load_settings
from k4_pipeline.storage import ArtifactStore
from k4_pipeline_tests.cli.terminal import run_in_terminal
from k4_pipeline_tests.docs.test_pages import commands_in_blocks

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
TINY = ["--tickers", "40", "--bars", "1500", "--preset", "tiny", "--epochs", "2"]
# Every stage and member of the default recipe, each with little to do.
LIGHT = {
    "recipe.pretrain_epochs": 1,
    "recipe.forest_trees": 20,
    "windows.density": 0.05,
    "controls.epochs": 1,
    "controls.max_rows": 400,
    "proof.demo_epochs": 1,
    "proof.demo_rows": 400,
    "integrity.bootstrap_draws": 200,
    "trading.random_draws": 20,
}
TINY += [part for name, value in LIGHT.items() for part in ("--set", f"{name}={value}")]


def k4(home: Path, *arguments: object, ok: bool = True) -> Result:
    """Run the command in this process; numba compiles once for all tests that way."""
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={**unset, "K4_HOME": str(home)})
    assert (done.exit_code == 0) == ok, done.output[-3000:]
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A home folder in which one run succeeded, its progress drawn on a pseudo-terminal of 80 columns."""
    home = tmp_path_factory.mktemp("k4") / "home"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("K4_")}
    command = [sys.executable, "-m", "k4_pipeline.cli", "run", *TINY, "--json"]
    stdout = home.parent / "stdout"
    status, drawn = run_in_terminal(command, {**environment, "K4_HOME": str(home)}, stdout)
    assert status == 0, "".join(text for _, text in drawn)[-3000:]
    (home / "result.json").write_text(stdout.read_text())
    (home / "terminal.json").write_text(json.dumps(drawn))
    return home


def test_progress_is_drawn_from_the_first_seconds_and_for_every_step(home):
    """Other work on the machine delays Python's start, so the moment is compared with that of an empty command."""
    drawn = json.loads((home / "terminal.json").read_text())
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "k4_pipeline.cli", "run", "--help"], check=True, capture_output=True)
    start = time.monotonic() - began
    first = next(moment for moment, text in drawn if "ETA" in text)
    assert first < max(3.0, 3 * start)
    text = "".join(text for _, text in drawn)
    for name in ASSET_ORDER:
        assert f"{readable(name)} " in text, name
        assert f"{readable(name + '_checks')} " in text, name
    assert "training" in text
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    assert max(map(len, lines)) <= 80


@pytest.fixture(scope="module")
def result(home):
    return json.loads((home / "result.json").read_text())


def test_a_run_ends_with_metrics_integrity_tests_signals_and_a_report(result):
    assert result["success"]
    assert Path(result["report"]).is_file()
    assert result["metrics"]["n"] > 0
    assert {"value", "low", "high", "base_rate"} <= set(result["metrics"]["model"]["k4_auc"])
    assert set(BASELINES) == set(result["metrics"]["baselines"])
    for metrics in (*result["metrics"]["baselines"].values(), result["metrics"]["best_possible"]):
        assert set(result["metrics"]["model"]) == set(metrics)
    assert len(result["integrity"]) == 5
    assert {row["split"] for row in result["classes"]} == {"train", "validation", "test"}
    assert isinstance(result["signals"], list)


def test_every_blocking_check_was_evaluated_and_passed(result):
    assert result["checks"]["passed"] >= 44
    # So small a market may hold too little evidence for a negative control, which warns and does not block.
    warn = tuple(f"trained_model: {name}" for name in CONTROLS)
    assert all(name.startswith(("validation_report:", "champion_model:", *warn)) for name in result["checks"]["failed"])


def test_its_runs_are_in_the_instance_the_ui_opens(home, result):
    with open_instance(Settings(home)) as instance:
        runs = {run.run_id: run for run in instance.get_runs()}
    assert set(result["runs"]) <= set(runs)
    assert {run.job_name for run in runs.values()} == {"full_pipeline"}


def test_the_ui_goes_on_with_the_same_settings_but_with_quarterly_test_spans(home):
    config = load_settings(home, {}).config
    assert config.simulation.n_tickers == 40
    assert config.model.preset == "tiny"
    assert config.split.test_months == 3


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_every_table_can_be_exported(home, tmp_path, suffix):
    from k4_pipeline.defs.export import export_asset

    for name in EXPORTS:
        if name in ("market_features", "sequences") and suffix == ".csv":
            continue  # large; sequences as CSV are tried below on their own
        written = export_asset(Settings(home), name, tmp_path / f"{name}{suffix}", None)
        table = pd.read_parquet(written["path"]) if suffix == ".parquet" else pd.read_csv(written["path"])
        assert len(table) == written["rows"]


def test_exported_sequences_have_the_original_columns(home, tmp_path):
    out = tmp_path / "sequences.parquet"
    written = json.loads(k4(home, "export", "sequences", "--out", out, "--json").stdout)
    table = pd.read_parquet(out)
    assert list(table.columns) == [
        "sequence",
        "attention_mask",
        "ticker",
        "start_date",
        "snapshot_date",
        "days_in_pattern",
        "outcome_class",
        "sequence_dates",
    ]
    assert len(table) == written["rows"] > 100
    assert table["sequence"].iloc[0].shape == (50,)
    assert table["sequence"].iloc[0][0].shape == (69,)
    assert table["outcome_class"].dropna().str.startswith("K").all()
    k4(home, "export", "sequences", "--out", out.with_suffix(".csv"))
    assert len(json.loads(pd.read_csv(out.with_suffix(".csv"), nrows=3)["sequence"].iloc[0])) == 50
    assert not list(tmp_path.glob("*.tmp*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["export", "nosuch", "--out", "x.csv"], "there is no table 'nosuch'"),
        (["export", "signals", "--out", "x.xlsx"], "write a .parquet or a .csv"),
        (["export", "predictions", "--out", "x.csv", "--as-of", "1999-01-01"], "there are 20"),
        (["champion", "rollback"], "no earlier champion"),
        (["report", "--as-of", "garbage"], "no such date; there are 20"),
        (["backtest", "--as-of", "garbage"], "no such date; there are 20"),
        (["features", "--group", "nope"], "use one of core"),
        (["plot", "S000"], "near it are S00"),
        (["compare", "garbage", "2015-01-01"], "neither an as-of date"),
        (["explain", "S0001", "--date", "yesterday"], "write it as YYYY-MM-DD"),
        (["backtest", "--set", "trading.max_positions=0"], "it must be at least 1"),
        (["backtest", "--set", "trading.list_frac=7"], "it must be at most 1"),
    ],
)
def test_a_mistake_ends_with_status_1_and_one_clear_message(home, arguments, message):
    done = k4(home, *arguments, ok=False)
    assert done.exit_code == 1
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_report_is_found_and_rendered_again(home, result):
    assert k4(home, "report").stdout.strip() == result["report"]
    Path(result["report"]).unlink()
    assert k4(home, "report").stdout.strip() == result["report"]
    assert Path(result["report"]).is_file()
    content = json.loads(k4(home, "report", "--json", "--render").stdout)
    assert content["as_of"] == result["as_of"]
    assert all(row["reasons"] for row in content["top_signals"])


def test_the_same_settings_give_the_same_fingerprints(home, tmp_path):
    """Everything up to the index of the sequences; training is compared bit by bit in its own tests."""
    settings = Settings(tmp_path / "again", load_settings(home, {}).config)
    create_home(settings)
    assert run_graph(settings, DATA_ASSETS, as_of=None, log=tmp_path / "log").success
    for name in DATA_ASSETS:
        first = ArtifactStore(home / "artifacts").current(name)
        assert ArtifactStore(settings.artifacts_dir).current(name).fingerprint == first.fingerprint, name


def _original_file(home: Path, out: Path, suffix: str = "") -> pd.DataFrame:
    """The labelled snapshots of the run as a file in the format of the original system."""
    from k4_pipeline.config import CLASS_NAMES
    from k4_pipeline.defs.export import export_asset

    export_asset(Settings(home), "labeled_snapshots", out.with_suffix(".parquet"), None)
    table = pd.read_parquet(out.with_suffix(".parquet"))
    table = table[table["outcome_class"].notna()].reset_index(drop=True)
    dates = table["snapshot_date"]
    file = pd.DataFrame(
        {
            "ticker": table["ticker"] + suffix,
            "start_date": table["start_date"].dt.strftime("%Y-%m-%d"),
            "snapshot_date": [
                f"{d:%Y-%m-%d 00:00:00}+00:00" if i % 2 else f"{d:%Y-%m-%d}" for i, d in enumerate(dates)
            ],
            "upper_boundary": table["upper"],
            "lower_boundary": table["lower"],
            "power_boundary": table["power"],
            "outcome_class": [CLASS_NAMES[int(c)] for c in table["outcome_class"]],
        }
    )
    file.to_csv(out, index=False)
    return table


def test_an_external_labelled_snapshot_file_runs_through_the_whole_pipeline(home, tmp_path):
    table = _original_file(home, tmp_path / "snapshots.csv")
    own = tmp_path / "home"
    done = k4(own, "run", *TINY, "--model-preset", "fast", "--snapshots", tmp_path / "snapshots.csv", "--json")
    assert json.loads(done.stdout)["success"]
    k4(own, "export", "labeled_snapshots", "--out", tmp_path / "labels.parquet")
    got = pd.read_parquet(tmp_path / "labels.parquet")
    assert len(got) == len(table)
    assert (got["outcome_class"].to_numpy() == table["outcome_class"].to_numpy()).all()


def _data_run(home: Path, file: Path, missing_tickers: str) -> RunOutcome:
    """The first half of a run, up to the sequences: enough to see what becomes of a snapshot file."""
    config = load_settings(home, {}).config
    options = {"snapshots": file, "missing_tickers": missing_tickers}
    settings = Settings(file.parent / "home", apply_options(config, options))
    create_home(settings)
    return run_graph(settings, DATA_ASSETS, as_of=None, log=file.parent / "log")


def test_snapshots_of_another_exchange_fail_with_the_counts_and_the_ways_out(home, tmp_path):
    _original_file(home, tmp_path / "snapshots.csv", suffix=".KL")
    outcome = _data_run(home, tmp_path / "snapshots.csv", "fail")
    assert not outcome.success
    assert ".KL" in outcome.errors[0]
    assert "--missing-tickers filter" in outcome.errors[0]


def test_a_few_missing_tickers_fail_by_default_and_can_be_filtered(home, tmp_path):
    file = tmp_path / "snapshots.csv"
    _original_file(home, file)
    text = pd.read_csv(file, dtype=str)
    one = text["ticker"].iloc[0]
    text.loc[text["ticker"] == one, "ticker"] = one + ".L"
    text.to_csv(file, index=False)
    outcome = _data_run(home, file, "fail")
    assert not outcome.success
    assert outcome.errors[0].startswith("check universe_coverage on snapshots does not hold")
    assert f"{one}.L" in outcome.errors[0]
    assert _data_run(home, file, "filter").success


def test_the_result_is_a_dozen_lines_that_fit_80_columns(result):
    stream = io.StringIO()
    show_result(result, Console(file=stream, width=80))
    text = stream.getvalue()
    body = text.strip().splitlines()
    assert body[-1] == f"Report: {result['report']}"
    assert max(map(len, body[:-1])) <= 80
    titles = [line.split()[0] for line in body[:-1] if line[:1] not in ("", " ")]
    assert set(titles) >= {"Data", "Test", "Model", "Tiers", "Today", "Checks", "Champion", "Next"}
    assert len(titles) <= 12


def test_what_lacks_evidence_is_counted_apart_from_what_failed(result):
    checks = result["checks"]
    thin = [test["name"] for test in result["integrity"] if test["status"] == "not enough evidence"]
    assert len(checks["not_enough_evidence"]) >= len(thin) > 0
    assert not set(checks["failed"]) & set(checks["not_enough_evidence"])
    assert set(checks["reasons"]) == set(checks["failed"]) | set(checks["not_enough_evidence"])


def test_signals_chart_and_explanation_of_an_open_pattern(home):
    rows = json.loads(k4(home, "signals", "--all", "--json").stdout)
    assert len(rows) > 0
    assert rows[0]["ticker"] in k4(home, "signals", "--all", "--top", 1).stdout
    ticker = rows[0]["ticker"]
    assert "power line" in k4(home, "plot", ticker.lower()).stdout
    found = json.loads(k4(home, "explain", ticker, "--samples", 4, "--json").stdout)
    assert found["open"]
    assert found["p_4"] == pytest.approx(rows[0]["p_4"])
    assert found["sanity"]["adds_up"]
    assert len(found["neighbours"]) == 5
    page = Path(found["page"]).read_text()
    assert found["reasons"][0]["name"] in page


def test_a_backtest_is_printed_and_written(home):
    done = json.loads(k4(home, "backtest", "--json").stdout)
    assert {"buy all", "volatility, top 5%"} <= {r["rule"] for r in done["results"]}
    assert "Equity after costs" in Path(done["page"]).read_text()
    dear = json.loads(k4(home, "backtest", "--set", "trading.commission=0.05", "--json").stdout)
    costs = [next(r["mean_cost"] for r in d["results"] if r["rule"] == "buy all") for d in (done, dear)]
    assert costs[1] > costs[0] + 0.05


def test_the_commands_of_the_tutorial_work_as_they_are_written(home, monkeypatch):
    """On the home of this run; what makes another home, or runs until it is stopped, is left to its own tests."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    ticker = json.loads(k4(home, "signals", "--all", "--json").stdout)[0]["ticker"]
    done = []
    for line in commands_in_blocks((DOCS / "tutorial.md").read_text()):
        command, *rest = shlex.split(line.replace("TICKER", ticker))[1:]
        if command not in ("run", "data", "nightly", "explain"):  # explain: in the test above
            k4(home, command, *rest)
            done.append(command)
    assert {"doctor", "report", "signals", "plot", "backtest", "monitor", "status"} <= set(done)
    report = Path(k4(home, "report").stdout.strip())
    assert opened == [report.as_uri()]
    single = Path(k4(home, "report", "--single-file").stdout.strip())
    assert report.stat().st_size < 1_000_000 < 4_000_000 < single.stat().st_size


def test_the_status_tells_what_may_be_used_and_what_to_do_next(home, result, tmp_path):
    found = json.loads(k4(home, "status", "--json").stdout)
    assert {row["state"] for row in found["assets"]} == {"good"}
    assert [report["as_of"] for report in found["reports"]] == [result["as_of"]]
    moves = json.loads(k4(home, "champion", "list", "--json").stdout)
    assert [move["as_of"] for move in moves] == [found["champion"]["as_of"]] == [result["as_of"]]
    assert "k4 signals" in found["next"]
    empty = k4(tmp_path / "none", "status").stdout
    assert "never made" in empty
    assert "`k4 run` makes everything" in " ".join(empty.split())


def test_the_doctor_finds_the_damage(home, tmp_path):
    found = {f["name"]: f for f in json.loads(k4(home, "doctor", "--json").stdout)}
    assert found["stored tables"]["state"] == "ok"
    assert found["packages"]["state"] == "ok"
    sick = tmp_path / "sick"
    sick.mkdir()
    (sick / "settings.json").write_text('{"config": {"source": {"source": "folder", "path": "/no/such/folder"}}}')
    done = k4(sick, "doctor", ok=False)
    assert "/no/such/folder is gone" in " ".join(done.stdout.split())


def test_two_results_are_compared_on_the_same_draws_only_where_they_judged_the_same_rows(home, result):
    found = json.loads(k4(home, "compare", result["as_of"], home, "--json").stdout)
    assert found["same_rows"]
    assert found["settings"] == {}
    for row in found["metrics"].values():
        assert row["difference"]["value"] in (0.0, None)
    other = json.loads(
        k4(home, "compare", result["as_of"], Path(result["report"]).with_name("report.json"), "--json").stdout
    )
    assert not other["same_rows"]
    assert other["metrics"]["log_loss"]["difference"] is None
    assert other["metrics"]["log_loss"]["a"] == other["metrics"]["log_loss"]["b"]
    assert "A minus B" in k4(home, "compare", result["as_of"], home).stdout


def test_the_signals_of_the_ledger_can_be_traded(home):
    given = json.loads(k4(home, "monitor", "--json").stdout)["rows"]
    done = json.loads(k4(home, "backtest", "--ledger", "--json").stdout)
    assert "buy all" in {r["rule"] for r in done["results"]}
    assert next(r["candidates"] for r in done["results"] if r["rule"] == "buy all") == given
    assert "signals of the ledger" in Path(done["page"]).read_text()
    assert "leave --as-of away" in k4(home, "backtest", "--ledger", "--as-of", "2023-07-01", ok=False).stderr
