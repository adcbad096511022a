"""Where a run started from the UI may read and write: below the home folder and the roots its owner allowed."""

from __future__ import annotations

import os
from pathlib import Path

from k4_pipeline.errors import ConfigError
from k4_pipeline.settings import Settings, load_settings

ROOTS_VARIABLE = "K4_ALLOWED_ROOTS"  # folders, separated by the path separator; set by `k4 ui`

_TRUSTED: set[str] = set()  # paths that the owner wrote into a file of the home folder


def trust(path: str) -> None:
    """Runs may use this path: it stands in a file that only the owner of the home folder can have written."""
    _TRUSTED.add(path)


def confine(settings: Settings) -> None:
    """`ConfigError` when run config leads outside of the allowed roots.

    Paths that stand in the stored settings were given in a shell by the owner and are not questioned. Without
    `K4_ALLOWED_ROOTS` in the environment (a shell run) nothing is.
    """
    if not os.environ.get(ROOTS_VARIABLE):
        return
    own, source = load_settings(), settings.config.source
    _require_inside("home", str(settings.home), own)
    for name in ("path", "snapshots_path"):
        value = getattr(source, name)
        if value and value != getattr(own.config.source, name):
            _require_inside(f"source.{name}", value, own)
    where = settings.config.training.where
    if where.startswith("bundle:"):
        _require_inside("training.where", where.removeprefix("bundle:").strip(), own)
    if where.startswith("pipes:") and where not in ("pipes:local", own.config.training.where):
        raise ConfigError(
            f"training.where is {where!r}: from the UI only pipes:local, or what the stored settings name"
        )


def confine_home(home: Path) -> None:
    """The same for a home folder alone, before anything is written there."""
    if os.environ.get(ROOTS_VARIABLE):
        _require_inside("home", str(home), load_settings())


def _require_inside(name: str, value: str, own: Settings) -> None:
    if value in _TRUSTED:
        return
    if "://" in value:
        raise ConfigError(
            f"{name} is the address {value}; from the UI only that of the stored settings is read (`k4 run --path` "
            f"stores it), or files below {ROOTS_VARIABLE}"
        )
    roots = [Path(part).resolve() for part in os.environ[ROOTS_VARIABLE].split(os.pathsep) if part]
    roots.append(own.home.resolve())
    if not any(Path(value).resolve().is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, dict.fromkeys(roots)))
        raise ConfigError(
            f"{name} is {value}, outside of {allowed}; move it there, or start `k4 ui` with {ROOTS_VARIABLE} "
            f"naming its folder"
        )
