"""A real Postgres for the time of a test, from Debian's package, as a user that it accepts."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    path = found[-1] if found else shutil.which("initdb")
    if path is None:
        pytest.skip("no Postgres here: install the Debian package postgresql")
    return Path(path).resolve().parent


def free_port() -> int:
    """A port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def postgres() -> Iterator[dict[str, str]]:
    """The K4_POSTGRES_* variables of a running server; nothing of it stays."""
    psycopg2 = pytest.importorskip("psycopg2", reason="dagster-postgres is not installed")
    bin, user = _binaries(), None
    if os.geteuid() == 0:  # Postgres refuses root
        try:
            user = pwd.getpwnam("postgres").pw_uid
        except KeyError:
            pytest.skip("this is root, and there is no user postgres to run the server as")
    folder = Path(tempfile.mkdtemp(prefix="k4-pg-"))
    if user is not None:
        os.chown(folder, user, -1)
    port = free_port()
    data = str(folder / "data")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "user": user, "cwd": "/"}
    subprocess.run([bin / "initdb", "-D", data, "-U", "k4", "--auth=trust", "--no-sync"], check=True, **quiet)
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    server = subprocess.Popen([bin / "postgres", "-D", data, *options], **quiet)
    where = {"HOST": "127.0.0.1", "PORT": str(port), "DB": "postgres", "USER": "k4", "PASSWORD": "none"}
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None
            assert time.monotonic() < deadline, "Postgres did not start"
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(host="127.0.0.1", port=port, user="k4", dbname="postgres").close()
                break
            time.sleep(0.1)
        yield {f"K4_POSTGRES_{name}": value for name, value in where.items()}
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)
