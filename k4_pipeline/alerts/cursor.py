"""How far the run history has been looked at. Losing it loses nothing: facts are known by id, so looking again is safe.

The position is a time, not an event number: on SQLite every run has an event file of its own in which numbers restart.
Every look goes back over `OVERLAP_S`, so that events written late are seen.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from k4_pipeline.storage import atomic_write_json
from k4_pipeline.storage.sealed import parse_json, read_limited

OVERLAP_S = 300.0
FIRST_LOOK_BACK_S = 3600.0
LOOK_AGAIN_S = 30 * 86400.0  # how far back to look when the position is lost


@dataclass
class Cursor:
    """`seen_until`: seconds since 1970 (UTC), never beyond now; `signals`, `champion`: versions looked at last."""

    seen_until: float
    looked_at: float = 0.0
    signals: str = ""
    champion: str = ""

    @property
    def look_from(self) -> float:
        """Ask for runs changed after this."""
        return self.seen_until - OVERLAP_S

    @classmethod
    def far_back(cls, now: float) -> Cursor:
        """Where to look again from when facts may have been lost."""
        return cls(now - LOOK_AGAIN_S)

    def save(self, path: Path) -> None:
        """Store it with its sha256."""
        content = asdict(self)
        atomic_write_json(path, {**content, "sha256": _digest(content)})

    @classmethod
    def load(cls, path: Path, now: float) -> tuple[Cursor, str]:
        """The stored cursor, and a sentence when it could not be used; then it starts `LOOK_AGAIN_S` back.

        A first start looks back `FIRST_LOOK_BACK_S`. A position beyond `now` (the clock was wrong once) is not used.
        """
        try:
            content = parse_json(read_limited(path))
            digest = content.pop("sha256")
            if digest != _digest(content):
                raise ValueError("its sha256 does not match")
            cursor = cls(**content)
            if cursor.seen_until > now + 1.0:
                raise ValueError("it lies in the future: the clock was ahead once, or is behind now")
        except FileNotFoundError:
            return cls(now - FIRST_LOOK_BACK_S), ""
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            days = LOOK_AGAIN_S / 86400.0
            return cls.far_back(now), f"{path} cannot be used ({problem}); looked again at the last {days:g} days"
        return cursor, ""


def _digest(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
