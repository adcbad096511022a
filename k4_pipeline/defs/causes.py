"""Why a run or a step failed: the innermost cause, in one line, from what Dagster recorded."""

from __future__ import annotations

import dagster as dg


def innermost(error: object) -> str:
    """The message at the end of a chain of causes; empty without an error."""
    while error is not None and getattr(error, "cause", None) is not None:
        error = error.cause  # type: ignore[attr-defined]
    return " ".join(str(getattr(error, "message", "")).split())


def step_cause(event: dg.DagsterEvent) -> str:
    """Of a STEP_FAILURE: what the code said on purpose, else the innermost error."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    return innermost(data.error) or "failed without a message"
