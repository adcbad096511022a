"""Hours of alerts on a simulated clock: floods, receivers that are away, clocks that jump, looks that are killed.

In a calm storm each fact must come exactly once. In a rough one (a look is killed, a bit of a journal flips, the
receiver hangs up after reading) a fact may come again with the same id, and never not at all.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from pathlib import Path
from typing import Any

from k4_pipeline.alerts.delivery import deliver, targets_of
from k4_pipeline.alerts.outbox import Outbox
from k4_pipeline_tests.alerts.receivers import receiver
from k4_pipeline_tests.alerts.test_outbox import fact
from k4_pipeline_tests.faults.at_every_call import arm
from k4_pipeline_tests.faults.forks import in_child

START, TICK_S, HOUR = 1_700_000_000.0, 15.0, 240  # an hour has so many looks
JUMPS = (30 * 86400.0, -2 * 86400.0, 3600.0, -3600.0, 365 * 86400.0)


def storm(folder: Path, seed: int, *, rough: bool, looks: int = 2 * HOUR) -> dict[str, Any]:
    """Two hours and what it takes to deliver the rest; counts of facts, messages and repetitions."""
    draw, happened, calls = random.Random(seed), [], 0
    away = draw.randrange(looks - HOUR + 1) if looks > HOUR else 0
    jumps = {draw.randrange(looks) for _ in range(3)}
    jumps |= {0} if draw.random() < 0.3 else set()
    blows = {"killed": 0, "flipped": 0, "hung up": 0}
    with receiver() as steady, receiver() as shaky:
        targets, _ = targets_of([steady.url, shaky.url])
        for step in range(looks + 3 * HOUR):
            now = START + TICK_S * step
            ending = step >= looks
            shaky.status = 503 if away <= step < away + HOUR and not ending else 200
            shaky.dies = rough and not ending and draw.random() < 0.02
            if not ending and draw.random() < 0.2:
                count = draw.choice([1, 1, 2, 5, 60])
                happened += [fact(len(happened) + i, now) for i in range(count)]
            if rough and not ending and draw.random() < 0.01:
                blows["flipped"] += _flip(folder, draw)
            clock = now + draw.choice(JUMPS) if step in jumps else now
            kill_at = draw.randrange(12) if rough and not ending and draw.random() < 0.1 else -1
            blows["hung up"] += shaky.dies
            if kill_at >= 0:
                killed = functools.partial(_killed, folder, happened, targets, clock, kill_at)
                blows["killed"] += in_child(killed) != 0
            else:
                _look(folder, happened, targets, clock)
            calls += 1
            if ending and not any(_waiting(folder, t.id) for t in targets):
                break
        wrong, out = [], {"facts": len(happened), "looks": calls, **blows}
        for name, hook in (("steady", steady), ("shaky", shaky)):
            told = Counter(hook.facts())
            lost = [f.id for f in happened if f.id not in told]
            again = sum(told.values()) - len(told)
            out |= {f"{name} messages": len(hook.messages), f"{name} again": again}
            if lost:
                wrong.append(f"{name}: {len(lost)} of {len(happened)} facts never came")
            if again and not rough:
                wrong.append(f"{name}: {again} facts came again")
        return {**out, "wrong": wrong}


def _look(folder: Path, happened: list[Any], targets: list[Any], now: float) -> None:
    with Outbox.open(folder) as outbox:
        assert outbox is not None
        outbox.mend()
        outbox.record(happened)
        deliver(outbox, targets, "http://ui", now)


def _killed(folder: Path, happened: list[Any], targets: list[Any], now: float, at: int) -> None:
    arm(at, "kill", folder)
    _look(folder, happened, targets, now)


def _waiting(folder: Path, target: str) -> bool:
    outbox = Outbox(folder)
    return target not in outbox.targets or bool(outbox.pending(target))


def _flip(folder: Path, draw: random.Random) -> int:
    path = folder / draw.choice(["facts.jsonl", "deliveries.jsonl"])
    data = bytearray(path.read_bytes()) if path.is_file() else bytearray()
    if not data:
        return 0
    bit = draw.randrange(len(data) * 8)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return 1
