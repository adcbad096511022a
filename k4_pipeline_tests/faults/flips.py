"""One flipped bit in a stored file, and whether what reads the file says so."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import ConfigError, StaleArtifactError
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.artifact_ref import MANIFEST

SAID = (StaleArtifactError, ConfigError)
Reader = Callable[[], object]


def readers_of(home: Path) -> dict[str, tuple[Path, Reader]]:
    """Of every type of file in a home: an example, and what commands and runs do to read it."""
    from k4_pipeline.defs.instance import check_config

    store, found = ArtifactStore(home / "artifacts"), {}
    for asset in sorted(p.name for p in store.root.iterdir()):
        key = (store.partitions(asset) or [None])[-1]
        ref = store.last_good(asset, key)
        for name in ref.files:
            read = lambda asset=asset, key=key, name=name: store.last_good(asset, key).path(name)  # noqa: E731
            found[f"{asset}/{name}"] = (ref.dir / name, read)
        whole = lambda asset=asset, key=key: store.last_good(asset, key)  # noqa: E731
        found[f"{asset}/{MANIFEST}"] = (ref.dir / MANIFEST, whole)
        found[f"{asset}/state.json"] = (ref.dir.parent / "state.json", whole)
    found["dagster.yaml"] = (home / "dagster" / "dagster.yaml", lambda: check_config(home / "dagster" / "dagster.yaml"))
    found["settings.json"] = (home / "settings.json", lambda: load_settings(home, {}))
    found |= _beside(home)
    return found


def _beside(home: Path) -> dict[str, tuple[Path, Reader]]:
    from k4_pipeline.alerts.cursor import Cursor
    from k4_pipeline.alerts.outbox import Outbox
    from k4_pipeline.defs.audit_facts import read_request
    from k4_pipeline.evaluation.ledger import open_drift, open_inputs, open_ledger
    from k4_pipeline.evaluation.trials import count_trials

    found: dict[str, tuple[Path, Reader]] = {}

    def outbox() -> None:
        if problems := Outbox(home / "alerts").problems:
            raise StaleArtifactError("; ".join(problems))

    def cursor() -> None:
        if lost := Cursor.load(home / "alerts" / "cursor.json", 4e9)[1]:
            raise StaleArtifactError(lost)

    for table in (open_ledger(home), open_inputs(home), open_drift(home)):
        for path in table.folder.rglob("*"):
            if path.is_file() and path.name != ".lock":
                found[f"{table.folder.name}/*{path.suffix}"] = (path, table.read)
    for path in (home / "walk_forward").glob("*.json"):
        found["walk_forward/*.json"] = (path, lambda: count_trials(home, PipelineConfig()))
    for name, read in (("facts.jsonl", outbox), ("deliveries.jsonl", outbox), ("cursor.json", cursor)):
        if (home / "alerts" / name).is_file():
            found[f"alerts/{name}"] = (home / "alerts" / name, read)
    for path in (home / "requests").glob("*.json"):
        found["requests/*.json"] = (path, lambda path=path: read_request(path))
    for path in (home / "unfinished").rglob("*.state"):
        found["unfinished/*.state"] = (path, lambda path=path: _resumed(path))
    return found


def _resumed(path: Path) -> None:
    from k4_pipeline.training.resume import Resume

    resume = Resume(path.parent, "", path.name.removesuffix(".state"))
    stored = path.read_bytes()
    # `load` looks at the hash first; a key of another fit is left aside in any case, so the hash alone is judged.
    if resume.load() is None and hashlib.sha256(stored[32:]).digest() != stored[:32]:
        raise StaleArtifactError("the state is damaged and is not continued")


def flip(path: Path, read: Reader, seed: str, count: int) -> dict[str, Any]:
    """`count` single bits of a file, one at a time: how many reads were refused, silent, or broke with a bare error."""
    data = path.read_bytes()
    read()
    bits = random.Random(seed).sample(range(len(data) * 8), min(count, len(data) * 8))
    refused, wrong = 0, []
    try:
        for bit in bits:
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                read()
                wrong.append(f"bit {bit} of {path.name}: read in silence")
            except SAID:
                refused += 1
            except Exception as error:
                wrong.append(f"bit {bit} of {path.name}: {type(error).__name__}: {error}")
    finally:
        path.write_bytes(data)
    read()
    return {"flips": len(bits), "bytes": len(data), "refused": refused, "wrong": wrong[:5], "silent": len(wrong)}


def state_for_flips(home: Path) -> None:
    """Add to a home what a run does not leave behind: the state of a training, and alerts that were told."""
    import torch

    from k4_pipeline.alerts.cursor import Cursor
    from k4_pipeline.alerts.outbox import Outbox
    from k4_pipeline.evaluation.trials import keep_result
    from k4_pipeline.training.resume import Resume
    from k4_pipeline_tests.alerts.test_outbox import fact

    keep_result(home, PipelineConfig(), {"log_loss": 1.25})
    Resume(home / "unfinished" / "a", "").save({"w": torch.arange(32.0)}, {"epoch": 3})
    (home / "alerts").mkdir(exist_ok=True)
    outbox = Outbox(home / "alerts")
    outbox.meet("target", 1e6)
    outbox.record([fact(1), fact(2)])
    outbox.delivered("target", [fact(1).id], 1e6)
    outbox.failed("target", 1e6, "away")
    Cursor(1e6).save(home / "alerts" / "cursor.json")
