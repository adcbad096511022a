"""A year of nights on a growing file of bars: signals are recorded once, mature, and are judged; a change is
noticed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.defs.retraining import reasons_to_retrain
from k4_pipeline.evaluation.ledger import DRIFT_KEY, LEDGER_KEY, open_drift, open_inputs, open_ledger
from k4_pipeline.settings import Settings, save_settings
from k4_pipeline_tests import simulated_nights as nights

# Two months in CI; `make nights` plays the whole year.
NIGHTS = int(os.environ.get("K4_NIGHTS", "45"))
CHANGE, EVERY, YEAR = 16, 2, 252


def k4(home: Path, *arguments: object, code: int = 0) -> str:
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    done = CliRunner().invoke(app, [str(a) for a in arguments], env={**unset, "K4_HOME": str(home)})
    assert done.exit_code == code, done.output[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def bars():
    return nights.market()


@pytest.fixture(scope="module")
def year(bars, tmp_path_factory):
    """A home after `NIGHTS` nights: its facts night by night, and a copy of it as it was after `CHANGE` nights."""
    patch = pytest.MonkeyPatch()
    nights.without_waiting_for_the_disk(patch.setattr)
    home = nights.begin(tmp_path_factory.mktemp("year"), bars)
    home.days = home.days[:NIGHTS]
    given, held, kept = [home.store.current("signals").meta], [], home.file.parent / "kept"
    for day, _ in nights.play(home, bars, home.days[1:]):
        given.append(home.store.current("signals").meta)
        held.append(all(t["claim_holds"] is not False for t in home.json("signal_outcomes", "monitor.json")["tiers"]))
        if day == home.days[CHANGE]:
            shutil.copytree(home.settings.home, kept)
    yield home, given, held, kept
    patch.undo()


@pytest.fixture(scope="module")
def changed(year, bars):
    """The other year: after `CHANGE` nights prices hardly move; what a home finds that looks every other night."""
    home, _, _, kept = year
    now = home.file.parent / "now"
    shutil.move(home.settings.home, now)
    shutil.copytree(kept, home.settings.home)
    calm = nights.calmed(bars, home.days[CHANGE])
    found = nights.alarms(home, calm, home.days[CHANGE + EVERY :: EVERY])
    reasons = reasons_to_retrain(home.store, 1)
    monitor = json.loads(k4(home.settings.home, "monitor", "--json", code=0 if found["certificate"] is None else 3))
    shutil.rmtree(home.settings.home)
    shutil.move(now, home.settings.home)
    nights.write_until(bars, home.days[-1], home.file)
    return found, reasons, monitor


def test_every_night_adds_its_signals_once(year):
    home, given, _, _ = year
    assert [m["night"] for m in given] == [str(pd.Timestamp(d).date()) for d in home.days]
    ledger = open_ledger(home.settings.home).read()
    assert not ledger.duplicated(["night", "ticker", "pattern_id"]).any()
    counts = ledger["night"].value_counts()
    assert {m["night"]: m["rows"] for m in given if m["rows"]} == {str(d.date()): n for d, n in counts.items()}
    assert ledger["model"].nunique() == 1
    assert (ledger["night"] == ledger["snapshot_date"]).all()
    assert len(open_inputs(home.settings.home).read()) == len(ledger)
    measured = open_drift(home.settings.home).read()
    assert measured["night"].nunique() == len(home.days)
    assert {
        "domain_auc",
        "psi_mean",
        "p_k4_psi",
        "outside_frac",
        "expected_n_k4_expected",
    } <= set(measured["measure"])


def test_what_matured_is_what_the_bars_say_afterwards(year, bars):
    home, *_ = year
    found = nights.what_the_ledger_holds(home, bars, home.days)
    assert found["matured"] >= NIGHTS // 3
    wrong = ("twice", "no_session", "matured_otherwise_than_the_bars", "over_and_not_matured")
    assert [found[name] for name in wrong] == [0, 0, 0, 0]


def test_the_certificate_holds_in_a_market_that_does_not_change(year):
    home, _, held, _ = year
    assert all(held)
    shown = home.json("signal_outcomes", "monitor.json")
    tested = [t for t in shown["tiers"] if t["claim_holds"] is not None]
    assert tested
    assert sum(t["n"] for t in tested) >= 50 or NIGHTS < YEAR


def test_a_market_that_changes_breaks_certificate_and_drifts(changed):
    found, reasons, monitor = changed
    assert found["drift"] is not None
    assert any(r.startswith("drift on") for r in reasons)
    refuted = any(t["claim_holds"] is False for t in monitor["tiers"])
    assert refuted == (found["certificate"] is not None) == any("refuted" in r for r in reasons)
    assert refuted or NIGHTS < YEAR  # two months after the change are too few races to be sure


def test_drift_is_rarer_in_a_market_that_does_not_change(year, changed):
    log = open_drift(year[0].settings.home).read()
    share = log[log["measure"] == "drifted"]["value"].mean()
    assert changed[0]["nights_with_drift"] / changed[0]["nights"] > share


def test_a_champion_past_its_age_limit_gives_no_signals(year, bars, tmp_path):
    home, _, _, kept = year
    shutil.copytree(kept, tmp_path / "home")
    own = home.settings.config
    young = dataclasses.replace(own, serving=dataclasses.replace(own.serving, champion_max_age_days=CHANGE))
    old = nights.Home(Settings(tmp_path / "home", young), home.file, home.days)
    save_settings(old.settings)
    ledger = open_ledger(old.settings.home).read()
    nights.write_until(bars, home.days[CHANGE + 1], home.file)
    said = json.loads(k4(old.settings.home, "nightly", "--json", "--no-full", code=4))
    nights.write_until(bars, home.days[-1], home.file)
    assert "train a new one" in said["no_signals"]
    assert (said["new_bars"] > 0, said["new_signals"], said["open_patterns"]) == (True, 0, 0)
    assert open_ledger(old.settings.home).read().equals(ledger)
    assert any("no signals: train a new one" in r for r in reasons_to_retrain(old.store, 99))
    assert json.loads(k4(old.settings.home, "signals", "--json", code=4)) == []


def test_the_list_says_why_and_what_ended_before(year):
    home, *_ = year
    rows = json.loads(k4(home.settings.home, "signals", "--top", 3, "--json"))
    assert rows
    for row in rows:
        assert row["stop"] < row["box"]["lower"] < row["box"]["upper"] < row["entry"]
        assert row["reasons"]
        assert row["adds_up"]
        assert all(s["known_on"] < row["snapshot_date"] for s in row["similar"])
        assert row["chart"]["dates"][-1] == row["snapshot_date"]
    assert "entry" in k4(home.settings.home, "signals")
    assert Path(home.settings.reports_dir / "signals" / "signals.html").is_file()


def test_filters_can_be_changed_for_one_list(year):
    home, *_ = year
    every = json.loads(k4(home.settings.home, "signals", "--all", "--json"))
    prices = sorted(row["price"] for row in every if not row["refused"])
    middle = prices[len(prices) // 2]
    kept = json.loads(k4(home.settings.home, "signals", "--min-price", middle, "--json"))
    assert sorted(row["price"] for row in kept) == [p for p in prices if p >= middle]
    name = kept[0]["ticker"]
    left = json.loads(k4(home.settings.home, "signals", "--exclude", name.lower(), "--all", "--json"))
    assert [row["left_out"] for row in left if row["left_out"]] == ["excluded by name"]
    assert len(left) == len(every)
    assert not json.loads(k4(home.settings.home, "signals", "--min-dollar-volume", 1e15, "--json"))
    assert "give 0 or more" in k4(home.settings.home, "signals", "--min-price", "nan", "--json", code=1)


def test_the_monitor_is_readable_in_80_columns_and_has_a_page(year):
    home, *_ = year
    out = home.file.parent / "joined.parquet"
    text = k4(home.settings.home, "monitor", "--out", out)
    assert "Hit rate by tier" in text
    assert "signals given from" in text
    page = (home.settings.reports_dir / "monitor" / "monitor.html").read_text()
    for title in ("Calibration", "Expected value by month", "Recall of K4 in the best tenth", "Drift by month"):
        assert title in page
    assert pd.read_parquet(out)["outcome_class"].notna().sum() >= NIGHTS


@pytest.mark.parametrize("name, key", [("prediction_ledger", LEDGER_KEY), ("drift", DRIFT_KEY)])
def test_the_ledger_can_be_exported_whole(year, name, key):
    home, *_ = year
    out = home.file.parent / f"{name}.parquet"
    said = json.loads(k4(home.settings.home, "export", name, "--out", out, "--json"))
    written = pd.read_parquet(out)
    assert said["rows"] == len(written) > 0
    assert not written.duplicated(list(key)).any()
    assert written["night"].nunique() == len(home.days)
    k4(home.settings.home, "export", name, "--out", out.with_suffix(".csv"))
    assert len(pd.read_csv(out.with_suffix(".csv"))) == len(written)


def test_a_ledger_that_was_cut_short_is_an_error_everywhere(year, bars, tmp_path):
    home, _, _, kept = year
    shutil.copytree(kept, tmp_path / "home")
    chain = tmp_path / "home" / "ledger" / "chain.jsonl"
    *before, last = chain.read_text().splitlines()
    chain.write_text("\n".join(before) + "\n")
    (chain.parent / json.loads(last)["file"]).unlink()
    nights.write_until(bars, home.days[CHANGE + 1], home.file)
    said = json.loads(k4(tmp_path / "home", "nightly", "--json", "--no-full", code=1))
    nights.write_until(bars, home.days[-1], home.file)
    assert "was cut short" in said["errors"][0]
    for command in (("monitor",), ("export", "prediction_ledger", "--out", tmp_path / "ledger.csv")):
        k4(tmp_path / "home", *command, code=1)
    assert chain.read_text().splitlines() == before


def test_the_ledger_can_be_traded_with_the_bars_of_the_nights(year):
    home, *_ = year
    result = json.loads(k4(home.settings.home, "backtest", "--ledger", "--json"))
    assert any(r["trades"] for r in result["results"])


def test_a_full_run_finds_a_past_that_the_source_has_changed(year, bars):
    """Older than the overlap, so no night saw it; the last test here, for it changes the home."""
    home, *_ = year
    again = json.loads(k4(home.settings.home, "nightly", "--json", "--no-full"))
    assert again["ledger"]["added"] == again["new_signals"] == 0
    assert "no bar after" in again["skipped"]
    planted = bars.copy()
    ticker = sorted(planted["ticker"].unique())[5]
    row = planted[(planted["ticker"] == ticker) & (planted["date"] < home.days[0] - pd.Timedelta(days=60))].index[-1]
    planted["volume"] = planted["volume"].astype(float)
    planted.loc[row, "volume"] *= 3
    nights.write_until(planted, home.days[-1], home.file)
    full = json.loads(k4(home.settings.home, "nightly", "--full", "--json"))["full"]
    assert full["compared"]
    assert [d.split(":")[0] for d in full["differences"]] == [ticker]


def test_a_home_without_signals_says_what_to_do(tmp_path):
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    done = CliRunner().invoke(app, ["monitor"], env={**unset, "K4_HOME": str(tmp_path)})
    assert done.exit_code == 1
    assert "k4 run" in done.output
