"""The walk-forward backtest: its dates, its partitions side by side, and the names others rely on."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.evaluation.baselines import BASELINES
from k4_pipeline.pipeline.walk_forward import as_of_dates, read_sources, run_partition

NAMES = {
    "k4_auc",
    "k4_lift",
    "k4_recall_top_5pct_monthly",
    "k4_recall_top_10pct_monthly",
    "k4_auc_inside_volatility",
    "log_loss",
    "ev_correlation_pearson",
    "k4_calibration_error",
    "n",
    "n_k4",
}


def test_a_year_means_its_first_day_and_both_ends_are_included():
    assert as_of_dates("2009", "2011", 12) == ["2009-01-01", "2010-01-01", "2011-01-01"]
    assert as_of_dates("2010-04", "2010-10-01", 3) == ["2010-04-01", "2010-07-01", "2010-10-01"]


@pytest.mark.parametrize("first, last, every", [("2012", "2011", 12), ("soon", "2011", 12), ("2009", "2010", 0)])
def test_impossible_dates_are_refused(first, last, every):
    with pytest.raises(ConfigError):
        as_of_dates(first, last, every)


def test_a_partition_holds_every_method_and_the_names_others_rely_on(context):
    partition = run_partition(context.full, context.full.as_of)
    result = partition.result
    assert set(result["baselines"]) == set(BASELINES)
    for found in (result["model"], *result["baselines"].values(), result["best_possible"]):
        assert found.keys() >= NAMES
        assert found["n"] == len(partition.scored)
    assert context.full.fitted is not None  # the path that was handed in keeps what it had
    assert result["model"]["log_loss"] == pytest.approx(context.full.metrics["model"]["log_loss"]["value"])


def test_several_tables_are_read_as_one_and_a_ticker_in_two_of_them_is_refused(tmp_path, context):
    raw = context.full.raw.frame.drop(columns="source")
    names = sorted(raw["ticker"].unique())
    for i, part in enumerate((names[:10], names[10:])):
        raw[raw["ticker"].isin(part)].to_parquet(tmp_path / f"{i}.parquet")
    config = context.config
    source = type(config.source)(source="table", path=str(tmp_path / "0.parquet"))
    both = read_sources(source, config, [str(tmp_path / "0.parquet"), str(tmp_path / "1.parquet")], None)
    folder = read_sources(source, config, [str(tmp_path)], None)
    assert sorted(both.frame["ticker"].astype(str).unique()) == names
    assert len(folder.frame) == len(both.frame) == len(raw)
    with pytest.raises(BadInputError, match=names[0]):
        read_sources(source, config, [str(tmp_path), str(tmp_path / "0.parquet")], None)


@pytest.mark.slow
def test_the_command_prints_partitions_and_pooled_rows_and_counts_its_trials(tmp_path):
    arguments = [
        "walk-forward",
        "--from",
        "2023",
        "--to",
        "2023-07",
        "--every",
        "6",
        "--tickers",
        "60",
        "--bars",
        "1500",
    ]
    arguments += ["--preset", "micro", "--epochs", "1"]
    arguments += ["--labels", "rare_30", "--home", str(tmp_path), "--json", "-q"]
    arguments += ["--set", "integrity.bootstrap_draws=50"]
    for trial in (1, 2):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output[-2000:]
        result = json.loads(done.stdout)
        assert result["trials"] == trial
    assert [p["as_of"] for p in result["partitions"]] == ["2023-01-01", "2023-07-01"]
    assert result["pooled"]["n"] == sum(p["n"] for p in result["partitions"])
    for part in (*result["partitions"], result["pooled"]):
        assert part["best_possible"].keys() >= NAMES
        assert all(set(d) == {"value", "low", "high"} for d in part["differences"]["logit"].values())
    assert result["partitions"][0]["last_label_known"] < "2023-01-01"
