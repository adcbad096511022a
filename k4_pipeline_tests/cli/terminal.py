"""A command as it is seen in a terminal of 80 columns."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path


def run_in_terminal(
    command: list[str], environment: dict[str, str], stdout: Path
) -> tuple[int, list[tuple[float, str]]]:
    """Exit status and (seconds since the start, text) of all that is drawn on stderr; stdout goes to the file."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with stdout.open("w") as out:
        began = time.monotonic()
        process = subprocess.Popen(command, env={**environment, "TERM": "xterm-256color"}, stdout=out, stderr=theirs)
        os.close(theirs)
        drawn = list(_read(ours, began))
        return process.wait(), drawn


def _read(handle: int, began: float) -> Iterator[tuple[float, str]]:
    while True:
        try:
            data = os.read(handle, 65536)
        except OSError:  # Linux: the other end is closed
            data = b""
        if not data:
            os.close(handle)
            return
        yield time.monotonic() - began, data.decode(errors="replace")
