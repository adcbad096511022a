"""When a model is trained again and when a result is too old, with a clock that is set forward."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from k4_pipeline.defs import retraining
from k4_pipeline.defs.build import build_defs
from k4_pipeline.defs.freshness import FRESHNESS_CHECKS
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.evaluation import champion
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore


@pytest.fixture
def look(tmp_path, monkeypatch):
    """look(day, cursor, reasons, too_little="") -> what `retrain_when_needed` says that day."""
    resource = K4Resource.frozen(Settings(tmp_path))
    repository = build_defs({"k4": resource}).get_repository_def()

    def evaluate(day: str, cursor: str | None, reasons: list[str], too_little: str = ""):
        now = SimpleNamespace(now=lambda zone: dt.datetime.fromisoformat(day).replace(tzinfo=zone))
        clock = SimpleNamespace(datetime=now, date=dt.date, UTC=dt.UTC)
        monkeypatch.setattr(retraining, "dt", clock)
        monkeypatch.setattr(retraining, "reasons_to_retrain", lambda store, lasting: reasons)
        monkeypatch.setattr(retraining, "too_little_data", lambda settings, as_of: too_little)
        context = dg.build_sensor_context(cursor=cursor, repository_def=repository, resources={"k4": resource})
        return repository.get_sensor_def("retrain_when_needed").evaluate_tick(context)

    return evaluate


def test_a_reason_trains_one_model_and_not_again_within_a_month(look):
    why = ["the certificate of GOOD is refuted"]
    assert "no certificate is refuted" in look("2026-03-02", None, []).skip_message
    first = look("2026-03-02", None, why)
    assert [(r.partition_key, r.tags["k4/why"]) for r in first.run_requests] == [("2025-04-01", why[0])]
    assert first.cursor == "2026-03-02"
    again = look("2026-03-20", first.cursor, why)
    assert not again.run_requests
    assert "was trained for such a reason on 2026-03-02" in again.skip_message
    assert look("2026-04-02", first.cursor, why).run_requests


def test_too_little_data_is_a_skip_with_the_reason_and_the_next_look_may_train(look):
    skipped = look(
        "2026-03-02", None, ["drift on 5 nights in a row"], "too little data to retrain at 2025-07-01: 3 rows"
    )
    assert "3 rows" in skipped.skip_message
    assert skipped.cursor is None
    assert look("2026-03-03", skipped.cursor, ["drift on 6 nights in a row"]).run_requests


@pytest.mark.parametrize("serves, skipped", [("2025-04-01", True), ("2025-07-01", True), ("2025-01-01", False)])
def test_no_model_is_trained_that_would_be_no_newer_than_the_champion(tmp_path, monkeypatch, serves, skipped):
    settings = Settings(tmp_path)
    store = ArtifactStore(settings.artifacts_dir)
    with store.stage(champion.CHAMPION) as staged:
        champion.Record(serves, "0" * 16, champion.market_identity(settings.config)).write(staged.dir)
        ref = staged.commit(kind=champion.CHAMPION, meta={}, inputs={})
    store.promote(champion.CHAMPION, None, ref.fingerprint, {"checks": []})
    monkeypatch.setattr(retraining, "load_table", lambda ref: None)
    monkeypatch.setattr(ArtifactStore, "last_good", lambda self, asset, key=None: ref)
    manifest = SimpleNamespace(rows={"test": 9})
    monkeypatch.setattr("k4_pipeline.splits.walk_forward.split_snapshots", lambda *given: (None, manifest))
    said = retraining.too_little_data(settings, "2025-04-01")
    assert (f"the champion is of {serves}" in said) == skipped == bool(said)


def test_the_newest_partitions_grow_too_old(tmp_path):
    resource = K4Resource.frozen(Settings(tmp_path))
    defs = build_defs({"k4": resource})
    repository = defs.get_repository_def()
    begin = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
    job = dg.define_asset_job("ages", selection=dg.AssetSelection.checks(*FRESHNESS_CHECKS))
    ages = dg.Definitions(assets=defs.assets, asset_checks=defs.asset_checks, jobs=[job], resources={"k4": resource})

    def verdicts(instance: dg.DagsterInstance) -> set[bool]:
        done = ages.resolve_job_def("ages").execute_in_process(instance=instance)
        return {evaluation.passed for evaluation in done.get_asset_check_evaluations()}

    with dg.DagsterInstance.local_temp() as instance:
        with freeze_time(begin):
            for name in PARTITIONED_ASSETS:
                instance.report_runless_asset_event(dg.AssetMaterialization(name, partition="2025-07-01"))
            context = dg.build_sensor_context(instance=instance, repository_def=repository, resources={"k4": resource})
            [request] = repository.get_sensor_def("newest_partitions_are_fresh").evaluate_tick(context).run_requests
            assert {key.asset_key.to_user_string() for key in request.asset_check_keys} == PARTITIONED_ASSETS
            assert verdicts(instance) == {True}
        with freeze_time(begin + dt.timedelta(days=201)):
            assert verdicts(instance) == {False}
