"""What every check returns: a sentence, whether it held, how many cases were looked at, and what was found.

A check that looked at nothing has proved nothing: `Verdict.of` with zero cases fails. A check that raised is turned
into a failure by `guarded`, because an exception leaves no record behind.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

MAX_FINDINGS = 20


@dataclass(frozen=True)
class Verdict:
    """Outcome of one check. `findings` are sentences that name table, key, date and value."""

    name: str
    passed: bool
    cases: int
    findings: tuple[str, ...] = ()
    detail: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, cases: int, findings: Sequence[str], **detail: Any) -> Verdict:
        """Passed when at least one case was looked at and nothing was found."""
        found = list(findings)
        if cases <= 0:
            found.insert(0, "no evidence: there was no case to look at, so nothing is proved")
        total = len(found)
        if total > MAX_FINDINGS:
            found = [*found[:MAX_FINDINGS], f"... and {total - MAX_FINDINGS} more"]
        return cls(name, total == 0, int(cases), tuple(found), {**detail, "n_findings": total})

    @property
    def holds(self) -> bool:
        """Passed, on evidence, with nothing found: what reports count, so that `passed` alone convinces nobody."""
        return self.passed and self.cases > 0 and not self.findings

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; who reads `passed` there reads whether it holds."""
        return {**asdict(self), "passed": self.holds}


def guarded(name: str, check: Callable[[], Verdict]) -> Verdict:
    """Run `check`; an exception becomes a failed verdict that carries the error."""
    try:
        return check()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.name}:{last.lineno}"
        return Verdict(
            name, False, 0, (f"the check could not be evaluated: {type(error).__name__}: {error} ({where})",)
        )
