"""`k4 nightly`: new bars to today's signals with the champion that serves, safe to run from cron."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import (
    DebugOption,
    HomeOption,
    JsonOption,
    err_console,
    explained,
    out_console,
    print_json,
    settings_for,
)

FAILED, CERTIFICATE_BROKEN, CHAMPION_TOO_OLD = 1, 3, 4
FULL_AFTER_DAYS = 7


@explained
def nightly(
    full: Annotated[
        bool | None,
        typer.Option(
            "--full/--no-full",
            help=f"Make everything again from the whole source. Default: once in {FULL_AFTER_DAYS} days of bars, and "
            "when new bars alone do not suffice.",
        ),
    ] = None,
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, only the result."),
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Add the new bars, score every open pattern with the champion, append to the ledger, look at what matured.

    Works with the settings of the last `k4 run` of this home. Trains nothing. Exit status: 0 done, or nothing to do
    (`skipped` says why); 1 something failed or a blocking check did not hold (nothing unchecked was published); 3 done,
    but matured signals refute a certified tier; 4 done, but the champion is past its age limit and gave no signals; 130
    interrupted.
    """
    began = time.monotonic()
    from k4_pipeline.storage.writer_lock import writing

    settings = settings_for(home)
    with writing(settings.home):
        result = play(settings, full, quiet=quiet or json_)
    result["seconds"]["total"] = round(time.monotonic() - began, 2)
    if json_:
        print_json(result)
    elif result["success"]:
        show(result, out_console())
    if not result["success"]:
        for error in result["errors"]:
            typer.secho(f"k4 nightly: {error}", fg="red", err=True)
        raise typer.Exit(FAILED)
    if result["no_signals"]:
        typer.secho(f"k4 nightly: {result['no_signals']}", fg="yellow", err=True)
        raise typer.Exit(CHAMPION_TOO_OLD)
    if any(t["claim_holds"] is False for t in result["monitor"]["tiers"]):
        raise typer.Exit(CERTIFICATE_BROKEN)


def play(settings: Any, full: bool | None, *, quiet: bool) -> dict[str, Any]:
    """The night, then the full run where one is due; what `--json` prints."""
    from k4_pipeline.errors import BadInputError
    from k4_pipeline.evaluation import champion
    from k4_pipeline.storage import ArtifactStore

    store, began = ArtifactStore(settings.artifacts_dir), time.monotonic()
    if champion.serving(store) is None:
        raise BadInputError(f"there is no champion in {settings.home} to score a night with; `k4 run` makes one")
    result: dict[str, Any] = {
        "success": True,
        "errors": [],
        "failed_checks": [],
        "skipped": "",
        "full": None,
        "home": str(settings.home),
    }
    seconds: dict[str, float] = {}
    checks: list[Any] = []
    if not store.partitions("daily_bars") and not _made(store, "daily_bars"):
        why = "there are no bars in this home yet"
    elif full:  # takes in what a night could not prove, so it does not wait for one
        why = "asked for"
    else:
        from k4_pipeline.pipeline.second_process import second_process

        with second_process(lambda: _open_dagster_once(settings)):
            from k4_pipeline.defs.night import play_night, tell_dagster

            seconds = {"imports": round(time.monotonic() - began, 2)}
            played = play_night(settings)
        seconds |= played.seconds
        began = time.monotonic()
        tell_dagster(settings, played, full_follows=bool(played.full_needed) and full is not False)
        seconds["telling_dagster"] = round(time.monotonic() - began, 2)
        why, checks = played.full_needed, list(played.outcome.checks)
        result["skipped"] = played.skipped
        if not played.outcome.success and not why:
            result["success"], result["errors"] = False, played.outcome.errors
    first: dict[str, Any] = {"new_bars": None, "new_signals": 0}
    if result["success"] and not why and not result["skipped"]:
        first = tonight(settings, store, full=False)
    if result["success"] and not why and full is not False:
        why = _due(store)
    if why and full is False:
        result["success"], result["errors"] = False, [f"{why}; --no-full forbids it"]
    elif why:
        checks += _full(settings, store, why, result, seconds, quiet=quiet)
    failed = [c for c in checks if not c.passed]
    result["failed_checks"] = [f"{c.asset}: {c.check}" for c in failed]
    result["failed_because"] = [c.description for c in failed]
    result["seconds"] = seconds
    if result["success"]:
        result |= tonight(settings, store, full=bool(result["full"]))
        if result["skipped"]:
            result["ledger"]["added"] = result["new_signals"] = 0
        elif result["full"]:  # it says the night again: what was new is what was new before
            result["new_bars"] = result["new_bars"] if first["new_bars"] is None else first["new_bars"]
            result["new_signals"] += first["new_signals"]
    return result


def _open_dagster_once(settings: Any) -> None:
    """What telling Dagster imports, half a second; what fails here fails again there."""
    from k4_pipeline.defs.instance import open_instance

    with contextlib.suppress(Exception), open_instance(settings):
        pass


def _made(store: Any, asset: str) -> bool:
    from k4_pipeline.errors import StaleArtifactError

    try:
        store.current(asset)
    except StaleArtifactError:
        return False
    return True


def _due(store: Any) -> str:
    """Why a full run is due; "" when it is not."""
    import datetime as dt

    base, night = store.current("daily_bars").meta["last_date"], store.current("signals").meta["night"]
    days = (dt.date.fromisoformat(night) - dt.date.fromisoformat(base)).days
    return f"{days} days of bars were added to the last full run" if days >= FULL_AFTER_DAYS else ""


def _full(
    settings: Any, store: Any, why: str, result: dict[str, Any], seconds: dict[str, float], *, quiet: bool
) -> list[Any]:
    """Everything again from the whole source; compared with what the nights added up to."""
    from k4_pipeline.cli.progress import RunProgress
    from k4_pipeline.cli.run import STEP_TIMES
    from k4_pipeline.defs.graph import FULL_NIGHT_ASSETS
    from k4_pipeline.defs.instance import create_home
    from k4_pipeline.defs.run import run_graph
    from k4_pipeline.pipeline.full_night import differences, remember

    log = settings.logs_dir / f"nightly-{time.strftime('%Y%m%dT%H%M%S')}.log"
    steps = [step for name in FULL_NIGHT_ASSETS for step in (name, f"{name}_checks")]
    before, began = remember(store), time.monotonic()
    with RunProgress(err_console(), steps, settings.logs_dir / STEP_TIMES, quiet=quiet) as progress:
        create_home(settings)
        outcome = run_graph(
            settings, FULL_NIGHT_ASSETS, as_of=None, progress=progress, log=log, started_by="k4 nightly"
        )
    seconds["full"] = round(time.monotonic() - began, 2)
    result["log"] = str(log)
    result["full"] = {"why": why, "compared": before is not None, "differences": []}
    result["success"], result["errors"] = outcome.success, outcome.errors
    if outcome.success:
        result["skipped"] = ""
        result["full"]["differences"] = differences(store, before) if before is not None else []
    return list(outcome.checks)


def tonight(settings: Any, store: Any, *, full: bool) -> dict[str, Any]:
    """What the home says of its last night, which was a full run or not."""
    from k4_pipeline.defs.staging import load_json, load_table
    from k4_pipeline.pipeline.stored_bars import NIGHT_BARS, bars_of_tonight

    ref = store.current("signals")
    signals, ledger = load_table(ref), dict(store.current("prediction_ledger").meta)
    drift = store.current("drift").meta
    if full:
        bars = bars_of_tonight(store)
        new_bars = int((bars.date == bars.last_day).sum())
    else:
        new_bars = store.newest(NIGHT_BARS).meta["newest_rows"]
    column = "tier" if "tier" in signals else "signal"
    return {
        "no_signals": ref.meta["none_because"],
        "night": ref.meta["night"],  # a night without an open pattern is a night, too
        "new_bars": new_bars,
        "new_signals": ledger["added"],
        "open_patterns": len(signals),
        "by_tier": {str(k): int(v) for k, v in signals[column].value_counts().items()},
        "ledger": ledger,
        "refused": int((signals["refused"] != "").sum()),
        "left_out": int((signals["left_out"] != "").sum()),
        "drift": {name: drift[name] for name in ("why", "too_few", "in_a_row")},
        "monitor": load_json(store.current("signal_outcomes"), "monitor.json"),
    }


def show(result: dict[str, Any], console: Any) -> None:
    """A few lines."""
    if result["skipped"]:
        console.print(f"nothing to do: {result['skipped']}", highlight=False)
    tiers = ", ".join(f"{n} {tier}" for tier, n in result["by_tier"].items()) or "none"
    console.print(
        f"night of {result['night']}: {result['new_bars']} new bars, {result['open_patterns']} open ({tiers})"
    )
    ledger, monitor = result["ledger"], result["monitor"]
    console.print(f"ledger: {ledger['added']} new rows, {ledger['rows']} in all; {monitor['matured']} have matured")
    for sentence in result["drift"]["why"]:
        console.print(f"drift: {sentence}", style="yellow", markup=False, highlight=False)
    full = result["full"]
    if full:
        said = "; ".join(full["differences"][:3]) or (
            "the nights add up to it" if full["compared"] else "the first one"
        )
        console.print(f"full run ({full['why']}): {said}", markup=False, highlight=False)
    for check, why in zip(result["failed_checks"], result["failed_because"], strict=True):
        console.print(f"did not pass: {check}: {why}", style="yellow", markup=False, highlight=False)
    console.print(f"{result['seconds']['total']} s", highlight=False)
