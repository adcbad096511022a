"""The outcome of `k4 audit`, kept beside the report of the same as-of date so that the report may say it was audited.

A stamp counts only for the very predictions it was made of: after any retraining it is void.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from k4_pipeline.storage import atomic_write_json

STAMP_FILE = "audit.json"


def write_stamp(reports_dir: Path, as_of: str, predictions_fingerprint: str, result: dict[str, Any]) -> Path:
    """Store whether the audit passed, for which predictions, and which checks it ran."""
    path = Path(reports_dir) / as_of / STAMP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    checks = {verdict["name"]: verdict["passed"] for verdict in result["verdicts"]}
    atomic_write_json(
        path, {"passed": bool(result["passed"]), "predictions": predictions_fingerprint, "checks": checks}
    )
    return path


def audited(reports_dir: Path, as_of: str, predictions_fingerprint: str) -> bool | None:
    """Whether the audit of exactly these predictions passed; None when there was none, or only one of others."""
    path = Path(reports_dir) / as_of / STAMP_FILE
    if not path.is_file():
        return None
    stamp = json.loads(path.read_text())
    return bool(stamp["passed"]) if stamp["predictions"] == predictions_fingerprint else None
