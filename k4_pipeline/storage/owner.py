"""Who writes into a home, as text in its lock or lease."""

from __future__ import annotations

import datetime as dt
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """Who holds the lock."""

    host: str
    pid: int
    command: str
    since: str  # UTC, ISO
    run_id: str = ""  # of a run started by Dagster

    @classmethod
    def this_process(cls, command: str = "", run_id: str = "") -> Owner:
        """The process that asks."""
        since = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), command or _command(), since, run_id)

    def in_words(self) -> str:
        """For messages."""
        return f"`{self.command}` (process {self.pid} on {self.host}, since {self.since})"


def _command() -> str:
    name = Path(sys.argv[0]).name if sys.argv else ""
    return " ".join(["k4" if name in ("k4", "__main__.py") else name, *sys.argv[1:]])[:200]
