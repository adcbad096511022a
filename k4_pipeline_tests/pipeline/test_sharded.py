"""The stages over shards on a real Ray cluster of two nodes: equal to local ones, and a node may die in the middle."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pandas as pd
import pytest

from k4_pipeline.config import ExecutionConfig
from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.features.context_table import write_context
from k4_pipeline.features.panel import write_panel
from k4_pipeline.leakage.engine.small import small_config
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources import read_bars
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline.pipeline.sharded import context, features, patterns
from k4_pipeline.pipeline.sharded.engine import run_tasks
from k4_pipeline.pipeline.sharded.store import Shards, ShardStore
from k4_pipeline.pipeline.training_windows import index_windows
from k4_pipeline.sequences.windows import index_sequences
from k4_pipeline.storage import write_parquet

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


def test_every_stage_gives_the_bytes_of_the_local_one(nodes, tmp_path):
    config = small_config(0)
    bars = clean_bars(read_bars(config.source, config.simulation), config.cleaning).bars
    write_parquet(bars.to_frame(), tmp_path / "bars.parquet")
    shards = Shards.of(tmp_path / "bars.parquet", "0123456789abcdef", EXECUTION, str(tmp_path / "store"))
    assert len(shards.entries) > 1
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    write_context(bars, tmp_path / "here")
    context.write_context(shards, tmp_path / "there")
    if WHOLE:
        write_panel(bars, tmp_path / "here")
        features.write_panel(shards, tmp_path / "there")
    made = make_snapshots(bars, config.patterns)
    scanned = patterns.scan(shards, config.patterns)
    assert len(made) > 20
    exchange = config.cleaning.default_exchange
    pairs = {
        "snapshots": (made, scanned),
        "labels": (
            label_snapshots(bars, made, config.labels, default_exchange=exchange),
            patterns.label(shards, scanned, config.labels, exchange),
        ),
        "sequences": (index_sequences(bars, made), patterns.sequences(shards, scanned)),
    }
    if WHOLE:
        pairs["windows"] = (index_windows(bars, config), patterns.windows(shards, config))
    for name, (here, there) in pairs.items():
        write_parquet(here, tmp_path / "here" / name)
        write_parquet(there, tmp_path / "there" / name)
    files = sorted(p.name for p in (tmp_path / "here").iterdir())
    assert len(files) == (6 if WHOLE else 4)
    for name in files:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes(), name


def _slow(folder: str, number: int) -> int:
    import ray

    Path(folder, f"{number}-{ray.get_runtime_context().get_node_id()}-{time.time_ns()}").touch()
    time.sleep(1.0)
    return number


def _refuse(number: int) -> None:
    raise BadInputError(f"shard {number} holds no bars")


def test_an_error_of_a_task_is_the_error_of_the_stage(nodes):
    with pytest.raises(BadInputError, match="shard 3 holds no bars"):
        run_tasks(EXECUTION, _refuse, [(3,)])


def test_a_node_killed_in_the_middle_costs_its_tasks_a_second_run_and_nothing_else(nodes, tmp_path):
    import threading

    cluster, second = nodes
    lost = second.node_id

    def kill() -> None:
        while not list(tmp_path.glob(f"*-{lost}-*")):
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
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
