"""Every walk-forward result is kept with what it was made with: how often the same years were looked at is a fact of
the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig, config_hash, to_dict
from k4_pipeline.errors import DamagedArtifactError
from k4_pipeline.evaluation.champion import market_identity
from k4_pipeline.storage.sealed import read_sealed, write_sealed

FOLDER = "walk_forward"


def count_trials(home: Path, config: PipelineConfig) -> int:
    """Results and search trials kept in this home on the same source, pattern and label rule."""
    market = market_identity(config)
    kept = [_read(path) for path in sorted((home / FOLDER).glob("*.json"))]
    return sum(int(k.get("counts_as", 1)) for k in kept if k.get("market") == market)


def keep_result(home: Path, config: PipelineConfig, result: dict[str, Any], *, counts_as: int = 1) -> Path:
    """Write the result beside the others; its name holds the settings' hash and a running number."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.json"))) + 1
    path = folder / f"{number:04d}-{config_hash(config)}.json"
    record: dict[str, Any] = {
        "market": market_identity(config),
        "counts_as": counts_as,
        "config": to_dict(config),
        "result": result,
    }
    write_sealed(path, record)
    return path


def _read(path: Path) -> dict[str, Any]:
    """A result that was kept; `DamagedArtifactError` where a byte of it changed. Earlier versions wrote no seal."""
    try:
        kept = read_sealed(path, by_hand=True)
        if unknown := set(kept) - {"market", "counts_as", "config", "result"}:
            raise ValueError(f"it has an entry {min(unknown)}")
    except ValueError as problem:
        raise DamagedArtifactError(
            f"{path} is damaged ({problem}), and trials that are not counted make the next result look better than it "
            "is; restore it from a backup, or move it away and count its trials yourself"
        ) from problem
    return kept
