"""The audit: a list of checks run on one path (pipeline/stages.py) or on stored artifacts, each giving a `Verdict`.

Checks register themselves with `@check`; each is general (it knows the rule, not a particular mistake) and carries its
own self-test: ways to corrupt a context after which it must fail. What is not in the registry cannot pass, what raises
has failed, what finds no case has failed.
"""

from __future__ import annotations

import datetime as dt
import functools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from k4_pipeline.config import FILE_SOURCES, PipelineConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.engine.fingerprints import record
from k4_pipeline.leakage.oracles.reader import why_not_plain
from k4_pipeline.market.bars import Bars, DayLike, to_dates, to_day, to_days
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import Fitted, PipelineRun
from k4_pipeline.progress import Progress
from k4_pipeline.verdict import Verdict, guarded

T = TypeVar("T")
KEPT_BARS = 60_000


@dataclass(frozen=True)
class AuditSample:
    """How much is looked at; None means everything. The sizes stand in the detail of every verdict."""

    tickers: int | None = None  # tickers whose every cell and every snapshot is replayed
    cell_cuts: int | None = None  # bars of each of them that are made the last one
    snapshot_cuts: int | None = None  # snapshots of each of them whose bar is made the last one
    cut_dates: int = 6  # dates at which the whole universe is cut and rebuilt
    corrupted_dates: int = 2  # dates after which the bars are corrupted, each in several ways
    label_rows: int | None = None  # labels raced again by the oracle
    input_rows: int | None = 150  # model inputs recomputed by the oracle
    tensor_rows: int = 4000  # sequences, the latest, whose tensors are compared at each cut of the universe
    refit: bool = True  # the fit is made again in the world of the as-of date
    seed: int = 0

    @classmethod
    def named(cls, name: str) -> AuditSample:
        """`small` (exhaustive, for universes of some 30 tickers), `normal` or `thorough` (for stored artifacts)."""
        sizes = {
            "small": cls(),
            "normal": cls(tickers=24, cell_cuts=400, cut_dates=2, corrupted_dates=1, label_rows=20_000),
            "thorough": cls(tickers=100, cell_cuts=2000, input_rows=2000),
        }
        if name not in sizes:
            raise ConfigError(f"audit sample {name!r} is unknown; use one of {', '.join(sizes)}")
        return sizes[name]


@dataclass
class AuditContext:
    """What a check may look at: a run of the path (or stored artifacts in that form) and how much to sample."""

    full: PipelineRun
    sample: AuditSample = field(default_factory=AuditSample)
    today: dt.date | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # provenance records, the artifact store

    @property
    def config(self) -> PipelineConfig:
        return self.full.config

    @property
    def source_path(self) -> Path:
        """The source file, or a copy of it without the sessions that nights added since."""
        return Path(self.extra.get("source path") or self.config.source.path)

    @property
    def as_of_day(self) -> int:
        """The as-of date in days since 1970-01-01."""
        return to_day(str(self.full.as_of))

    def rng(self, salt: int) -> np.random.Generator:
        """Random choices of one check: the same for the same sample seed."""
        return np.random.default_rng([self.sample.seed, salt])

    @cached_property
    def sessions(self) -> np.ndarray:
        """Every date on which the universe has a bar, ascending, int32."""
        return np.unique(self.full.bars.date)

    def cut_days(self, count: int, salt: int) -> np.ndarray:
        """`count` sessions at which something could be wrong: spread over the span that holds snapshots and label ends.

        Always the last session before the as-of date; never the very last session, after which there is no future.
        """
        first = int(to_days(self.full.snapshots["snapshot_date"]).min())
        inner = self.sessions[(self.sessions >= first) & (self.sessions < self.sessions[-1])]
        chosen: set[int] = set()
        if self.full.as_of is not None and (inner < self.as_of_day).any():
            chosen.add(int(inner[inner < self.as_of_day][-1]))
        parts = np.array_split(inner, max(1, count - len(chosen)))
        rng = self.rng(salt)
        for part in parts:
            if len(part) and len(chosen) < count:
                chosen.add(int(rng.choice(part)))
        return np.array(sorted(chosen), dtype=np.int64)

    def sample_tickers(self, salt: int) -> list[str]:
        """The tickers whose every cell is replayed: all, or a random choice, with one that reaches the last day."""
        names = [str(t) for t in self.full.bars.tickers]
        count = self.sample.tickers
        if count is None or count >= len(names):
            return names
        with_rows = sorted(set(self.full.snapshots["ticker"].astype(object)))
        rng = self.rng(salt)
        chosen = list(rng.choice(with_rows, min(len(with_rows), count), replace=False))
        # The last day of the universe is the day of knowledge: without a ticker that reaches it, labels that are known
        # by then would count as unknown when the sample is run alone.
        last_days = self.full.bars.date[self.full.bars.offsets[1:] - 1]
        witness = names[int(np.flatnonzero(last_days == self.full.bars.last_day)[0])]
        return sorted({*(str(t) for t in chosen), witness})

    def once(self, what: tuple[Any, ...], make: Callable[[], T], *of: Any, for_self_tests: bool = False) -> T:
        """What `make()` gives, made once for the same `what` of the same objects `of`.

        Self-tests change what is compared; what it is compared with need not be made again. `for_self_tests`: nothing
        else asks twice, so that it is not kept where the bars are many.
        """
        memory = self.extra.setdefault("once", {})
        key = (what, *map(id, of))
        if key in memory:
            return memory[key][0]
        made = make()
        if not for_self_tests or len(self.full.bars) <= KEPT_BARS:
            memory[key] = (made, of)  # held, so that their ids stay theirs
        return made

    def with_full(self, **changes: Any) -> AuditContext:
        """A copy whose path differs in some fields; caches are dropped. For self-tests."""
        return replace(self, full=replace(self.full, _cache={}, **changes))


CheckFunction = Callable[[AuditContext], Verdict]
Corruption = Callable[[AuditContext], AuditContext]


@dataclass(frozen=True)
class Check:
    """One check of the audit: `needs` names what the context must hold, each of `corruptions` must make it fail."""

    name: str
    function: CheckFunction
    stage: str
    proves: str
    misses: str
    needs: frozenset[str] = frozenset()
    corruptions: tuple[Corruption, ...] = ()
    reads_files: bool = False  # while it is asked; the others are asked in a process that can open none
    together: str = ""  # checks of the same word look at the same worlds or fits, and are asked in one process

    def __call__(self, context: AuditContext) -> Verdict:
        return self.function(context)


CHECKS: dict[str, Check] = {}


def check(
    stage: str,
    *,
    proves: str,
    misses: str,
    needs: Iterable[str] = (),
    corruptions: Iterable[Corruption] = (),
    reads_files: bool = False,
    together: str = "",
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check under its function's name."""

    def register(function: CheckFunction) -> CheckFunction:
        name = function.__name__

        @functools.wraps(function)
        def named(context: AuditContext) -> Verdict:
            return replace(function(context), name=name)

        CHECKS[name] = Check(
            name, named, stage, proves, misses, frozenset(needs), tuple(corruptions), reads_files, together
        )
        return named

    return register


def verdict_of(out: Comparison, **detail: Any) -> Verdict:
    """The verdict of a comparison; the decorator `check` names it after the function."""
    return Verdict.of("", out.cases, out.findings, differing=out.differing, **detail)


def load_checks() -> dict[str, Check]:
    """The registry with every module of checks imported."""
    from k4_pipeline.leakage.engine import check_modules

    check_modules.import_all()
    return CHECKS


@dataclass
class AuditReport:
    """Verdicts in order, seconds per check, and what could not be asked of this context (with the reason)."""

    verdicts: list[Verdict]
    seconds: dict[str, float]
    not_applicable: dict[str, str] = field(default_factory=dict)  # there is nothing to prove, for a reason that holds
    not_proved: dict[str, str] = field(default_factory=dict)  # there is, and it was not asked
    error: str = ""  # the path itself could not be run

    @property
    def passed(self) -> bool:
        """Every check held; without a check there is no proof."""
        return self.status == "passed"

    @property
    def status(self) -> str:
        """`failed`: a check fired, or there was none; `not proved`: none fired, but some were not asked; `passed`."""
        if self.error or not all(v.holds for v in self.verdicts) or not (self.verdicts or self.not_proved):
            return "failed"
        return "not proved" if self.not_proved else "passed"

    @property
    def failed(self) -> list[str]:
        """Names of the checks that fired."""
        return [v.name for v in self.verdicts if not v.holds]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "passed": self.passed,
            "status": self.status,
            "error": self.error,
            "verdicts": [v.to_dict() for v in self.verdicts],
            "seconds": {k: round(s, 3) for k, s in self.seconds.items()},
            "not_applicable": self.not_applicable,
            "not_proved": self.not_proved,
        }

    def leave_out(self, context: AuditContext, name: str, missing: Iterable[str]) -> None:
        """File a check whose needs are not met: not applicable when every reason was checked, else not proved."""
        reasons = dict(context.extra.get("inapplicable", {}))
        known = context.extra.get("unproved", {})
        text = f"needs {', '.join(sorted(missing))}"
        if all(need in reasons for need in missing):
            self.not_applicable[name] = f"{text} ({'; '.join(reasons[need] for need in sorted(missing))})"
            return
        why = [known[need] for need in sorted(missing) if known.get(need)]
        self.not_proved[name] = f"{text} ({'; '.join(why)})" if why else text


def what_is_there(context: AuditContext) -> set[str]:
    """Which `needs` the context meets."""
    full = context.full
    have = {
        "raw": full.raw is not None,
        "split": full.split is not None,
        "fitted": full.fitted is not None,
        "predictions": full.predictions is not None,
        "metrics": full.metrics is not None,
        "provenance": "provenance" in context.extra,
        "stored": "refs" in context.extra,
        "source file": full.raw is not None
        and context.config.source.source in FILE_SOURCES
        and not why_not_plain(str(context.source_path)),
        "snapshot file": bool(context.config.source.snapshots_path)
        and Path(context.config.source.snapshots_path).is_file()
        and not context.extra.get("unproved", {}).get("snapshot file"),
        "signals": context.extra.get("has", {}).get("signals", False),
        "drift": context.extra.get("has", {}).get("drift", False),
        "todays list": context.extra.get("has", {}).get("todays_list", False),
        "champion": context.extra.get("has", {}).get("champion_model", False),
        "walk forward": context.extra.get("has", {}).get("walk_forward_report", False),
        "ledger": context.extra.get("has", {}).get("ledger", False),
        "facts": bool(context.extra.get("facts")),
        "exports": context.extra.get("export") is not None,
        "scanned": full.given is None,
        "raced": not context.extra.get("labels_of_file"),
        "refit": context.sample.refit,
    }
    return {name for name, there in have.items() if there}


STORED_NEEDS = (
    "stored",
    "facts",
    "exports",
    "source file",
    "snapshot file",
    "signals",
    "todays list",
    "drift",
    "champion",
    "walk forward",
    "ledger",
)  # what only an audit of stored artifacts has


def run_checks(
    context: AuditContext,
    names: Iterable[str] | None = None,
    *,
    stop_at_failure: bool = False,
    progress: Progress | None = None,
) -> AuditReport:
    """Run checks (all by default) on a context, in this process."""
    registry = load_checks()
    wanted = list(registry) if names is None else list(names)
    unknown = [n for n in wanted if n not in registry]
    if unknown:
        raise ConfigError(f"no such check: {', '.join(unknown)}; there are {', '.join(registry)}")
    there = what_is_there(context)
    report = AuditReport([], {})
    for done, name in enumerate(wanted):
        item = registry[name]
        missing = item.needs - there
        if missing:
            report.leave_out(context, name, missing)
            continue
        begin = time.perf_counter()
        report.verdicts.append(guarded(name, lambda item=item: item(context)))  # type: ignore[misc]
        report.seconds[name] = time.perf_counter() - begin
        if progress is not None:
            progress(done + 1, len(wanted))
        if stop_at_failure and not report.verdicts[-1].holds:
            break
    return report


def make_context(
    raw: RawBars | Bars,
    config: PipelineConfig,
    as_of: DayLike | None,
    *,
    sample: AuditSample | None = None,
    model: Fitted | str | None = "train",
    today: dt.date | None = None,
) -> AuditContext:
    """Run the path and wrap it for the checks, with its provenance record."""
    full = production.run_path(raw, config, as_of, model=model, today=today)
    extra = {"provenance": record(full), "inapplicable": dict.fromkeys(STORED_NEEDS, "nothing is stored")}
    return AuditContext(full, sample or AuditSample(), today, extra)


def day_text(day: int) -> str:
    """`YYYY-MM-DD` of a day number."""
    return str(pd.Timestamp(to_dates(np.array([day]))[0]).date())
