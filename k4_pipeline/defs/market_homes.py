"""Which markets of a code location were declared beside the main one, and whose home folder a run writes into."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SEPARATOR = "__"  # between market and asset in the name of a step, as Dagster writes an asset key
HOMES: dict[str, Path] = {}  # market -> home folder; filled when the code location loads


def homes_written(steps: Iterable[str], main: Path) -> list[Path]:
    """Home folders of these steps, sorted: those of the markets they belong to, and `main` for the rest."""
    return sorted({HOMES.get(step.partition(SEPARATOR)[0], main) for step in steps} or {main})
