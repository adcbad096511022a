"""The alert sensor against a real instance and a real web hook: what is told, in which words, how often."""

import json

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    TickData,
    TickStatus,
)
from dagster._utils.error import SerializableErrorInfo

from k4_pipeline.defs import run_facts
from k4_pipeline.defs.alert_look import look
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.run_facts import facts_of_run, runs_to_look_at
from k4_pipeline.defs.sensors import alerts_sensor
from k4_pipeline.defs.watch import schedule_facts
from k4_pipeline.settings import Settings
from k4_pipeline_tests.alerts.receivers import receiver


@dg.asset
def thing():
    return dg.MaterializeResult()


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec("must_hold", asset="thing", blocking=True),
        dg.AssetCheckSpec("must_hold_on_evidence", asset="thing", blocking=True),
        dg.AssetCheckSpec("should_hold", asset="thing"),
    ]
)
def checks(context: dg.AssetCheckExecutionContext):
    tags = context.run.tags
    for name, severity in (("must_hold", "ERROR"), ("must_hold_on_evidence", "WARN"), ("should_hold", "WARN")):
        yield dg.AssetCheckResult(
            asset_key="thing",
            check_name=name,
            passed=name not in tags.get("failing", "").split(),
            severity=dg.AssetCheckSeverity[severity],
            description=f"{name}: row 7 is wrong",
            metadata={"value": 0.7, "limit": 0.5},
        )


def _inner():
    raise OSError("the disk is full")


@dg.asset(deps=[thing])
def later(context: dg.AssetExecutionContext):
    if "later" in context.run.tags.get("failing", ""):
        try:
            _inner()
        except OSError as error:
            raise RuntimeError("could not write") from error
    return dg.MaterializeResult()


JOB = dg.Definitions(assets=[thing, later], asset_checks=[checks], jobs=[dg.define_asset_job("small")]).resolve_job_def(
    "small"
)


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@pytest.fixture
def hook():
    with receiver() as hook:
        yield hook


@pytest.fixture
def settings(tmp_path, hook):
    return Settings(tmp_path / "home", alert_urls=(hook.url,))


def _run(instance, failing=""):
    return JOB.execute_in_process(instance=instance, tags={"failing": failing}, raise_on_error=False)


def _titles(hook):
    return sorted(message["title"] for message in hook.messages)


def test_a_good_run_says_nothing(instance, settings, hook):
    assert _run(instance).success
    look(instance, settings)
    assert hook.messages == []


def test_a_failed_check_that_does_not_block_is_told_although_its_run_succeeds(instance, settings, hook):
    assert _run(instance, "should_hold").success
    look(instance, settings)
    assert _titles(hook) == ["K4: check failed: should_hold on thing"]
    body = hook.messages[0]["message"]
    assert "this version is published" in body
    assert "value 0.7, threshold 0.5" in body


def test_a_warning_of_a_blocking_check_is_told_as_published(instance, settings, hook):
    assert _run(instance, "must_hold_on_evidence").success
    look(instance, settings)
    assert "It does not block: this version is published." in hook.messages[0]["message"]


def test_a_failed_blocking_check_gives_one_message_not_one_more_for_its_run(instance, settings, hook):
    assert not _run(instance, "must_hold should_hold").success
    look(instance, settings)
    assert _titles(hook) == ["K4: check failed: must_hold on thing", "K4: check failed: should_hold on thing"]
    by_title = {m["title"]: m["message"] for m in hook.messages}
    assert "not published and its run stopped there" in by_title["K4: check failed: must_hold on thing"]
    assert "because another check blocked it" in by_title["K4: check failed: should_hold on thing"]


def test_a_failed_run_is_told_with_step_and_innermost_cause(instance, settings, hook):
    assert not _run(instance, "later").success
    look(instance, settings)
    assert _titles(hook) == ["K4: run failed: small"]
    assert "later: OSError: the disk is full" in hook.messages[0]["message"]


@pytest.mark.parametrize(
    "said, told",
    [("the run worker has gone", "the run worker has gone"), (None, "its process ended although no step had failed")],
)
def test_a_run_whose_worker_is_gone_is_told_as_killed_with_what_was_noticed(instance, settings, hook, said, told):
    instance.report_run_failed(instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED), said)
    look(instance, settings)
    look(instance, settings)
    assert _titles(hook) == ["K4: run killed: small"]
    assert told in hook.messages[0]["message"]


def test_a_step_that_outlives_its_killed_run_adds_no_alert_and_no_other_cause(instance, settings, hook):
    run = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "the process of this run was killed")
    look(instance, settings)
    data = StepFailureData(error=None, user_failure_data=None)
    event = dg.DagsterEvent("STEP_FAILURE", "small", step_key="later", event_specific_data=data, message="too late")
    instance.report_dagster_event(event, run.run_id)
    look(instance, settings)
    assert _titles(hook) == ["K4: run killed: small"]
    assert "the process of this run was killed" in hook.messages[0]["message"]


def test_a_run_without_an_event_for_long_is_told_as_stuck_once(instance, settings, hook, monkeypatch):
    instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED)
    look(instance, settings)
    assert hook.messages == []
    monkeypatch.setattr(run_facts, "STUCK_S", -1.0)
    for _ in range(3):
        look(instance, settings)
    assert _titles(hook) == ["K4: run stuck: small"]


def test_a_check_that_was_planned_and_never_evaluated_is_told(instance, settings, hook):
    run = _run(instance)
    with instance.event_log_storage.run_connection(run.run_id) as connection:
        from dagster._core.storage.event_log.schema import SqlEventLogStorageTable as Log

        connection.execute(Log.delete().where(Log.c.dagster_event_type == "ASSET_CHECK_EVALUATION"))
    look(instance, settings)
    assert len(hook.messages) == 3
    assert "K4: check not evaluated: must_hold on thing" in _titles(hook)


def test_every_failure_is_told_once_however_often_the_sensor_looks(instance, settings, hook):
    _run(instance, "must_hold")
    for _ in range(3):
        look(instance, settings)
    assert len(hook.messages) == 1
    # The same check fails again in a second run: on SQLite its event has the same storage id as in the first.
    _run(instance, "must_hold")
    for _ in range(3):
        look(instance, settings)
    assert len(hook.messages) == 2
    assert len(set(hook.facts())) == 2


def test_a_check_and_a_run_that_hold_again_are_told_as_recovered(instance, settings, hook):
    _run(instance, "must_hold")
    look(instance, settings)
    _run(instance)
    look(instance, settings)
    assert _titles(hook) == ["K4: check failed: must_hold on thing", "K4: recovered: must_hold on thing"]


def test_the_sensor_reports_what_it_did_and_keeps_facts_without_any_target(instance, tmp_path, monkeypatch):
    monkeypatch.delenv("K4_ALERT_URLS", raising=False)
    _run(instance, "should_hold")
    context = dg.build_sensor_context(instance=instance, resources={"k4": K4Resource(home=str(tmp_path / "home"))})
    reason = alerts_sensor(context).skip_message
    assert "1 new facts" in reason
    assert "K4_ALERT_URLS" in reason
    assert "should_hold" in (tmp_path / "home" / "alerts" / "facts.jsonl").read_text()


def test_a_run_in_progress_is_looked_at_whenever_it_began(instance):
    run = _run(instance, "should_hold")
    waiting = instance.create_run_for_job(JOB, status=dg.DagsterRunStatus.STARTED)
    far_future = 4e9
    assert [s.run.run_id for s in runs_to_look_at(instance, far_future)] == [waiting.run_id]
    assert {s.run.run_id for s in runs_to_look_at(instance, 0.0)} == {waiting.run_id, run.run_id}


def test_facts_of_a_run_have_stable_ids(instance):
    _run(instance, "should_hold")
    (seen,) = runs_to_look_at(instance, 0.0)
    first, second = ([f.id for f in facts_of_run(instance, seen, now)] for now in (1e9, 2e9))
    assert first == second


def _schedule(instance, start):
    from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin

    origin = RemoteInstigatorOrigin(
        RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("k4_pipeline"), "__repository__"), "nightly_signals"
    )
    state = InstigatorState(
        origin,
        InstigatorType.SCHEDULE,
        InstigatorStatus.RUNNING,
        ScheduleInstigatorData("0 * * * *", start_timestamp=start),
    )
    instance.add_instigator_state(state)
    return state


def test_a_missed_and_a_failed_tick_are_told_and_the_next_good_one_ends_it(instance):
    hour = 3600.0
    start = 500_000 * hour + 1.0
    state = _schedule(instance, start)

    def tick(number, status):
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                state.instigator_name,
                InstigatorType.SCHEDULE,
                status,
                (500_000 + number) * hour,
                run_ids=["a run"] if status == TickStatus.SUCCESS else [],
                error=SerializableErrorInfo("no such day\n", [], "ValueError")
                if status == TickStatus.FAILURE
                else None,
                selector_id=state.selector_id,
            )
        )

    tick(1, TickStatus.SUCCESS)
    tick(3, TickStatus.FAILURE)
    tick(4, TickStatus.SKIPPED)
    facts = list(schedule_facts(instance, start + 4.5 * hour))
    assert [(f.kind, f.good) for f in facts] == [
        ("tick_missed", True),
        ("tick_missed", False),
        ("tick_failed", False),
        ("tick_missed", True),
    ]
    assert "nightly_signals" in facts[1].title
    assert json.dumps(facts[1].to_dict())
