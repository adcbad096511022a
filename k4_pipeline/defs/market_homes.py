"""Which markets of a code location were declared beside the main one, and whose home folder a run writes into."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = "markets"  # below the main home: one YAML file and one home folder per market
SEPARATOR = "__"  # between market and asset in the name of a step, as Dagster writes an asset key
HOMES: dict[str, Path] = {}  # market -> home folder; filled when the code location loads


def market_in(home: Path) -> str:
    """The market that lives in `home`; empty for the main one."""
    return next((name for name, own in HOMES.items() if own == home), "")


def home_of(market: str, main: Path, own: str = "") -> Path:
    """The home folder of a market: `own` as its file says, else below the main one."""
    return (Path(own).expanduser() if own else main / FOLDER / market).absolute()


def declared_home(market: str, main: Path) -> Path | None:
    """The home folder of a market that a file of the main home declares, read without loading it; None without one."""
    import yaml

    for file in sorted((main / FOLDER).glob("*.yaml")):
        try:
            content = yaml.safe_load(file.read_text()) or {}
            attributes = content.get("attributes", content)
            if attributes["name"] == market:
                return home_of(market, main, str(attributes.get("home") or ""))
        except (OSError, ValueError, KeyError, AttributeError, TypeError, yaml.YAMLError):
            continue  # the code location says what is wrong in it
    return None


def homes_written(steps: Iterable[str], main: Path) -> list[Path]:
    """Home folders of these steps, sorted: those of the markets they belong to, and `main` for the rest."""
    return sorted({HOMES.get(step.partition(SEPARATOR)[0], main) for step in steps} or {main})
