"""The alert sensor against a real instance: one message per failed check evaluation or failed run, and no other."""

import dagster as dg
import pytest

from k4_pipeline.alerts.delivery import Messenger
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.run_events import alerts_of_run, runs_to_look_at
from k4_pipeline.defs.sensors import alerts_sensor
from k4_pipeline.settings import Settings, save_settings


@dg.asset
def thing():
    return dg.MaterializeResult()


@dg.asset_check(asset=thing, blocking=True)
def must_hold(context: dg.AssetCheckExecutionContext):
    return dg.AssetCheckResult(passed=context.run.tags["must"] == "yes", description="must hold")


@dg.asset_check(asset=thing)
def should_hold(context: dg.AssetCheckExecutionContext):
    return dg.AssetCheckResult(
        passed=context.run.tags["should"] == "yes", severity=dg.AssetCheckSeverity.WARN, description="should hold"
    )


@dg.asset(deps=[thing])
def later(context: dg.AssetExecutionContext):
    if context.run.tags.get("later") == "boom":
        raise dg.Failure("the disk is full")
    return dg.MaterializeResult()


JOB = dg.Definitions(
    assets=[thing, later], asset_checks=[must_hold, should_hold], jobs=[dg.define_asset_job("small")]
).resolve_job_def("small")


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def sent(monkeypatch):
    """What the messenger was given; `sent.works = False` makes deliveries fail."""

    class Sent(list):
        works = True

    box = Sent()

    def send(self, alert):
        if box.works:
            box.append(alert)
        return box.works

    monkeypatch.setattr(Messenger, "send", send)
    return box


@pytest.fixture
def k4(tmp_path, monkeypatch):
    monkeypatch.delenv("K4_ALERT_URLS", raising=False)
    save_settings(Settings(tmp_path / "home", alert_urls=("json://localhost",)))
    return K4Resource(home=str(tmp_path / "home"))


def _run(instance, must="yes", should="yes", later="fine"):
    tags = {"must": must, "should": should, "later": later}
    return JOB.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def _tick(instance, k4, cursor=None):
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"k4": k4})
    reason = alerts_sensor(context)
    return context.cursor, reason.skip_message


def test_a_good_run_says_nothing(instance, k4, sent):
    assert _run(instance).success
    _tick(instance, k4)
    assert sent == []


def test_a_failed_check_that_does_not_block_is_told_although_its_run_succeeds(instance, k4, sent):
    assert _run(instance, should="no").success
    _tick(instance, k4)
    assert [a.title for a in sent] == ["K4: check failed (warn): should_hold on thing"]


def test_a_failed_blocking_check_gives_one_message_not_one_more_for_its_run(instance, k4, sent):
    assert not _run(instance, must="no").success
    _tick(instance, k4)
    assert [a.title for a in sent] == ["K4: check failed (error): must_hold on thing"]
    assert "its run stopped there" in sent[0].body


def test_a_failed_run_is_told_with_step_and_cause(instance, k4, sent):
    assert not _run(instance, later="boom").success
    _tick(instance, k4)
    assert [a.title for a in sent] == ["K4: run failed: small"]
    assert "later" in sent[0].body


def test_every_failure_is_told_once_however_often_the_sensor_looks(instance, k4, sent):
    _run(instance, must="no", should="no")
    cursor, _ = _tick(instance, k4)
    assert len(sent) == 2
    cursor, _ = _tick(instance, k4, cursor)
    assert len(sent) == 2
    # The same check fails again in a second run: on SQLite its event has the same storage id as in the first.
    _run(instance, must="no")
    cursor, _ = _tick(instance, k4, cursor)
    assert len(sent) == 3
    assert len({a.key for a in sent}) == 3
    _tick(instance, k4, cursor)
    assert len(sent) == 3


def test_a_message_that_could_not_be_delivered_is_sent_later(instance, k4, sent):
    _run(instance, should="no")
    sent.works = False
    cursor, reason = _tick(instance, k4)
    assert "1 could not be delivered yet" in reason
    sent.works = True
    cursor, _ = _tick(instance, k4, cursor)
    assert len(sent) == 1
    _tick(instance, k4, cursor)
    assert len(sent) == 1


def test_without_urls_the_sensor_says_how_to_set_them(instance, tmp_path, monkeypatch):
    monkeypatch.delenv("K4_ALERT_URLS", raising=False)
    _, reason = _tick(instance, K4Resource(home=str(tmp_path / "empty")))
    assert "K4_ALERT_URLS" in reason


def test_a_run_in_progress_is_looked_at_whenever_it_began(instance):
    run = _run(instance, should="no")
    instance.create_run_for_job(JOB, run_id="11111111-1111-1111-1111-111111111111", status=dg.DagsterRunStatus.STARTED)
    far_future = 4e9
    assert [r.run_id for r in runs_to_look_at(instance, far_future)] == ["11111111-1111-1111-1111-111111111111"]
    assert {r.run_id for r in runs_to_look_at(instance, 0.0)} == {"11111111-1111-1111-1111-111111111111", run.run_id}


def test_alerts_of_a_run_have_stable_keys(instance):
    run = instance.get_run_by_id(_run(instance, should="no").run_id)
    assert [a.key for a in alerts_of_run(instance, run)] == [a.key for a in alerts_of_run(instance, run)]
