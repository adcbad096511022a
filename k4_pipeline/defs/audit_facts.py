"""What the audit must not take from an artifact itself: the settings asked for, and times from the event log."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import dagster as dg

from k4_pipeline.config import PipelineConfig, config_hash, from_dict, hash_of_stored, to_dict
from k4_pipeline.defs.graph import ASSET_ORDER, PARTITIONED_ASSETS
from k4_pipeline.defs.instance import open_instance
from k4_pipeline.defs.run_config import SECTIONS, with_sections
from k4_pipeline.errors import DamagedArtifactError
from k4_pipeline.options import apply_assignments, options_from_environment
from k4_pipeline.settings import Settings, stored_settings
from k4_pipeline.storage.sealed import read_sealed, write_sealed

REQUEST_TAG = "k4/request"


def requests_dir(settings: Settings) -> Path:
    """Folder with one file per request, named after the hash of its settings."""
    return settings.home / "requests"


def write_request(settings: Settings, request: dict[str, Any]) -> Path:
    """Keep what was asked for, before the first asset is made: options as given and the settings they resolve to.

    `request`: `options` by name, assignments of `set`, `again` (whether stored settings were the beginning), `as_of`.
    """
    asked = {name: str(value) for name, value in request["options"].items() if value is not None}
    content = {**request, "options": asked, "environment": options_from_environment(os.environ)}
    content["config"] = to_dict(settings.config)
    path = requests_dir(settings) / f"{config_hash(settings.config)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, content)
    return path


def read_request(path: Path) -> dict[str, Any]:
    """What `write_request` stored; `DamagedArtifactError` when a byte of it changed."""
    try:
        return read_sealed(path)
    except (OSError, ValueError) as problem:
        raise DamagedArtifactError(f"{path} cannot be used: {problem}; run `k4 run` again") from problem


def audit_facts(settings: Settings, as_of: str) -> dict[str, Any]:
    """By asset: `requested` (settings), `request` (the request file, or None), `ignored` (what that file says and this
    version does not know, as sentences), `seconds` its step took and `at`, when it was stored; of `todays_list` also
    `page`, where its page lies.

    Read from the runs and events of Dagster, never from an artifact. Assets that no run of this home made are left out.
    """
    facts: dict[str, Any] = {}
    with open_instance(settings) as instance:
        for name in ASSET_ORDER:
            partition = as_of if name in PARTITIONED_ASSETS else None
            record = _materialization(instance, name, partition)
            run = instance.get_run_by_id(record.run_id) if record is not None else None
            if record is None or run is None:
                continue
            stats = {s.step_key: s for s in instance.get_run_step_stats(run.run_id)}.get(name)
            seconds = stats.end_time - stats.start_time if stats and stats.start_time and stats.end_time else None
            request = _request(settings, run)
            ignored: list[str] = []
            asked = None if request is None else from_dict(PipelineConfig, request["config"], dropped=ignored)
            config = asked or _of_the_home(settings, run)
            facts[name] = {
                "requested": to_dict(config),
                "request": request,
                "ignored": ignored,
                "seconds": seconds,
                "at": record.timestamp,
            }
    if "todays_list" in facts:
        facts["todays_list"]["page"] = str(settings.reports_dir / "signals" / "signals.html")
    return facts


def _materialization(instance: dg.DagsterInstance, name: str, partition: str | None) -> Any:
    chosen = dg.AssetRecordsFilter(dg.AssetKey(name), asset_partitions=[partition] if partition else None)
    records = instance.fetch_materializations(chosen, limit=1).records
    return records[0].event_log_entry if records else None


def _request(settings: Settings, run: dg.DagsterRun) -> dict[str, Any] | None:
    name = run.tags.get(REQUEST_TAG)
    if name is None:
        return None
    path = requests_dir(settings) / f"{name}.json"
    content = read_request(path)
    # The tag was written before the first asset: a file changed since does not match it. Hashed as it stands there,
    # since another version may have had settings that are none any more.
    content["untouched"] = hash_of_stored(content["config"]) == name
    return content


def _of_the_home(settings: Settings, run: dg.DagsterRun) -> PipelineConfig:
    """Settings of a run that the UI, a schedule or a sensor started: those of the home and of its launchpad."""
    run_config: dict[str, Any] = dict(run.run_config or {})
    resource = (run_config.get("resources") or {}).get("k4", {}).get("config", {})
    chosen = apply_assignments(stored_settings(settings.home).config, list(resource.get("set_fields", [])))
    return with_sections(chosen, {name: values for name, values in resource.items() if name in SECTIONS})
