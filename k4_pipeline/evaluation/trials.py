"""Every walk-forward result is kept with what it was made with: how often the same years were looked at is a fact of
the result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig, config_hash, to_dict
from k4_pipeline.evaluation.champion import market_identity
from k4_pipeline.storage import atomic_write_json

FOLDER = "walk_forward"


def count_trials(home: Path, config: PipelineConfig) -> int:
    """Results and search trials kept in this home on the same source, pattern and label rule."""
    market = market_identity(config)
    kept = [json.loads(p.read_text()) for p in sorted((home / FOLDER).glob("*.json"))]
    return sum(int(k.get("counts_as", 1)) for k in kept if k.get("market") == market)


def keep_result(home: Path, config: PipelineConfig, result: dict[str, Any], *, counts_as: int = 1) -> Path:
    """Write the result beside the others; its name holds the settings' hash and a running number."""
    folder = home / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.json"))) + 1
    path = folder / f"{number:04d}-{config_hash(config)}.json"
    record = {"market": market_identity(config), "counts_as": counts_as, "config": to_dict(config), "result": result}
    atomic_write_json(path, record)
    return path
