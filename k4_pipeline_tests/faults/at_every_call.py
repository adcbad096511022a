"""A writing process that dies, or meets an error of the disk, at its n-th open, fsync or rename.

Run as a program (`python -m k4_pipeline_tests.faults.at_every_call ROOT sample|all`): one process loads the libraries
and forks a child for every point, so that hundreds of points take seconds. It prints one JSON line.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.evaluation import champion
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings, load_settings, save_settings
from k4_pipeline.storage import ArtifactStore, atomic_write_json, write_parquet
from k4_pipeline.storage.os_errors import in_words

ERRNOS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES, "EROFS": errno.EROFS}


def arm(n: int, what: str, below: Path, before: Callable[[int, str, Path], None] | None = None) -> Callable[[], int]:
    """From now on the n-th (0-based) open for writing, fsync or rename below a folder kills this process or raises.

    The function that is returned says how many there were so far; with n = -1 they are only counted. `before` is
    called ahead of each with its number, its name and its file.
    """
    seen, busy = 0, False
    folder = str(below)

    def wrap(name: str, original: Callable[..., Any], counts: Callable[..., bool]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen, busy
            if not busy and counts(*args, **kwargs):
                seen += 1
                if before is not None:
                    busy = True  # what it does itself is not counted
                    file = Path(f"/proc/self/fd/{args[0]}").readlink() if name == "fsync" else args[name == "rename"]
                    before(seen - 1, name, Path(file))
                    busy = False
                if seen == n + 1:
                    if what == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    named = [] if isinstance(args[0], int) else [str(args[0])]  # fsync names no file
                    raise OSError(ERRNOS[what], os.strerror(ERRNOS[what]), *named)
            return original(*args, **kwargs)

        return call

    def inside(path: Any, *_: Any, **__: Any) -> bool:
        return isinstance(path, (str, Path)) and str(path).startswith(folder)

    def opens(path: Any, mode: str = "r", *_: Any, **__: Any) -> bool:
        return inside(path) and any(letter in mode for letter in "wax+")

    def opens_raw(path: Any, flags: int = 0, *_: Any, **__: Any) -> bool:
        return inside(path) and bool(flags & (os.O_WRONLY | os.O_RDWR))

    os.fsync = wrap("fsync", os.fsync, lambda *_, **__: True)
    os.rename, os.replace = wrap("rename", os.rename, inside), wrap("rename", os.replace, inside)
    os.open = wrap("open", os.open, opens_raw)
    io.open = builtins.open = wrap("open", io.open, opens)
    return lambda: seen


def transaction(root: Path, text: str) -> None:
    """Everything a run stores: a table and JSON of a version, its verdict, a move of the champion, the settings."""
    store = ArtifactStore(root / "artifacts")
    with store.stage("table") as staged:
        write_parquet(pd.DataFrame({"x": [1, 2, 3], "text": [text] * 3}), staged.dir / "table.parquet")
        atomic_write_json(staged.dir / "facts.json", {"text": text})
        ref = staged.commit(kind="table")
    store.promote("table", None, ref.fingerprint, {"checks": []})
    record = champion.Record("2020-01-01" if text == "old" else "2020-04-01", ref.fingerprint, "market")
    serving = champion.serving(store)
    moves = [] if serving is None else list(serving.meta["history"])
    if serving is None or champion.Record.read(serving) != record:
        moves.append(champion.move_entry(record, text))
        champion.archive(store, ref, record, moves)
    with store.stage(champion.CHAMPION) as staged:
        champion.copy_version(ref, staged.dir)
        record.write(staged.dir)
        new = staged.commit(kind=champion.CHAMPION, meta={"history": moves})
    store.promote(champion.CHAMPION, None, new.fingerprint, {"checks": []})
    save_settings(Settings(root, apply_options(PipelineConfig(), {"tickers": 5 if text == "old" else 7})))


def state_of(root: Path) -> dict[str, Any]:
    """What readers find; raises when anything is neither old nor new and whole."""
    store = ArtifactStore(root / "artifacts")
    table, serving = store.last_good("table"), champion.serving(store)
    assert serving is not None
    table.verify()
    serving.verify()
    text = json.loads(table.path("facts.json").read_text())["text"]
    found = {
        "table": table.fingerprint,
        "text": text,
        "champion": champion.Record.read(serving).as_of,
        "champion_files": serving.files["table.parquet"]["sha256"],
        "tickers": load_settings(root, {}).config.simulation.n_tickers,
    }
    assert text in ("old", "new")
    assert found["champion"] in ("2020-01-01", "2020-04-01")
    assert found["tickers"] in (5, 7)
    return found


def _child(action: Callable[[], int]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = action()
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def _attempt(root: Path, n: int, what: str) -> int:
    arm(n, what, root)
    try:
        transaction(root, "new")
    except OSError as error:
        sentence = in_words(error, root)
        return 10 if sentence and str(root) in sentence else 71
    except Exception:
        return 72
    return 0


def campaign(root: Path, what: str, stride: int) -> dict[str, Any]:
    """Every `stride`-th point: old or new and whole afterwards, and the same hashes after a rerun."""
    out: dict[str, Any] = {"points": 0, "old": 0, "wrong": []}
    _child(lambda: transaction(root / "wanted", "old") or transaction(root / "wanted", "new") or 0)
    wanted = state_of(root / "wanted")
    for n in range(0, 10_000, stride):
        home = root / f"{what}-{n}"
        _child(lambda home=home: transaction(home, "old") or 0)
        status = _child(lambda home=home, n=n: _attempt(home, n, what))
        if status == 0:
            return out
        out["points"] += 1
        expected = signal.SIGKILL if what == "kill" else 10 << 8
        try:
            out["old"] += state_of(home)["text"] == "old"
            assert status == expected, f"ended with status {status}"
            rerun = _child(lambda home=home: transaction(home, "new") or 0)
            assert rerun == 0, f"the rerun ended with status {rerun}"
            assert state_of(home) == wanted, "other hashes after the rerun"
            left = [p.name for p in home.rglob("*") if ".tmp" in p.name or ".removed" in p.name]
            assert not left, f"left behind: {left}"
        except Exception as error:
            out["wrong"].append(f"{what} at call {n}: {type(error).__name__}: {error}")
    raise AssertionError("the transaction never ended")


if __name__ == "__main__":
    root, whole = Path(sys.argv[1]), sys.argv[2] == "all"
    found = {what: campaign(root / what, what, 1 if whole else 23) for what in ERRNOS}
    found["kill"] = campaign(root / "kill", "kill", 1 if whole else 7)
    sys.stdout.write(json.dumps(found) + "\n")
