"""How a command line ends: a usage error as JSON where JSON was asked for, and quietly where nobody reads on."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import sys
import threading
from collections.abc import Iterator

import typer
from typer.exceptions import TyperException

NOBODY_READS = 141  # what a shell reports of a program that SIGPIPE ended


def reader_is_gone() -> bool:
    """Whether the pipe behind standard output or standard error was closed at its other end, as `head` does."""
    seen = select.poll()
    for handle in (1, 2):
        seen.register(handle, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in seen.poll(0))


def print_error(kind: str, message: str) -> None:
    """An error as one JSON document on standard output."""
    sys.stdout.write(json.dumps({"success": False, "error": {"type": kind, "message": message}}, indent=1) + "\n")


@contextlib.contextmanager
def ending(*, as_json: bool) -> Iterator[None]:
    """Around a command: a usage error becomes one JSON document too, and a closed pipe the exit status 141."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except TyperException as error:
        if as_json:
            print_error(type(error).__name__, error.format_message())
        raise
    except BrokenPipeError:
        if not reader_is_gone():
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):  # what is still in their buffers goes nowhere
            os.dup2(nowhere, stream)
        raise typer.Exit(NOBODY_READS) from None


def leave(end: SystemExit) -> None:
    """End this process as Python does at `end`, but for the modules, which are not taken apart: after torch, numba and
    Dagster that takes 0.8 s. Comes back where the exit status is none of a number."""
    if not isinstance(end.code, int | None):
        return
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code or 0)
