"""The stages over shards on a real Ray cluster of two nodes: equal to local ones, and a node may die in the middle."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import ExecutionConfig
from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.features.context_table import write_context
from k4_pipeline.features.panel import write_panel
from k4_pipeline.leakage.engine.audit import AuditSample
from k4_pipeline.leakage.engine.isolated import ContextSource, run_isolated
from k4_pipeline.leakage.engine.on_ray import run_on_ray
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline.pipeline import search
from k4_pipeline.pipeline.job import take_result
from k4_pipeline.pipeline.model_files import train_candidate
from k4_pipeline.pipeline.sharded import context, features, patterns
from k4_pipeline.pipeline.sharded.engine import run_tasks
from k4_pipeline.pipeline.sharded.search import TrialFailedError
from k4_pipeline.pipeline.sharded.store import Shards, ShardStore
from k4_pipeline.pipeline.sharded.training import RayTrainingError, train_on_ray
from k4_pipeline.pipeline.training_windows import index_windows
from k4_pipeline.sequences.windows import index_sequences
from k4_pipeline.storage import write_parquet
from k4_pipeline_tests.pipeline.small_job import small_job

EXECUTION = ExecutionConfig(engine="ray", shard_bars=6000)
WHOLE = os.environ.get("K4_RAY") == "all"  # else a sample: every worker imports what its stages need, which takes long


@pytest.fixture(scope="module")
def nodes():
    """A cluster of two nodes of this machine; yields it and the node that may be killed."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    memory = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **memory})
    second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster, second
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Bars of a small market and what the stages make of them in one piece: (config, bars, tables, folder)."""
    folder, config = tmp_path_factory.mktemp("here"), small_config(0)
    bars = clean_bars(read_bars(config.source, config.simulation), config.cleaning).bars
    write_context(bars, folder)
    write_panel(bars, folder)
    made = make_snapshots(bars, config.patterns)
    assert len(made) > 20
    exchange = config.cleaning.default_exchange
    tables = {
        "snapshots": made,
        "labels": label_snapshots(bars, made, config.labels, default_exchange=exchange),
        "sequences": index_sequences(bars, made),
        "windows": index_windows(bars, config),
    }
    for name, table in tables.items():
        write_parquet(table, folder / name)
    return config, bars, folder


def check_stages(here, execution, folder, *, every):
    """The files of the stages over shards, or of those whose workers import least, are those made in one piece."""
    config, bars, expected = here
    write_parquet(bars.to_frame(), folder / "bars.parquet")
    shards = Shards.of(folder / "bars.parquet", "0123456789abcdef", execution, str(folder / "store"))
    assert len(shards.entries) > 1
    there = folder / "there"
    there.mkdir()
    context.write_context(shards, there)
    scanned = patterns.scan(shards, config.patterns)
    tables = {
        "snapshots": scanned,
        "labels": patterns.label(shards, scanned, config.labels, config.cleaning.default_exchange),
        "sequences": patterns.sequences(shards, scanned),
    }
    if every:
        features.write_panel(shards, there)
        tables["windows"] = patterns.windows(shards, config)
    for name, table in tables.items():
        write_parquet(table, there / name)
    files = sorted(p.name for p in there.iterdir())
    assert len(files) == (6 if every else 4)
    for name in files:
        assert (expected / name).read_bytes() == (there / name).read_bytes(), name


def test_shards_one_after_another_give_the_bytes_of_the_whole(here, tmp_path):
    check_stages(here, dataclasses.replace(EXECUTION, engine="local"), tmp_path, every=True)


def test_every_stage_on_the_cluster_gives_the_bytes_of_the_local_one(nodes, here, tmp_path):
    check_stages(here, EXECUTION, tmp_path, every=WHOLE)


@pytest.mark.skipif(not WHOLE, reason="takes a minute; make ray")
def test_a_training_on_the_cluster_has_the_bytes_of_one_here_and_on_two_nodes_its_losses(nodes, tmp_path):
    here = small_job(tmp_path)
    (tmp_path / "here").mkdir()
    expected = train_candidate(tmp_path / "here", **here)
    seen = []

    def on_ray(name, processes, store):
        training = dataclasses.replace(here["config"].training, processes=processes)
        execution = dataclasses.replace(EXECUTION, store=store)
        config = dataclasses.replace(here["config"], training=training, execution=execution)
        out = tmp_path / name
        train_on_ray(config, tmp_path / "in", out, tmp_path / f"{name}-state", lambda *pair: seen.append(pair))
        (tmp_path / f"{name}-taken").mkdir()
        return take_result(tmp_path / "in", out, tmp_path / f"{name}-taken")

    on_ray("one", 1, "")
    for path in (tmp_path / "here").iterdir():
        assert (tmp_path / "one-taken" / path.name).read_bytes() == path.read_bytes(), path.name
    two = on_ray("two", 2, f"file://{tmp_path}/between")
    assert two["processes"] == 2
    for one_epoch, epoch in zip(expected["history"], two["history"], strict=True):
        assert epoch == pytest.approx(one_epoch, rel=1e-4)
    assert seen[-1][0] > 0
    (tmp_path / "in" / "split.parquet").write_bytes(b"")
    with pytest.raises(RayTrainingError, match=r"split\.parquet is missing or not as it was written"):
        on_ray("damaged", 1, "")


def _loss(path, settings):
    """Cheap, and of the settings, of what the worker holds, and of no test row's class."""
    known = path.split["split"] != "test"
    rate = abs(settings["training.learning_rate"] - 1e-3)
    return rate + float(path.split.loc[known, "outcome_class"].sum()) + float(np.nansum(path.panel[:100]))


def test_the_trials_of_a_search_run_on_the_cluster_and_its_journal_goes_on_here(nodes, context, monkeypatch, tmp_path):
    monkeypatch.setattr(search, "loss_of", _loss)
    there = dataclasses.replace(context.full, config=dataclasses.replace(context.config, execution=EXECUTION))
    arguments = {"journal": tmp_path / "trials.journal", "reserved_months": 1}
    seen = []
    terminal = (tmp_path / "terminal").open("w")  # as a progress bar holds one: it cannot be sent anywhere

    def progress(done, total):
        terminal.write(".")
        seen.append((done, total))

    found = search.search(there, there.as_of, trials=3, progress=progress, **arguments)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    split = search.stages.split_at(there.unfitted(split=None, manifest=None), there.as_of)
    stands = _loss(split, search.base_settings(there.config))
    assert found["log_loss_as_it_stands"] == stands
    assert found["log_loss_best"] == _loss(split, found["best"])
    again = search.search(context.full, context.full.as_of, trials=2, **arguments)
    assert (found["trials_in_journal"], again["trials_in_journal"]) == (3, 5)
    assert again["log_loss_as_it_stands"] == stands
    assert again["log_loss_best"] <= found["log_loss_best"]


def _no_loss(path, settings):
    raise BadInputError("the fold holds no validation row")


@pytest.mark.skipif(not WHOLE, reason="takes a minute; make ray")
def test_a_trial_that_fails_on_the_cluster_is_an_error_of_the_search(nodes, context, monkeypatch, tmp_path):
    monkeypatch.setattr(search, "loss_of", _no_loss)
    there = dataclasses.replace(context.full, config=dataclasses.replace(context.config, execution=EXECUTION))
    with pytest.raises(
        TrialFailedError, match=r"1 of 1 trials on Ray failed: BadInputError: the fold holds no validation row"
    ):
        search.search(there, there.as_of, trials=1, journal=tmp_path / "j", reserved_months=1)


@pytest.mark.skipif(not WHOLE, reason="takes a minute; make ray")
def test_a_trial_on_the_cluster_has_the_loss_of_one_here(nodes, context, tmp_path):
    losses = {}
    for execution in (EXECUTION, ExecutionConfig()):
        path = dataclasses.replace(context.full, config=dataclasses.replace(context.config, execution=execution))
        journal = tmp_path / f"{execution.engine}.journal"
        found = search.search(path, path.as_of, trials=1, journal=journal, reserved_months=1)
        losses[execution.engine] = found["log_loss_as_it_stands"]
    assert losses["ray"] == losses["local"]


def _loss_slowly(path, settings):
    Path(path.config.source.path, f"{ray_node()}-{time.time_ns()}").touch()
    time.sleep(2.0)
    return 1.0


def ray_node() -> str:
    import ray

    return ray.get_runtime_context().get_node_id()


def kill_when_begun(cluster, node, folder):
    """A thread that ends `node` as soon as something has begun there: a file with its name lies in `folder`."""

    def kill() -> None:
        while not list(folder.glob(f"*{node.node_id}-*")):
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


@pytest.mark.skipif(not WHOLE, reason="takes a minute; make ray")
def test_a_node_killed_in_the_middle_costs_a_search_nothing_but_time(nodes, context, monkeypatch, tmp_path):
    monkeypatch.setattr(search, "loss_of", _loss_slowly)
    cluster, _ = nodes
    lost = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    config = dataclasses.replace(context.config, execution=EXECUTION)
    config = dataclasses.replace(config, source=dataclasses.replace(config.source, path=str(tmp_path)))
    killer = kill_when_begun(cluster, lost, tmp_path)
    journal = tmp_path / "journal" / "j"
    found = search.search(
        dataclasses.replace(context.full, config=config),
        context.full.as_of,
        trials=6,
        journal=journal,
        reserved_months=1,
    )
    killer.join()
    assert found["trials_in_journal"] == 6
    assert len(list(tmp_path.glob("*-*"))) > 6  # the trial of the lost node began once more


@pytest.mark.skipif(not WHOLE, reason="takes a minute; make ray")
def test_an_audit_on_the_cluster_says_what_one_here_says(nodes):
    names = [
        "nothing_lies_in_two_members",
        "labels_are_those_of_an_independent_race",
        "signals_are_those_of_the_champion_one_by_one",
    ]
    source = ContextSource(small_config(0), SMALL_AS_OF, AuditSample())
    there, here = run_on_ray(source, EXECUTION, names), run_isolated(source, names)
    assert there.verdicts == here.verdicts
    assert [v.name for v in there.verdicts] == names[:2]
    assert there.not_applicable == here.not_applicable
    assert list(there.not_applicable) == names[2:]


def _slow(folder: str, number: int) -> int:
    Path(folder, f"{number}-{ray_node()}-{time.time_ns()}").touch()
    time.sleep(1.0)
    return number


def _refuse(number: int) -> None:
    raise BadInputError(f"shard {number} holds no bars")


def test_an_error_of_a_task_is_the_error_of_the_stage(nodes):
    with pytest.raises(BadInputError, match="shard 3 holds no bars"):
        run_tasks(EXECUTION, _refuse, [(3,)])


def test_a_node_killed_in_the_middle_costs_its_tasks_a_second_run_and_nothing_else(nodes, tmp_path):
    cluster, second = nodes
    killer = kill_when_begun(cluster, second, tmp_path)
    assert run_tasks(EXECUTION, _slow, [(str(tmp_path), i) for i in range(6)]) == list(range(6))
    killer.join()
    begun = pd.Series([path.name.split("-")[0] for path in tmp_path.iterdir()]).value_counts()
    assert begun.max() > 1  # the task of the lost node began once more


def test_a_damaged_shard_is_refused(tmp_path):
    store = ShardStore(str(tmp_path))
    entry = store.put("a/b", b"bars")
    (tmp_path / "a" / "b").write_bytes(b"cars")
    with pytest.raises(StaleArtifactError, match=r"a/b in .* is damaged"):
        store.get(entry)
