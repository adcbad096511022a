"""The outcome of `k4 audit`, kept beside the report of the same as-of date so that the report may say it was audited.

A stamp counts only for the very predictions it was made of: after any retraining it is void. It is sealed with its
sha256: a damaged or edited one is void as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from k4_pipeline.storage.sealed import read_sealed, write_sealed

STAMP_FILE = "audit.json"


def write_stamp(reports_dir: Path, as_of: str, predictions_fingerprint: str, result: dict[str, Any]) -> Path:
    """Store the outcome, for which predictions it holds, which checks were run on which sample, and what is open.

    `passed` is None when a proof could not be made: then there is no stamp, only the reasons.
    """
    path = Path(reports_dir) / as_of / STAMP_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    checks = {verdict["name"]: verdict["passed"] for verdict in result["verdicts"]}
    passed = {"passed": True, "failed": False}.get(result["status"])
    content = {name: result[name] for name in ("sample", "not_applicable", "not_proved")}
    write_sealed(path, {"passed": passed, "predictions": predictions_fingerprint, "checks": checks, **content})
    return path


def audited(reports_dir: Path, as_of: str, predictions_fingerprint: str) -> bool | None:
    """Whether the audit of exactly these predictions passed; None: none was, or it proved too little."""
    stamp = read_stamp(reports_dir, as_of, predictions_fingerprint)
    return None if stamp is None else stamp["passed"]


def read_stamp(reports_dir: Path, as_of: str, predictions_fingerprint: str) -> dict[str, Any] | None:
    """The stamp of exactly these predictions, or None."""
    path = Path(reports_dir) / as_of / STAMP_FILE
    try:
        stamp = read_sealed(path)
    except (FileNotFoundError, ValueError):
        return None
    return stamp if stamp["predictions"] == predictions_fingerprint else None


def proofs_in_words(stamp: dict[str, Any] | None) -> str:
    """One sentence for the banner of a report: which proofs were made, on which sample."""
    if stamp is None:
        return "These predictions were not audited yet (k4 audit)."
    sample, held = stamp["sample"], sum(stamp["checks"].values())
    tickers = "every ticker" if sample["tickers"] is None else f"{sample['tickers']} tickers"
    size = f"sample {sample['name']}: {tickers}, the universe cut at {sample['cut_dates']} dates"
    refit = "weights fitted again" if sample["refit"] else "weights not fitted again"
    text = f"{held} of {len(stamp['checks'])} checks hold ({size}; {refit})"
    open_ = stamp["not_proved"]
    return f"Audit: {text}." if not open_ else f"Audit: {text}; not proved: {', '.join(sorted(open_))}."
