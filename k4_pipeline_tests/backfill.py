"""A backfill of many as-of dates through Dagster's daemon: how many runs went side by side, and how long it took.

`python -m k4_pipeline_tests.backfill --partitions 40 --out FILE.json` makes a small simulated home, starts the daemon
and watches the queue. The pooled table of the walk-forward report is in the same backfill: it waits for all dates.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.asset_key import AssetKey
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._time import get_current_timestamp

from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.instance import open_instance
from k4_pipeline.defs.partitions import as_of_partitions
from k4_pipeline.defs.staging import load_json
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore

MARKET = ("--tickers", "40", "--bars", "3600", "--preset", "micro", "--model-preset", "original", "--epochs", "1")


POOLED = "walk_forward_report"


def watch(home: Path, dates: list[str], seconds: float, save: Any) -> dict[str, Any]:
    """Launch the backfill and look at its runs until all have ended."""
    settings = load_settings(home, {})
    began, most, counts = time.monotonic(), 0, Counter[str]()
    seen: dict[str, Any] = {}
    with open_instance(settings) as instance:
        from k4_pipeline.definitions import defs

        graph = defs.get_repository_def().asset_graph
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="abackfill",
            asset_graph=graph,
            partition_names=dates,
            asset_selection=[AssetKey(name) for name in sorted({*PARTITIONED_ASSETS, POOLED})],
            backfill_timestamp=get_current_timestamp(),
            tags={},
            dynamic_partitions_store=instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        instance.add_backfill(backfill)
        while time.monotonic() - began < seconds:
            runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": "abackfill"}))
            counts = Counter(run.status.value for run in runs)
            most = max(most, counts["STARTED"])
            seen = {"runs": len(runs), "states": dict(counts), "most_side_by_side": most}
            seen["seconds"] = round(time.monotonic() - began)
            done = instance.get_backfill("abackfill")
            seen["backfill"] = None if done is None else done.status.value
            save(seen)
            if done is not None and done.status not in (BulkActionStatus.REQUESTED, BulkActionStatus.COMPLETED_SUCCESS):
                break
            if done is not None and done.status == BulkActionStatus.COMPLETED_SUCCESS:
                break
            time.sleep(1.0)
    store = ArtifactStore(settings.artifacts_dir)
    seen["partitions_with_a_report"] = len(set(store.partitions("validation_report")) & set(dates))
    try:
        pooled = store.current(POOLED)
        seen["pooled"] = load_json(pooled, "pooled.json") | {"partitions": pooled.meta["partitions"]}
    except StaleArtifactError as missing:
        seen["pooled"] = str(missing)
    return seen


def main() -> None:
    """Home, daemon, backfill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--home", type=Path, help="a folder to be kept; default: one that is deleted")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = asked.home or Path(name) / "home"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")} | {"K4_HOME": str(home)}
        os.environ["K4_HOME"] = str(home)
        k4 = [sys.executable, "-m", "k4_pipeline.cli"]
        subprocess.run([*k4, "run", *MARKET, "--json"], env=environment, check=True, stdout=subprocess.DEVNULL)
        as_of = max(ArtifactStore(home / "artifacts").partitions("validation_report"))
        keys = as_of_partitions.get_partition_keys()
        dates = keys[: keys.index(as_of)][-asked.partitions :]
        with (Path(name) / "daemon.log").open("w") as log:
            environment["DAGSTER_HOME"] = str(home / "dagster")
            command = [sys.executable, "-m", "dagster._daemon", "run", "-w", str(home / "dagster" / "workspace.yaml")]
            daemon = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            try:
                found = watch(home, dates, asked.seconds, lambda seen: asked.out.write_text(json.dumps(seen)))
            finally:
                daemon.terminate()
                daemon.wait()
        found["daemon"] = (Path(name) / "daemon.log").read_text()[-1500:] if not found.get("runs") else ""
        asked.out.write_text(json.dumps(found, indent=1))
        print(json.dumps(found))


if __name__ == "__main__":
    main()
