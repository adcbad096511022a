"""Every fault at every point, on as many cores as there are: `make faults`, or this module as a program.

    python -m k4_pipeline_tests.faults.campaign --out FOLDER [--cores N] [--seconds S] [--part NAME ...] [--share I/N]

Results are written to FOLDER/faults.json as they come. Points are taken in an order of which every beginning lies
evenly over all of them, so a campaign that is cut short has looked everywhere. Exit status 1 when anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from k4_pipeline_tests.faults.forks import Task, results, spread
from k4_pipeline_tests.faults.real_run import NEW, OLD, TRAINING, Template, warm
from k4_pipeline_tests.faults.states import spread_over_kinds

PARTS = ("storms", "flips", "crowd", "states", "kill", "error", "training", "limit")
ERRORS = ("ENOSPC", "EIO", "EACCES")


class Record:
    """What was found, part by part, kept in one file that is replaced after every result."""

    def __init__(self, file: Path) -> None:
        self.file, self.began, self._written = file, time.monotonic(), 0.0
        self.parts: dict[str, dict[str, Any]] = {}

    def planned(self, part: str, points: int, of: int) -> None:
        """So many points, of so many that there are, are to be tried."""
        self.parts[part] = {"of": of, "planned": points, "done": 0, "counts": Counter(), "wrong": [], "each": {}}

    def add(self, name: str, result: dict[str, Any]) -> None:
        """The result of one task `part/...`."""
        part = self.parts[name.partition("/")[0]]
        part["done"] += 1
        for key, value in result.items():
            if isinstance(value, bool | int):
                part["counts"][key] += int(value)
            elif key in ("outcome", "state"):
                part["counts"][f"{key} {value}"] += 1
        part["wrong"] += [f"{name}: {text}" for text in result["wrong"]]
        part["each"][name] = {k: v for k, v in result.items() if k != "wrong"}
        self.write(at_once=bool(result["wrong"]))

    def write(self, *, at_once: bool = True) -> None:
        """Replace the file; at most once a second unless `at_once`."""
        if at_once or time.monotonic() - self._written > 1.0:
            half = self.file.with_suffix(".half")
            half.write_text(json.dumps({"seconds": round(time.monotonic() - self.began, 1), "parts": self.parts}))
            half.rename(self.file)
            self._written = time.monotonic()

    def in_words(self) -> Iterator[str]:
        """A line for each part, and one for each thing that was wrong."""
        for name, part in self.parts.items():
            counts = ", ".join(f"{n} {key}" for key, n in sorted(part["counts"].items()))
            planned = f"{part['done']} of {part['planned']} points planned, {part['of']} in all"
            yield f"{name}: {planned}; {len(part['wrong'])} wrong; {counts}"
            yield from part["wrong"]


TEMPLATES = {"run": ("states", "kill", "error", "limit", "flips"), "training": ("training",)}


def templates(parts: list[str], folder: Path) -> dict[str, Template]:
    """The homes that the parts need, made in this process, so that every child has everything compiled and loaded."""
    made = {}
    for name, users in TEMPLATES.items():
        if set(users) & set(parts):
            made[name] = Template.make(folder / name, *((OLD, NEW) if name == "run" else (None, TRAINING)))
    return {part: template for name, template in made.items() for part in TEMPLATES[name]}


def tasks_of(part: str, template: Template | None, folder: Path, share: tuple[int, int], done: set[str]) -> list[Task]:
    """The points of a part without those that are done, in spread order."""
    call, points = _points(part, template, folder)
    mine = spread(points)[share[0] :: share[1]]
    if part in ("states", "training"):  # told by the points of the run that they stand for
        assert template is not None
        mine = [n for n in mine if not done & {f"{part}/{point}" for point in template.states[n].points}]
    else:
        mine = [n for n in mine if f"{part}/{n}" not in done]
    return [(f"{part}/{n}", lambda n=n: call(n)) for n in mine]


def _points(
    part: str, template: Template | None, root: Path
) -> tuple[Callable[[int], dict[str, Any]], range | list[int]]:
    """What is done at a point, and all points."""
    if part == "storms":
        from k4_pipeline_tests.faults.storms import storm

        return lambda n: storm(root / f"storm-{n}", n, rough=bool(n % 2)), range(60)
    if part == "crowd":
        from k4_pipeline_tests.faults.crowds import CROWDS, crowd

        return lambda n: crowd(root / f"crowd-{n}", list(CROWDS)[n % len(CROWDS)]), range(6)
    assert template is not None
    if part == "states":
        return template.from_state, range(len(template.states))
    if part == "training":
        return template.from_state, template.states_of_training()
    if part == "kill":
        return lambda n: template.at_call(n, "kill"), spread_over_kinds(template.calls)
    if part == "error":
        calls = spread_over_kinds(template.calls)
        return lambda n: template.at_call(n, ERRORS[calls.index(n) % len(ERRORS)]), calls
    sizes = {p.stat().st_size - 1 for p in (template.root / "new").rglob("*") if p.is_file()}
    return template.file_limit, sorted(size for size in sizes if size > 1000)


def _flips(made: Path, count: int) -> list[Task]:
    from k4_pipeline_tests.faults.flips import flip, readers_of, state_for_flips

    home = made / "flips"
    shutil.copytree(made / "new", home)
    state_for_flips(home)

    def one(kind: str) -> dict[str, Any]:
        # A copy of its own: tasks run side by side, and each damages its file.
        own = Path(tempfile.mkdtemp(dir=home.parent))
        shutil.copytree(home, own / "home")
        path, read = readers_of(own / "home")[kind]
        found = flip(path, read, kind, count)
        shutil.rmtree(own)
        return found

    return [(f"flips/{kind}", lambda kind=kind: one(kind)) for kind in readers_of(home)]


def run(
    parts: list[str], out: Path, *, cores: int, seconds: float, most: int, share: tuple[int, int], done: set[str]
) -> Record:
    """The whole campaign; homes lie in a temporary folder, of which those stay where something was wrong."""
    warm()
    out.mkdir(parents=True, exist_ok=True)
    record, deadline = Record(out / "faults.json"), time.monotonic() + seconds
    folder = Path(tempfile.mkdtemp(prefix="k4-faults-"))
    made, queue = templates(parts, folder), []
    for part in parts:
        if part == "flips":
            points = tasks = _flips(made[part].root, most or 1000)
        else:
            points = tasks_of(part, made.get(part), folder, (0, 1), set())
            tasks = tasks_of(part, made.get(part), folder, share, done)[: most or None]
        record.planned(part, len(tasks), len(points))
        queue += [(place / len(tasks), task) for place, task in enumerate(tasks)]
    # All parts side by side: when time runs out, each has come equally far.
    ordered = [task for _, task in sorted(queue, key=lambda item: item[0])]
    for name, result in results(ordered, folder / "results", cores, deadline - time.monotonic()):
        record.add(name, result)
    record.write()
    shutil.rmtree(folder, ignore_errors=True)
    return record


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=1e6, help="begin no further point after this")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--most", type=int, default=0, help="points of each part, and flips of each file; 0: all")
    parser.add_argument("--after", type=Path, action="append", default=[], help="faults.json: leave out what it has")
    parser.add_argument("--share", default="0/1", help="I/N: every N-th point, beginning with the I-th")
    given = parser.parse_args()
    index, of = map(int, given.share.split("/"))
    parts = given.part or list(PARTS)
    earlier = [json.loads(file.read_text())["parts"] for file in given.after]
    done = set()
    for found in earlier:
        for name, part in found.items():
            numbered = name not in ("states", "training")
            done |= {n for n in part["each"] if numbered}
            done |= {f"{name}/{point}" for each in part["each"].values() for point in each.get("at", [])}
    limits = {"cores": given.cores, "seconds": given.seconds, "most": given.most}
    record = run(parts, given.out, **limits, share=(index, of), done=done)
    text = "\n".join(record.in_words())
    (given.out / "faults.txt").write_text(text + "\n")
    sys.stdout.write(text + "\n")
    raise SystemExit(any(part["wrong"] for part in record.parts.values()))


if __name__ == "__main__":
    main()
