"""A year by the ticks of the product's own schedules, on a fast clock: `k4 nightly` after every session, with its full
run once a week, and a model every quarter and whenever a night asks for one.

`python -m k4_pipeline_tests.simulated_year --seed 3 --out FILE.json`: nine minutes on one core. `--until DAY` ends it
sooner. Exit status 1 where a night is missing or given twice, a command fails, nights do not add up to a full run, or a
matured row is not what the bars say afterwards.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import heapq
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

import dagster as dg
import pandas as pd
from dagster._utils.schedules import schedule_execution_time_iterator
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.defs import retraining
from k4_pipeline.defs.build import build_defs
from k4_pipeline.defs.graph import RETRAIN_ASSETS
from k4_pipeline.defs.instance import create_home
from k4_pipeline.defs.partitions import newest_labelled_as_of
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.run import run_graph
from k4_pipeline.defs.schedules import SCHEDULES
from k4_pipeline.evaluation.ledger import open_ledger
from k4_pipeline.settings import Settings, save_settings
from k4_pipeline_tests import simulated_nights as nights

TICKING = [schedule for schedule in SCHEDULES if schedule.name != "weekly_full_run"]  # `k4 nightly` has its own
_from_iso = dt.datetime.fromisoformat
SATURDAY, DONE, REFUTED = 5, 0, 3  # exit statuses of `k4 nightly` that are no failure


def ticks(first: pd.Timestamp, last: pd.Timestamp) -> Iterator[tuple[dt.datetime, str]]:
    """(moment, schedule) of every tick after the session of `first` until the night after that of `last`."""
    zone = ZoneInfo(SCHEDULES[0].execution_timezone)
    begin = dt.datetime.combine(first.date() + dt.timedelta(days=1), dt.time(), zone)
    end = dt.datetime.combine(last.date() + dt.timedelta(days=1), dt.time(1), zone)

    def of(schedule: dg.ScheduleDefinition) -> Iterator[tuple[dt.datetime, str]]:
        every = schedule_execution_time_iterator(begin.timestamp(), schedule.cron_schedule, schedule.execution_timezone)
        for moment in every:
            if moment > end:
                return
            yield moment, schedule.name

    yield from heapq.merge(*(of(schedule) for schedule in TICKING))


class Year:
    """One home, one market, and a clock that the tests of bars and the sensor read."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.bars = nights.market(seed, nights.LONG)
        self.sessions = sorted(self.bars["date"].unique())[-nights.NIGHTS :]
        self.file, self.folder = folder / "bars.parquet", folder
        config = nights.settings_of(self.file)
        config = dataclasses.replace(
            config,
            recipe=dataclasses.replace(config.recipe, members=("no_sequence", "logit")),
            split=dataclasses.replace(config.split, test_months=3),
        )
        self.settings = Settings(folder / "home", config)
        self.clock = SimpleNamespace(
            datetime=SimpleNamespace(now=lambda zone: self.now.astimezone(zone), fromisoformat=_from_iso),
            **{name: getattr(dt, name) for name in ("date", "timedelta", "UTC")},
        )
        save_settings(self.settings)
        create_home(self.settings)
        self.home = nights.Home(self.settings, self.file, self.sessions)
        self.resource = K4Resource.frozen(self.settings)
        self.repository = build_defs({"k4": self.resource}).get_repository_def()
        self.cursor: str | None = None
        self.counts: Counter[str] = Counter()
        self.nights: list[str] = []  # as `k4 nightly` named them
        self.found: dict[str, Any] = {"seed": seed, "retrained": [], "differences": [], "failed": [], "refuted": []}

    def at(self, moment: dt.datetime) -> None:
        """Set the clock; the source holds what had closed the day before."""
        self.now = moment
        nights.write_until(self.bars, pd.Timestamp(moment.date() - dt.timedelta(days=1)), self.file)

    def train(self, as_of: str, why: str) -> None:
        """What the job `retrain` does."""
        done = run_graph(self.settings, RETRAIN_ASSETS, as_of=as_of, log=self.folder / "retrain.log")
        self.counts["models trained"] += done.success
        self.found["failed"] += [f"{self.now:%F} retraining of {as_of}: {e}" for e in done.errors]
        champion = self.home.json("champion_model", "decision.json") if done.success else {}
        tiers = self.home.json("champion_model", "certificate.json")["tiers"] if done.success else []
        self.found["retrained"].append(
            {
                "at": f"{self.now:%F}",
                "as_of": as_of,
                "why": why,
                "moved": champion.get("moved"),
                "decision": champion.get("why"),
                "certified": [t["tier"] for t in tiers if t["certified"]],
                "checks_failed": [c.check for c in done.checks if not c.passed],
            }
        )

    def nightly(self) -> None:
        """`k4 nightly --json` as cron calls it."""
        unset = {name: None for name in os.environ if name.startswith("K4_") and name != "K4_THREADS"}
        done = CliRunner().invoke(app, ["nightly", "--json"], env={**unset, "K4_HOME": str(self.settings.home)})
        self.counts[f"night with status {done.exit_code}"] += 1
        if done.exit_code not in (DONE, REFUTED):
            self.found["failed"].append(f"{self.now:%F}: {done.output[-1500:]}")
            return
        said = json.loads(done.stdout)
        self.counts.update(f"did not pass: {check}" for check in said["failed_checks"])
        self.counts["full runs"] += said["full"] is not None
        if said["full"]:
            self.found["differences"] += [f"{self.now:%F} {d}" for d in said["full"]["differences"]]
        self.nights.append(said["night"])
        if said["skipped"]:
            self.found["failed"].append(f"{self.now:%F} skipped: {said['skipped']}")
        self.found["refuted"] += [
            f"{said['night']} {t['tier']}" for t in said["monitor"]["tiers"] if t["claim_holds"] is False
        ]

    def look(self) -> None:
        """The sensor's look at what the night found."""
        context = dg.build_sensor_context(
            cursor=self.cursor, repository_def=self.repository, resources={"k4": self.resource}
        )
        tick = self.repository.get_sensor_def("retrain_when_needed").evaluate_tick(context)
        self.cursor = tick.cursor
        for request in tick.run_requests or []:
            self.train(request.partition_key, request.tags["k4/why"])
        if not tick.run_requests:
            self.counts[f"sensor: {tick.skip_message.split(':')[0].split(',')[0]}"] += 1

    def tick(self, moment: dt.datetime, name: str) -> None:
        """One tick of a schedule and what it asks for."""
        self.at(moment)
        context = dg.build_schedule_context(
            scheduled_execution_time=moment, resources={"k4": self.resource}, repository_def=self.repository
        )
        made = self.repository.get_schedule_def(name).evaluate_tick(context)
        self.counts[f"{name} at {moment.astimezone(dt.UTC):%H:%M} UTC"] += 1
        if not made.run_requests:
            self.counts[f"{name} skipped"] += 1
            self.found.setdefault("skipped", []).append(made.skip_message)
        for request in made.run_requests or []:
            if request.partition_key:
                self.train(request.partition_key, "the quarter")
            else:
                self.nightly()
                self.look()

    def judged(self, last: pd.Timestamp) -> dict[str, Any]:
        """What is known after the sessions until `last`."""
        played = [day for day in self.sessions if day <= last]
        ledger = open_ledger(self.settings.home).read()
        return {
            **self.found,
            "sessions": len(played),
            "not_once": sorted({f"{d.date()}" for d in played[1:]} ^ set(self.nights))
            + sorted(night for night, n in Counter(self.nights).items() if n > 1),
            "models_in_the_ledger": int(ledger["model"].nunique()),
            "ledger": nights.what_the_ledger_holds(self.home, self.bars, played),
            "counts": dict(sorted(self.counts.items())),
        }


def wrong(found: dict[str, Any]) -> list[str]:
    """What must not have happened."""
    out = [*found["failed"], *found["differences"], *(f"night {n} not once" for n in found["not_once"])]
    for name in ("twice", "no_session", "matured_otherwise_than_the_bars", "over_and_not_matured"):
        if found["ledger"][name]:
            out.append(f"ledger, {name}: {found['ledger'][name]}")
    return out


def play(seed: int, until: pd.Timestamp | None, out: Path) -> dict[str, Any]:
    """The year; what is known is written once a week."""
    nights.without_waiting_for_the_disk()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        year = Year(Path(name), seed)
        first, last = year.sessions[0], until or year.sessions[-1]
        with (
            mock.patch("os.cpu_count", return_value=1),  # no second process for every night
            mock.patch.object(retraining, "dt", year.clock),
            mock.patch.object(sys.modules["k4_pipeline.defs.assets.night_bars"], "dt", year.clock),
            mock.patch.object(sys.modules["k4_pipeline.defs.assets.daily_bars"], "dt", year.clock),
        ):
            year.at(
                dt.datetime.combine(first.date() + dt.timedelta(days=1), dt.time(0, 30), ZoneInfo("America/New_York"))
            )
            config = year.settings.config
            year.train(
                newest_labelled_as_of(first.date(), config.split.test_months, config.labels.horizon_bars), "the first"
            )
            done = first
            if year.found["failed"]:
                raise RuntimeError(year.found["failed"][0])
            for moment, schedule in ticks(first + pd.Timedelta(days=1), last):
                year.tick(moment, schedule)
                done = pd.Timestamp(moment.date() - dt.timedelta(days=1))
                if moment.weekday() == SATURDAY:
                    _write(out, year.judged(done), began)
        found = year.judged(done)
    return _write(out, found, began)


def _write(out: Path, found: dict[str, Any], began: float) -> dict[str, Any]:
    found = {**found, "wrong": wrong(found), "seconds": round(time.monotonic() - began)}
    out.write_text(json.dumps(found, indent=1))
    return found


def main() -> int:
    """Play and say what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--until", type=pd.Timestamp)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    found = play(asked.seed, asked.until, asked.out)
    print(json.dumps(found, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
