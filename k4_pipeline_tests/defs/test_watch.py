"""Facts that no run reports: published signals, the last decision about the champion, what went stale."""

from __future__ import annotations

import dataclasses
import datetime as dt
import time

import dagster as dg
import pandas as pd
import pytest

from k4_pipeline.alerts.cursor import Cursor
from k4_pipeline.alerts.messages import single
from k4_pipeline.alerts.outbox import Outbox
from k4_pipeline.defs import watch
from k4_pipeline.defs.alert_look import alerts_folder, keep
from k4_pipeline.defs.night import Played, night_facts
from k4_pipeline.defs.run import CheckOutcome, RunOutcome
from k4_pipeline.defs.staging import load_table
from k4_pipeline.evaluation import champion, promotion
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore, atomic_write_json, write_parquet
from k4_pipeline_tests.defs.test_alert_sensor import _schedule as running

OLD = champion.Record("2020-01-01", "model-a", "market")
NEW = champion.Record("2020-04-01", "model-b", "market")


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def cursor():
    return Cursor(0.0)


def _decided(store: ArtifactStore, decision: promotion.Decision, serves: champion.Record) -> None:
    with store.stage(champion.CHAMPION) as staged:
        serves.write(staged.dir)
        atomic_write_json(staged.dir / champion.DECISION, decision.to_dict(serves, NEW))
        ref = staged.commit(kind=champion.CHAMPION)
    store.promote(champion.CHAMPION, None, ref.fingerprint)


def _facts(store, cursor):
    return list(watch.champion_facts(store, cursor, time.time()))


def test_a_champion_that_was_held_and_one_that_moved_are_told_with_their_numbers(store, cursor):
    found = promotion.Comparison(300, 12, 1.52, 1.5, 0.02, -0.01, 0.05)
    _decided(store, promotion.decide(OLD, NEW, found), OLD)
    (held,) = _facts(store, cursor)
    assert held.kind == "champion_held"
    assert (held.value, held.threshold) == (0.02, 0.0)
    text = single(held, "http://ui").body
    assert "not shown to be better" in text
    assert "300 rows" in text
    assert "k4 champion rollback" in text
    assert _facts(store, cursor) == [], "the same version is looked at once"
    better = promotion.Comparison(300, 12, 1.4, 1.5, -0.1, -0.15, -0.05)
    _decided(store, promotion.decide(OLD, NEW, better), NEW)
    (moved,) = _facts(store, cursor)
    assert moved.kind == "champion_moved"
    assert moved.title == "as_of 2020-04-01 serves"
    assert moved.id != held.id


def test_the_same_decision_in_another_version_is_the_same_fact(store):
    ids = set()
    for _ in range(2):
        _decided(store, promotion.decide(OLD, NEW), OLD)
        ids |= {fact.id for fact in _facts(store, Cursor(0.0))}
    assert len(ids) == 1


def test_a_champion_of_an_older_version_of_this_package_says_nothing(store, cursor):
    with store.stage(champion.CHAMPION) as staged:
        OLD.write(staged.dir)
        ref = staged.commit(kind=champion.CHAMPION)
    store.promote(champion.CHAMPION, None, ref.fingerprint)
    assert _facts(store, cursor) == []


def _publish_signals(store: ArtifactStore, *signals: str) -> None:
    rows = [
        {
            "ticker": f"T{i}",
            "pattern_id": f"T{i}|2024-01-02",
            "snapshot_date": pd.Timestamp("2024-02-01"),
            "signal": name,
            "ev": 6.0 - i,
            "p_4": 0.3,
            "p_5": 0.1,
            "power": 10.05,
            "upper": 10.0,
            "lower": 9.0,
            "champion_as_of": "2023-10-01",
        }
        for i, name in enumerate(signals)
    ]
    with store.stage("signals") as staged:
        write_parquet(pd.DataFrame(rows), staged.dir / "signals.parquet")
        ref = staged.commit(kind="signals")
    store.promote("signals", None, ref.fingerprint)


def test_each_strong_and_good_signal_is_told_once_per_level(store, cursor):
    assert list(watch.signal_facts(store, cursor, 1.0)) == [], "nothing published yet"
    _publish_signals(store, "STRONG", "GOOD", "MODERATE", "AVOID")
    first = list(watch.signal_facts(store, cursor, 1.0))
    assert [fact.title for fact in first] == ["STRONG for T0, 2024-02-01", "GOOD for T1, 2024-02-01"]
    assert "10.05" in first[0].cause
    assert list(watch.signal_facts(store, cursor, 2.0)) == []
    _publish_signals(store, "STRONG", "STRONG", "MODERATE", "AVOID")
    known = {fact.id for fact in first}
    later = [fact for fact in watch.signal_facts(store, cursor, 3.0) if fact.id not in known]
    assert [fact.title for fact in later] == ["STRONG for T1, 2024-02-01"]


def test_a_signal_is_told_by_its_certified_tier_and_not_when_the_list_leaves_it_out(store, cursor):
    _publish_signals(store, "STRONG", "STRONG", "AVOID")
    table = load_table(store.current("signals"))
    with store.stage("signals") as staged:
        told = table.assign(tier=["AVOID", "GOOD", "STRONG"], left_out=["", "", "price 0.5 below 1"])
        write_parquet(told, staged.dir / "signals.parquet")
        ref = staged.commit(kind="signals")
    store.promote("signals", None, ref.fingerprint)
    assert [fact.title for fact in watch.signal_facts(store, cursor, 1.0)] == ["GOOD for T1, 2024-02-01"]


def test_signals_that_the_nightly_schedule_did_not_make_again_are_stale(store, tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        _publish_signals(store, "AVOID")
        later = time.time() + watch.STALE_AFTER_S + 3600.0
        assert list(watch.stale_facts(instance, store, later)) == [], "the schedule is off"
        running(instance, time.time() - 60.0)
        (fresh,) = watch.stale_facts(instance, store, time.time())
        (stale,) = watch.stale_facts(instance, store, later)
    assert fresh.good
    assert not stale.good
    assert stale.kind == "stale_asset"
    assert stale.threshold == watch.STALE_AFTER_S / 3600.0


def test_a_source_that_gives_no_more_bars_is_told(store, tmp_path):
    with store.stage("signals") as staged:
        staged.dir.joinpath("x.json").write_text("{}")
        ref = staged.commit(kind="signals", meta={"night": "2026-03-02"})
    store.promote("signals", None, ref.fingerprint)
    began = dt.datetime(2026, 3, 2, tzinfo=dt.UTC).timestamp()
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        assert list(watch.stale_input_facts(instance, store, "XNYS", began)) == [], "the schedule is off"
        running(instance, began)
        facts = [next(watch.stale_input_facts(instance, store, "XNYS", began + d * 86400)) for d in (3.2, 7.2)]
    assert [fact.good for fact in facts] == [True, False]
    assert "XNYS has had 4 sessions since" in facts[1].cause


def test_what_went_wrong_in_a_night_from_cron_is_told_once_and_ends_with_the_next_good_one(tmp_path):
    settings = Settings(tmp_path)
    broken = CheckOutcome("signal_outcomes", "certificates_hold", False, False, "GOOD or better: 0 of 60")
    bad = Played(RunOutcome(False, step_errors=["drift: StaleArtifactError: gone"], checks=[broken]))
    good = Played(RunOutcome(True, checks=[dataclasses.replace(broken, passed=True, description="holds")]))
    assert keep(settings, night_facts(bad, 1e9))
    assert keep(settings, night_facts(bad, 1e9))
    with Outbox.open(alerts_folder(settings)) as outbox:
        assert sorted(f.title for f in outbox.facts.values()) == ["certificates_hold on signal_outcomes", "nightly"]
        assert set(outbox.open_trouble) == {"check|signal_outcomes|certificates_hold|", "run|nightly|"}
    keep(settings, night_facts(good, 1e9 + 86400))
    with Outbox.open(alerts_folder(settings)) as outbox:
        assert not outbox.open_trouble


def test_a_champion_that_gives_no_signals_any_more_is_told(store):
    with store.stage("signals") as staged:
        (staged.dir / "x.txt").write_text("x")
        ref = staged.commit(
            kind="signals", meta={"none_because": "the champion is of 2020-01-01", "night": "2024-01-02"}
        )
    store.promote("signals", None, ref.fingerprint)
    [fact] = watch.champion_age_facts(store, 1.0)
    assert not fact.good
    assert "2020-01-01" in fact.cause
