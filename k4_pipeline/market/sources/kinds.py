"""The kind of source a path stands for when the user names none."""

from __future__ import annotations

from pathlib import Path

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.files.opening import is_bar_file, zip_entries
from k4_pipeline.market.files.places import is_remote, place_of


def kind_of(path: str) -> str:
    """`table` for one file, `folder` for a folder or an archive of several."""
    name = Path(path)
    if name.suffix.lower() == ".zip":
        try:
            return "table" if not is_remote(path) and len(zip_entries(place_of(path))) == 1 else "folder"
        except (BadInputError, OSError):
            return "folder"  # the reader says what is wrong
    if is_remote(path):
        return "table" if is_bar_file(name) else "folder"
    place = place_of(path).expanduser()
    return "folder" if place.is_dir() or not (place.exists() or place.suffix) else "table"
