"""A whole `k4 run` that dies, or meets an error of the disk, at its n-th open, fsync or rename, or inside a training.

The home holds an earlier run; the run that is hit makes everything anew with other settings. Afterwards every result is
the old or the new one and whole, and the same command once more ends with the hashes of a run that nothing hit. What a
kill leaves is recorded at every call of one run (`states`), and each state that differs is run again once; that a real
kill leaves just that is tried at one call of every kind.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from k4_pipeline.evaluation import champion
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore, sha256_file
from k4_pipeline_tests.faults.at_every_call import arm
from k4_pipeline_tests.faults.forks import in_child
from k4_pipeline_tests.faults.states import Recorder, State, kind_of, states

SMALL = ["--tickers", "30", "--bars", "1500", "--preset", "micro", "--model-preset", "original", "--epochs", "2"]
LESS_PROOF = [
    *("--set", "controls.enabled=false", "--set", "proof.leak_demo=false"),
    *("--set", "integrity.bootstrap_draws=100"),
]
OLD = [*SMALL, *LESS_PROOF, "--seed", "1"]
NEW = [*SMALL, *LESS_PROOF, "--seed", "2", "--set", "cleaning.stale_bars=19"]
# Every phase of the default recipe: pre-training, seeds, refit.
TRAINING = ["--tickers", "40", "--bars", "1500", "--preset", "micro", "--epochs", "3", *LESS_PROOF]
PASS = "backward pass"
LOST = ("Traceback", "unexpected ")


def k4(home: Path, *arguments: str) -> int:
    """The command in this process; its exit status."""
    from k4_pipeline.cli import app

    for name in [name for name in os.environ if name.startswith("K4_") and name != "K4_THREADS"]:
        del os.environ[name]
    try:
        app([*arguments, "--home", str(home)], standalone_mode=True)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def warm() -> None:
    """Import what a run needs, so that every child has it."""
    import k4_pipeline.cli.results
    import k4_pipeline.cli.run
    import k4_pipeline.pipeline.stages  # noqa: F401
    from k4_pipeline.defs.build import build_defs

    build_defs()


def results_of(home: Path) -> dict[str, str]:
    """Everything that must be the same after a rerun: name -> hash. Every byte is verified; raises for a wrong one."""
    store, found = ArtifactStore(home / "artifacts"), {}
    for asset in sorted(p.name for p in store.root.iterdir()) if store.root.is_dir() else []:
        for partition in store.partitions(asset) or [None]:
            if any(event["event"] == "promoted" for event in store.history(asset, partition)):
                ref = store.last_good(asset, partition)
                ref.verify()
                found[ref.key] = ref.fingerprint
    serving = champion.serving(store)
    if serving is not None:
        found["serves"] = champion.Record.read(serving).model_fingerprint
    found["settings"] = str(load_settings(home, {}).config.training.seed)
    return found


def copies_of(home: Path) -> dict[str, str]:
    """What lies beside the artifacts: the ledger, verified, and the rendered reports."""
    from k4_pipeline.evaluation.ledger import open_ledger

    ledger = open_ledger(home)
    ledger.verify()
    found = {entry["file"]: entry["sha256"] for entry in ledger.entries()}
    return found | {p.relative_to(home).as_posix(): sha256_file(p) for p in (home / "reports").rglob("report.*")}


@dataclass(frozen=True)
class Template:
    """The home before (`old`), the home after a run that nothing hit (`new`), and what both hold."""

    root: Path
    arguments: list[str]
    before: dict[str, str]
    after: dict[str, str]
    copies: dict[str, str]
    calls: list[str]  # kinds of the opens, fsyncs and renames of the second run
    passes: int  # backward passes in it

    @classmethod
    def read(cls, root: Path) -> Template:
        """What `make` stored in `root`."""
        return cls(root, **json.loads((root / "template.json").read_text()))

    @classmethod
    def make(cls, root: Path, first: list[str] | None, then: list[str]) -> Template:
        """Run `first` in this process, so that its children find all compiled and loaded; then `then` in a child, with
        a look at its home at each of its calls and backward passes. `first` None: `then` in a fresh home, twice."""
        root.mkdir(parents=True)
        old, new, log = root / "old", root / "new", root / "log"
        if k4(old if first is not None else root / "warm", "run", *(first or then), "--quiet"):
            raise RuntimeError(f"the first run of {root.name} failed")
        gc.freeze()  # what is loaded now is shared by all children
        old.mkdir(exist_ok=True)
        shutil.copytree(old, new)
        counted = root / "calls"

        def record() -> int:
            recorder, kinds = Recorder(new, root), list[str]()

            def before(n: int, call: str, file: Path) -> None:
                kinds.append(kind_of(call, file, new))
                recorder.look(f"call {n}", kinds[-1])

            arm(-1, "kill", new, before)
            passes = _at_backward(lambda n: recorder.look(f"pass {n}", PASS))
            code = k4(new, "run", *then, "--quiet")
            counted.write_text(json.dumps([kinds, passes()]))
            return code

        if in_child(record, log):
            raise RuntimeError(log.read_text()[-3000:])
        made = cls(root, then, results_of(old), results_of(new), copies_of(new), *json.loads(counted.read_text()))
        facts = {name: value for name, value in asdict(made).items() if name != "root"}
        (root / "template.json").write_text(json.dumps(facts))
        return made

    @cached_property
    def states(self) -> list[State]:
        """Every state of the home that a kill of the second run may leave, in order."""
        return list(states(self.root))

    def states_of_training(self) -> list[int]:
        """The numbers of the states at a backward pass, or at a call that changes what is kept of a training."""
        return [
            n
            for n, state in enumerate(self.states)
            if any(kind == PASS or " unfinished/" in kind for kind in state.kinds)
        ]

    def from_state(self, number: int) -> dict[str, Any]:
        """The `number`-th state put back: every result old or new and whole, and the rerun."""
        state = self.states[number]
        home, log = self.root / f"state-{number}", self.root / f"state-{number}.log"
        state.restore(self.root / "blobs", home)
        wrong: list[str] = []
        found = self._whole(home, wrong)
        self._again(home, log, wrong)
        return {"points": len(state.points), "at": state.points, "kind": state.kinds[0], **found, "wrong": wrong}

    def hit(self, name: str, strike: Any, *, kills: bool) -> dict[str, Any]:
        """A copy of the old home, a run of it that `strike()` has prepared to be hit, and a rerun."""
        home, log = self.root / name, self.root / f"{name}.log"
        shutil.copytree(self.root / "old", home)
        wrong: list[str] = []

        def struck() -> int:
            strike(home)
            return k4(home, "run", *self.arguments, "--quiet")

        status = in_child(struck, log)
        said = log.read_text() if log.exists() else ""
        outcome = {-signal.SIGKILL: "killed", 0: "unharmed", 1: "said"}.get(status, str(status))
        if outcome not in (("killed", "unharmed") if kills else ("unharmed", "said")):
            wrong.append(f"ended with status {status}: {said[-300:]}")
        if outcome == "said" and (not said.strip() or any(word in said for word in LOST)):
            wrong.append(f"no clear sentence: {said[-400:]}")
        found = self._whole(home, wrong)
        if outcome == "unharmed" and found["state"] != "new":
            wrong.append("it ended with status 0 and the results are not the new ones")
        self._again(home, log, wrong)
        return {"outcome": outcome, **found, "wrong": wrong}

    def _whole(self, home: Path, wrong: list[str]) -> dict[str, str]:
        """Whether the home is the old one, the new one or between; what is neither old nor new goes to `wrong`."""
        try:
            found = results_of(home)
        except Exception as error:
            wrong.append(f"after the hit: {type(error).__name__}: {error}")
            return {"state": "?"}
        mixed = [k for k, v in found.items() if v not in (self.before.get(k), self.after.get(k))]
        if mixed or not set(self.before) <= set(found):
            wrong.append(f"neither old nor new: {mixed or sorted(set(self.before) - set(found))}")
        return {"state": "new" if found == self.after else "old" if found == self.before else "between"}

    def _again(self, home: Path, log: Path, wrong: list[str]) -> None:
        """The same command once more: it ends with what nothing hit would have made, and leaves nothing behind."""
        again = in_child(lambda: k4(home, "run", *self.arguments, "--quiet"), log)
        try:
            if again:
                wrong.append(f"the rerun ended with status {again}: {log.read_text()[-400:]}")
            elif (found := results_of(home)) != self.after:
                wrong.append(
                    f"other hashes after the rerun: {[k for k in self.after if found.get(k) != self.after[k]]}"
                )
            elif (copies := copies_of(home)) != self.copies:
                wrong.append(f"other copies after the rerun: {sorted(copies.items() ^ self.copies.items())[:2]}")
            left = [p.relative_to(home).as_posix() for p in home.rglob("*") if ".tmp" in p.name or ".removed" in p.name]
            if left:
                wrong.append(f"left behind: {left[:3]}")
        except Exception as error:
            wrong.append(f"after the rerun: {type(error).__name__}: {error}")
        if not wrong:
            shutil.rmtree(home)
            log.unlink()

    def at_call(self, n: int, what: str) -> dict[str, Any]:
        """Kill (`what` is "kill") or raise this error at call `n`."""
        return self.hit(f"{what}-{n}", lambda home: arm(n, what, home), kills=what == "kill")

    def file_limit(self, size: int) -> dict[str, Any]:
        """No file may grow beyond `size` bytes: a full disk as libraries in C++ see it."""
        return self.hit(f"limit-{size}", lambda home: _limit_files(size), kills=False)


def _at_backward(before: Callable[[int], None]) -> Callable[[], int]:
    """Call `before` ahead of every backward pass with its number; what is returned says how many there were."""
    import torch

    original, seen = torch.Tensor.backward, 0

    def backward(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        before(seen)
        seen += 1
        return original(*args, **kwargs)

    torch.Tensor.backward = backward  # type: ignore[method-assign]
    return lambda: seen


def _limit_files(size: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
