"""The Dagster instance below K4_HOME: made once by one process, with limits that survive a power cut."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import dagster as dg

from k4_pipeline.errors import ConfigError
from k4_pipeline.settings import Settings
from k4_pipeline.storage import atomic_write_text, file_lock, sha256_file

CONFIG_FILE = "dagster.yaml"
# Runs of a backfill go side by side, everything else alone (storage/writer_lock.py); steps of one pool two at a time.
# A killed run is ended by defs/run_monitor.py.
DAGSTER_YAML = """\
nux:
  enabled: false
telemetry:
  enabled: false
run_monitoring:
  enabled: true
  poll_interval_seconds: 10
  start_timeout_seconds: 110
  max_runtime_seconds: 86400
  free_slots_after_run_end_seconds: 60
concurrency:
  runs:
    max_concurrent_runs: 4
  default_op_concurrency_limit: 2
retention:
  schedule:
    purge_after_days: 90
  sensor:
    purge_after_days:
      skipped: 7
      failure: 90
      success: -1
"""

SEAL = "# sha256 of the lines below; leave this line out after an edit: "
# sha256 of what earlier versions wrote: such a file was not edited by hand and is replaced.
EARLIER = (
    "b4017daafcd9c8b3c7b603d2c0b19faf09b6cc56176c7f49add92466208ada99",
    "69a0e246f5157581aa239a9671c0c72b712a9473dbfd67dfeaf41ce84560d816",
    "53b33492adc85e68c7c9dcf2de8eac5a97ac387df3642b5d781f677c9a6b29cd",
)

WORKSPACE_YAML = """\
load_from:
  - python_module:
      module_name: k4_pipeline.definitions
      location_name: k4_pipeline
"""


def create_home(settings: Settings) -> Path:
    """Make K4_HOME with its folders and the Dagster database; safe to call again and from several processes.

    A fresh DAGSTER_HOME breaks when several processes create its tables at once, so it is done here, under a lock.
    """
    for folder in (settings.artifacts_dir, settings.reports_dir, settings.raw_dir, settings.logs_dir):
        folder.mkdir(parents=True, exist_ok=True)
    settings.dagster_dir.mkdir(parents=True, exist_ok=True)
    with file_lock(settings.home / ".init.lock"):
        config = settings.dagster_dir / CONFIG_FILE
        if not config.is_file() or sha256_file(config) in EARLIER:
            atomic_write_text(config, f"{SEAL}{hashlib.sha256(DAGSTER_YAML.encode()).hexdigest()}\n{DAGSTER_YAML}")
        check_config(config)
        atomic_write_text(workspace_file(settings), WORKSPACE_YAML)
        with open_instance(settings) as instance:
            instance.get_runs(limit=1)
            instance.get_asset_keys(limit=1)
            instance.all_instigator_state()
    return settings.home


def check_config(path: Path) -> None:
    """`ConfigError` when a byte of `dagster.yaml` changed since it was written; a file without a seal is the user's."""
    try:
        first, _, rest = path.read_text().partition("\n")
    except ValueError:  # no UTF-8
        first, rest = SEAL, ""
    sealed = first.startswith(SEAL) or re.search("[0-9a-f]{64}", first)
    if sealed and first != SEAL + hashlib.sha256(rest.encode()).hexdigest():
        raise ConfigError(
            f"{path} is damaged or was edited: it does not match the sha256 in its first line. Delete the file to get "
            "the default back, or, when you edited it, delete that line"
        )


def workspace_file(settings: Settings) -> Path:
    """What `k4 ui` loads: the same code location under the same name as workspace.yaml and `dg dev`."""
    return settings.dagster_dir / "workspace.yaml"


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance below this home."""
    return dg.DagsterInstance.from_config(str(settings.dagster_dir))
