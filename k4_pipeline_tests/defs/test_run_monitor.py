"""A run whose process was killed is ended as failed and its slot freed; a living or unknown one is left alone."""

from __future__ import annotations

import subprocess
import sys
import uuid

import dagster as dg
import pytest

from k4_pipeline.definitions import defs
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.instance import create_home, open_instance
from k4_pipeline.defs.jobs import SELECTIONS
from k4_pipeline.defs.run_monitor import fail_dead_runs, home_of, writes_partitions_alone
from k4_pipeline.settings import Settings
from k4_pipeline.storage.writer_lock import show_life


@pytest.fixture
def settings(tmp_path):
    create_home(Settings(tmp_path / "home"))
    return Settings(tmp_path / "home")


def started(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> str:
    """A run in progress."""
    run = dg.DagsterRun(job_name="nightly", run_id=str(uuid.uuid4()), status=status)
    return instance.add_run(run).run_id


def killed(settings: Settings, run_id: str) -> None:
    """A process shows life for the run and is gone."""
    code = (
        "import os, signal, sys; from pathlib import Path; from k4_pipeline.storage.writer_lock import show_life; "
        "show_life(Path(sys.argv[1]), sys.argv[2]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(settings.home), run_id], check=False).returncode == -9


@pytest.mark.parametrize(
    "before, after",
    [
        (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),
    ],
)
def test_a_killed_run_is_ended_once_with_the_reason(settings, before, after):
    with open_instance(settings) as instance:
        run_id = started(instance, before)
        killed(settings, run_id)
        assert fail_dead_runs(instance, settings.home) == [run_id]
        assert instance.get_run_by_id(run_id).status == after
        assert fail_dead_runs(instance, settings.home) == []
        messages = [entry.message for entry in instance.all_logs(run_id)]
        assert sum("process" in message for message in messages) == 1
    assert not list((settings.home / "runs").glob("*.lock"))


def test_a_living_run_and_one_of_an_unknown_process_are_left_alone(settings):
    with open_instance(settings) as instance:
        living, unknown = (started(instance, dg.DagsterRunStatus.STARTED) for _ in range(2))
        show_life(settings.home, living)
        assert fail_dead_runs(instance, settings.home) == []
        assert instance.get_run_by_id(living).status == dg.DagsterRunStatus.STARTED
        assert instance.get_run_by_id(unknown).status == dg.DagsterRunStatus.STARTED


def test_a_backfill_goes_four_runs_at_a_time_and_trains_two_models(settings):
    import yaml

    text = (settings.dagster_dir / "dagster.yaml").read_text()
    limits = yaml.safe_load(text)["concurrency"]
    assert limits == {"runs": {"max_concurrent_runs": 4}, "default_op_concurrency_limit": 2}
    assert (
        defs.get_repository_def().get_job("full_pipeline").get_node_named("trained_model").definition.pool == "training"
    )


def test_the_steps_of_a_backfill_write_partitions_alone_and_those_of_every_job_do_not():
    job = (
        defs.get_repository_def()
        .get_implicit_global_asset_job_def()
        .get_subset(asset_selection={dg.AssetKey(name) for name in PARTITIONED_ASSETS})
    )
    steps = [node.name for node in job.nodes]
    assert set(PARTITIONED_ASSETS) < set(steps)
    assert all(writes_partitions_alone(step) for step in steps), steps
    assert writes_partitions_alone("us__trained_model_checks")
    for name in SELECTIONS:
        nodes = defs.resolve_job_def(name).nodes
        assert not all(writes_partitions_alone(node.name) for node in nodes), name


def test_the_home_of_a_run_is_that_of_its_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("K4_HOME", str(tmp_path))
    assert home_of({}) == tmp_path
    assert str(home_of({"resources": {"k4": {"config": {"home": "/other"}}}})) == "/other"
