"""One night in this process: the bodies and checks of the nightly assets, without the engine, told to Dagster after.

The engine takes seconds to start a step; a night on a small universe takes less. What is run, stored, checked and
promoted is what the job `nightly` runs: the same functions in the same order. The materializations and check
evaluations stand on the pages of the assets as if a run had made them.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import dagster as dg

from k4_pipeline.alerts.facts import Fact, check_fact, run_fact
from k4_pipeline.defs.assets import ASSETS
from k4_pipeline.defs.checks.factory import evaluate, to_result
from k4_pipeline.defs.graph import NIGHTLY_ASSETS
from k4_pipeline.defs.instance import open_instance
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.run import CheckOutcome, RunOutcome
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.market.newer import FullRunNeededError
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore

SAMPLE_CHECK = "a_sample_equals_its_whole_history_read_again"
BODIES: dict[str, Callable[..., Any]] = {
    asset.key.to_user_string(): asset.op.compute_fn.decorated_fn  # type: ignore[union-attr]
    for asset in ASSETS
    if asset.key.to_user_string() in NIGHTLY_ASSETS
}


@dataclass
class Played:
    """What became of a night. `full_needed`: why it could not be added to what is there; no signal was given then."""

    outcome: RunOutcome = field(default_factory=lambda: RunOutcome(True))
    seconds: dict[str, float] = field(default_factory=dict)
    full_needed: str = ""
    skipped: str = ""
    events: list[Any] = field(default_factory=list)


def play_night(settings: Settings, say: Callable[[str], None] = lambda text: None) -> Played:
    """New bars to signals and ledger; stops before anything unchecked is read by the next step."""
    played, k4 = Played(), K4Resource.frozen(settings)
    context = _context(say)
    for asset in NIGHTLY_ASSETS:
        if asset == "signals" and (why := said_already(k4.store())):
            played.skipped = why
            break
        began = time.monotonic()
        try:
            made = BODIES[asset](context, k4)
        except dg.Failure as failure:
            cause = failure.__cause__
            if isinstance(cause, FullRunNeededError):
                played.full_needed = str(cause)
            elif asset == "night_bars" and isinstance(cause, StaleArtifactError):
                played.full_needed = f"the bars of the last full run cannot be added to ({cause})"
            else:
                played.outcome.step_errors.append(f"{asset}: {failure.description}")
            played.outcome.success = False
            break
        finally:
            played.seconds[asset] = round(time.monotonic() - began, 2)
        played.events.append(dg.AssetMaterialization(asset, metadata=made.metadata))
        began = time.monotonic()
        _check(asset, k4, played)
        if any(c.check == SAMPLE_CHECK and not c.passed for c in played.outcome.checks):
            played.full_needed = "the source has restated what lies further back than new bars show"
        played.seconds[f"{asset}_checks"] = round(time.monotonic() - began, 2)
        if not played.outcome.success:
            break
    return played


def _check(asset: str, k4: K4Resource, played: Played) -> None:
    for proposition, verdict in evaluate(asset, None, k4):
        result = to_result(asset, proposition, verdict)
        blocking = proposition.blocking and result.severity == dg.AssetCheckSeverity.ERROR
        text = result.description or ""
        played.outcome.checks.append(CheckOutcome(asset, proposition.name, verdict.holds, blocking, text))
        if blocking and not verdict.holds:
            played.outcome.success = False
        played.events.append(
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset),
                check_name=proposition.name,
                passed=verdict.holds,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
                blocking=proposition.blocking,
            )
        )


def said_already(store: ArtifactStore) -> str:
    """Why signals need not be made again: they are of these bars and this champion; "" when they are not."""
    from k4_pipeline.pipeline.stored_bars import night_bars_of

    try:
        made, daily, champion = (store.current(name) for name in ("signals", "daily_bars", "champion_model"))
        store.verify_chain([made])
    except StaleArtifactError:
        return ""
    added = night_bars_of(store, daily)
    inputs = {"daily_bars": daily.fingerprint, "champion_model": champion.fingerprint}
    inputs |= {} if added is None else {added.key: added.fingerprint}
    if made.inputs != inputs:
        return ""
    return f"no bar after {made.meta['night']} is in the source, and its signals are there"


def tell_dagster(settings: Settings, played: Played, *, full_follows: bool) -> None:
    """Put what a night made on the pages of its assets, and what went wrong before the alerts.

    A full run that follows tells of itself. Warns when the facts could not be kept for the alerts.
    """
    from k4_pipeline.defs.alert_look import keep

    if not full_follows and not keep(settings, night_facts(played, time.time())):
        warnings.warn("another process holds the alerts: nobody is told of this night by them", stacklevel=2)
    with open_instance(settings) as instance:
        for event in played.events:
            instance.report_runless_asset_event(event)


def night_facts(played: Played, at: float) -> list[Fact]:
    """What alerts tell of a night, as of a run of Dagster: its checks, and its errors (`at`: seconds since 1970)."""
    checks, run_id = played.outcome.checks, f"night {at:.0f}"
    unpublished = {c.asset for c in checks if c.blocking and not c.passed}
    facts = [
        check_fact(
            asset=c.asset,
            check=c.check,
            partition=None,
            passed=c.passed,
            blocks=c.blocking and not c.passed,
            published=c.asset not in unpublished,
            cause=c.description,
            run_id=run_id,
            at=at,
        )
        for c in checks
    ]
    own = played.outcome.step_errors
    if own or played.outcome.success:
        kind = "run_failed" if own else "recovered"
        told = run_fact(
            kind, run_id=run_id, job="nightly", partition=None, at=at, cause="; ".join(own) or "it succeeded"
        )
        step = "Mend the cause, then start `k4 nightly` again." if own else ""
        facts.append(replace(told, run_id="", path="/assets/night_bars", next_step=step))
    return facts


def _context(say: Callable[[str], None]) -> Any:
    """What bodies ask of Dagster's context."""
    return SimpleNamespace(
        partition_key=None,
        log=SimpleNamespace(info=say),
        run=SimpleNamespace(run_id="k4 nightly"),
        instance=SimpleNamespace(get_run_by_id=lambda run_id: None),
    )
