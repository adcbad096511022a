"""What a reader of a failed check can do: the next command and the page that explains it."""

from __future__ import annotations

import shlex
from pathlib import Path

from k4_pipeline.defs.market_homes import market_in

ANSWERS: dict[str, tuple[str, str]] = {  # asset -> (next command, page below docs/)
    "daily_bars": ("k4 data check", "data-sources.md"),
    "snapshots": ("k4 data check", "patterns.md"),
    "labeled_snapshots": ("k4 audit", "patterns.md"),
    "market_features": ("k4 audit", "features.md"),
    "context_features": ("k4 audit", "features.md"),
    "sequences": ("k4 audit", "features.md"),
    "training_windows": ("k4 audit", "patterns.md"),
    "dataset_split": ("k4 audit", "time.md"),
    "trained_model": ("k4 audit", "leakage.md"),
    "predictions": ("k4 audit", "leakage.md"),
    "validation_report": ("k4 report --open", "report.md"),
    "walk_forward_report": ("k4 status", "report.md"),
    "champion_model": ("k4 champion list", "operations.md"),
    "signals": ("k4 audit", "operations.md"),
    "prediction_ledger": ("k4 monitor", "operations.md"),
    "drift": ("k4 monitor", "operations.md"),
    "signal_outcomes": ("k4 monitor", "operations.md"),
    "todays_list": ("k4 signals", "operations.md"),
}
REPORTS_PATH, MARKETS_PATH, DOCS_PATH = "/k4/reports", "/k4/markets", "/k4/docs"


def page_path(page: Path, home: Path) -> str:
    """Where `k4 ui` serves a page of the reports of `home`: without a host, since what stores it does not know who
    will show it."""
    market = market_in(home)
    return f"{f'{MARKETS_PATH}/{market}/reports' if market else REPORTS_PATH}/{page.parent.name}/{page.name}"


def answer(asset: str, home: Path | None = None) -> dict[str, str]:
    """`next_command` and `docs` (a path that `k4 ui` serves) for a check that did not pass."""
    command, page = ANSWERS.get(asset, ("k4 status", "operations.md"))
    where = f" --home {shlex.quote(str(home))}" if home and market_in(home) else ""
    return {"next_command": command + where, "docs": f"{DOCS_PATH}/{page}"}
