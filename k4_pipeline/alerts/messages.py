"""What went wrong, as one message each: a failed asset check or a failed run. Knows nothing of Dagster."""

from __future__ import annotations

from dataclasses import dataclass

BODY_LIMIT = 1500


@dataclass(frozen=True)
class Alert:
    """One thing to tell. `key` is the same whenever the same event is seen again."""

    run_id: str
    key: str
    title: str
    body: str


def _clip(text: str) -> str:
    return text if len(text) <= BODY_LIMIT else text[: BODY_LIMIT - 1] + "…"


def check_alert(
    *,
    run_id: str,
    event: str,
    job: str,
    asset: str,
    check: str,
    partition: str | None,
    blocking: bool,
    severity: str,
    description: str,
) -> Alert:
    """A check that did not hold. `event` tells evaluations of one check within one run apart."""
    where = f"{asset}, as_of {partition}" if partition else asset
    effect = (
        "It is blocking: the new version is not published and its run stopped there."
        if blocking
        else "It is not blocking: the new version is published."
    )
    lines = [f"{check.replace('_', ' ')}: does not hold.", description, effect, f"Job {job}, run {run_id}."]
    return Alert(
        run_id=run_id,
        key="|".join((run_id, "check", asset, check, partition or "", event)),
        title=f"K4: check failed ({severity.lower()}): {check} on {where}",
        body=_clip("\n".join(line for line in lines if line)),
    )


def run_alert(*, run_id: str, job: str, partition: str | None, steps: list[str], error: str) -> Alert:
    """A run that failed for another reason than a check that has its own message."""
    where = f"{job}, as_of {partition}" if partition else job
    lines = [f"Failed steps: {', '.join(steps)}." if steps else "No step failed; the run itself did.", error]
    return Alert(
        run_id=run_id,
        key="|".join((run_id, "run")),
        title=f"K4: run failed: {where}",
        body=_clip("\n".join([*[line for line in lines if line], f"Run {run_id}."])),
    )
