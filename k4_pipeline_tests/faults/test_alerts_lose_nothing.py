"""What outsiders did to the alerts: floods, slow and dead receivers, wrong clocks, damaged files; each fact counted."""

from __future__ import annotations

import os
import time

import dagster as dg
import pytest

from k4_pipeline.alerts.delivery import deliver, targets_of
from k4_pipeline.alerts.outbox import Outbox
from k4_pipeline.defs.alert_look import look
from k4_pipeline.settings import Settings
from k4_pipeline_tests.alerts.receivers import mail_server, receiver
from k4_pipeline_tests.alerts.test_facts_and_messages import check
from k4_pipeline_tests.alerts.test_outbox import NOW, fact

DAY = 86400.0


@dg.op
def nothing():
    pass


@dg.job
def small():
    nothing()


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


def _fail(instance, count):
    for _ in range(count):
        run = instance.create_run_for_job(small, status=dg.DagsterRunStatus.STARTED)
        instance.report_run_failed(run, "the run worker has gone")


def _once_each(hook, count):
    assert len(hook.facts()) == count
    assert len(set(hook.facts())) == count


def test_200_failed_checks_and_a_slow_receiver_are_at_most_five_messages_with_each_fact_once(tmp_path):
    with receiver(delay=0.7) as hook:
        targets, _ = targets_of([hook.url])
        outbox = Outbox(tmp_path)
        outbox.record(check(i, at=NOW) for i in range(200))
        for step in range(60):  # 15 minutes of looks
            deliver(outbox, targets, "http://ui", NOW + 15.0 * step)
        assert 1 <= len(hook.messages) <= 5
        _once_each(hook, 200)


@pytest.mark.slow
@pytest.mark.parametrize(
    "count",
    [60, pytest.param(620, marks=pytest.mark.skipif(os.environ.get("K4_FAULTS") != "all", reason="make faults"))],
)
def test_many_failures_between_two_ticks_are_each_told_once(tmp_path, instance, count):
    with receiver() as hook:
        settings = Settings(tmp_path / "home", alert_urls=(hook.url,))
        look(instance, settings)
        _fail(instance, count)
        now = time.time()
        for step in range(3):
            look(instance, settings, now + 400.0 * step)
        _once_each(hook, count)
        assert len(hook.messages) <= 10


def test_a_receiver_away_for_an_hour_gets_every_fact_once_when_it_is_back(tmp_path):
    with receiver() as hook:
        targets, _ = targets_of([hook.url])
        outbox, hook.status, attempts = Outbox(tmp_path), 503, 0
        for step in range(240):
            now = NOW + 15.0 * step
            outbox.record([fact(step, now)])
            before = outbox.targets[targets[0].id].failures if targets[0].id in outbox.targets else 0
            deliver(outbox, targets, "http://ui", now)
            attempts += outbox.targets[targets[0].id].failures - before
        assert 5 < attempts < 20, "with a pause that grows, not at every look"
        hook.status = 200
        for step in range(240, 340):
            deliver(outbox, targets, "http://ui", NOW + 15.0 * step)
        _once_each(hook, 240)


def test_a_dead_target_does_not_repeat_messages_of_a_healthy_one(tmp_path):
    with receiver() as hook:
        targets, _ = targets_of([hook.url, "json://127.0.0.1:9/"])
        outbox = Outbox(tmp_path)
        outbox.record([fact(1)])
        for step in range(40):
            deliver(outbox, targets, "http://ui", NOW + 15.0 * step)
        _once_each(hook, 1)
        assert len(outbox.pending(targets[1].id)) == 1


def test_a_clock_30_days_ahead_once_blinds_nothing(tmp_path, instance):
    with receiver() as hook:
        settings = Settings(tmp_path / "home", alert_urls=(hook.url,))
        now = time.time()
        look(instance, settings, now)
        look(instance, settings, now + 30 * DAY)
        _fail(instance, 2)
        look(instance, settings, now + 60)
        look(instance, settings, now + 600)
        told = [m for m in hook.messages if "run killed" in m["title"]]
        assert len(told) == 2
        assert any("future" in m["message"] for m in hook.messages), "the lost position is said"


@pytest.mark.parametrize("name", ["cursor.json", "facts.jsonl", "deliveries.jsonl"])
def test_a_damaged_file_is_said_and_no_failure_is_lost(tmp_path, instance, name):
    with receiver() as hook:
        settings = Settings(tmp_path / "home", alert_urls=(hook.url,))
        now = time.time()
        _fail(instance, 1)
        look(instance, settings, now)
        path = tmp_path / "home" / "alerts" / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(bytes(data))
        _fail(instance, 1)
        for step in (400, 800):
            look(instance, settings, now + step)
        text = "\n".join(m["title"] + m["message"] for m in hook.messages)
        assert "alert files damaged" in text
        assert name in text
        facts = {f for f in hook.facts()}
        runs = [m for m in hook.messages if "run killed" in m["title"]]
        assert len(runs) >= 2
        assert len(facts) == 3


def test_a_crash_after_sending_and_before_recording_repeats_the_same_fact(tmp_path, monkeypatch):
    with receiver() as hook:
        targets, _ = targets_of([hook.url])
        outbox = Outbox(tmp_path)
        outbox.record([fact(1)])
        monkeypatch.setattr(Outbox, "delivered", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            deliver(outbox, targets, "http://ui", NOW)
        monkeypatch.undo()
        deliver(Outbox(tmp_path), targets, "http://ui", NOW)
        assert len(hook.facts()) == 2
        assert len(set(hook.facts())) == 1


def test_a_receiver_that_dies_in_the_middle_may_hear_a_fact_twice_and_never_not_at_all(tmp_path):
    with receiver() as hook:
        targets, _ = targets_of([hook.url])
        outbox, hook.dies = Outbox(tmp_path), True
        outbox.record([fact(1)])
        deliver(outbox, targets, "http://ui", NOW)
        assert len(outbox.pending(targets[0].id)) == 1
        assert outbox.targets[targets[0].id].error
        hook.dies = False
        deliver(outbox, targets, "http://ui", NOW + 15.0)
        _once_each(hook, 1)


@pytest.mark.parametrize("trouble", ["refuse", "die", "slow", "away"])
def test_a_mail_server_in_trouble_gets_each_fact_once_when_it_is_well_again(tmp_path, monkeypatch, trouble):
    from apprise.plugins.email.base import NotifyEmail

    monkeypatch.setattr(NotifyEmail, "request_rate_per_sec", 0.0)  # it would wait seconds between two mails
    with mail_server() as server:
        (target,), _ = targets_of(
            [server.url if trouble != "away" else server.url.replace("127.0.0.1:", "127.0.0.2:1")]
        )
        outbox, server.mode = Outbox(tmp_path), trouble
        outbox.record([fact(1), fact(2)])
        deliver(outbox, [target], "http://ui", NOW)
        left = outbox.pending(target.id)
        assert len(left) == (0 if trouble == "slow" else 2)
        if left:
            assert outbox.targets[target.id].error
            assert "geheim" not in outbox.targets[target.id].error
        server.mode = "ok"
        if trouble != "away":
            deliver(outbox, [target], "http://ui", NOW + 15.0)
            assert [f"Fact {fact(n).id}" in "".join(server.mails) for n in (1, 2)] == [True, True]
            assert len(server.mails) == 2
