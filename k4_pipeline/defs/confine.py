"""Where a run started from the UI may read and write: below the home folder and the roots its owner allowed."""

from __future__ import annotations

import os
from pathlib import Path

from k4_pipeline.errors import ConfigError
from k4_pipeline.settings import Settings, load_settings

ROOTS_VARIABLE = "K4_ALLOWED_ROOTS"  # folders, separated by the path separator; set by `k4 ui`


def confine(settings: Settings) -> None:
    """`ConfigError` when run config leads outside of the allowed roots.

    Paths that stand in the stored settings were given in a shell by the owner and are not questioned. Without
    `K4_ALLOWED_ROOTS` in the environment (a shell run) nothing is.
    """
    text = os.environ.get(ROOTS_VARIABLE)
    if not text:
        return
    own = load_settings()
    roots = [Path(part).resolve() for part in text.split(os.pathsep) if part] + [own.home.resolve()]
    given = {
        "home": (str(settings.home), str(own.home)),
        "source.path": (settings.config.source.path, own.config.source.path),
        "source.snapshots_path": (settings.config.source.snapshots_path, own.config.source.snapshots_path),
    }
    for name, (value, stored) in given.items():
        if not value or value == stored:
            continue
        if not any(Path(value).resolve().is_relative_to(root) for root in roots):
            allowed = ", ".join(map(str, dict.fromkeys(roots)))
            raise ConfigError(
                f"{name} is {value}, outside of {allowed}; move it there, or start `k4 ui` with {ROOTS_VARIABLE} "
                f"naming its folder"
            )
