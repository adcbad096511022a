"""`k4 nightly`: new bars to today's signals with the champion that serves, safe to run from cron."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import typer

from k4_pipeline.cli.common import DebugOption, HomeOption, JsonOption, err_console, explained, out_console, print_json

FAILED, CERTIFICATE_BROKEN = 1, 3


@explained
def nightly(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="No progress, only the result."),
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Read new bars, score every open pattern with the champion, append to the ledger, look at what matured.

    Works with the settings of the last `k4 run` of this home. Trains nothing. Exit status: 0 done, 1 something failed
    or a blocking check did not hold (nothing unchecked was published), 3 done, but matured signals refute a certified
    tier.
    """
    from k4_pipeline.cli.progress import RunProgress
    from k4_pipeline.cli.run import STEP_TIMES
    from k4_pipeline.defs.graph import NIGHTLY_ASSETS
    from k4_pipeline.settings import load_settings
    from k4_pipeline.storage.writer_lock import writing

    settings = load_settings(home)
    log = settings.logs_dir / f"nightly-{time.strftime('%Y%m%dT%H%M%S')}.log"
    began = time.monotonic()
    steps = [step for name in NIGHTLY_ASSETS for step in (name, f"{name}_checks")]
    with (
        writing(settings.home),
        RunProgress(err_console(), steps, settings.logs_dir / STEP_TIMES, quiet=quiet or json_) as progress,
    ):
        from k4_pipeline.defs.instance import create_home
        from k4_pipeline.defs.run import run_graph

        create_home(settings)
        outcome = run_graph(settings, NIGHTLY_ASSETS, as_of=None, progress=progress, log=log, started_by="k4 nightly")
    result: dict[str, Any] = {
        "success": outcome.success,
        "errors": outcome.errors,
        "failed_checks": [f"{c.asset}: {c.check}" for c in outcome.checks if not c.passed],
        "log": str(log),
        "home": str(settings.home),
    }
    if outcome.success:
        result |= _tonight(settings)
    result["seconds"] = round(time.monotonic() - began, 1)
    if json_:
        print_json(result)
    elif outcome.success:
        _show(result, out_console())
    if not outcome.success:
        for error in outcome.errors:
            typer.secho(f"k4 nightly: {error}", fg="red", err=True)
        raise typer.Exit(FAILED)
    if any(t["claim_holds"] is False for t in result["monitor"]["tiers"]):
        raise typer.Exit(CERTIFICATE_BROKEN)


def _tonight(settings: Any) -> dict[str, Any]:
    from k4_pipeline.defs.staging import load_json, load_table
    from k4_pipeline.storage import ArtifactStore

    store = ArtifactStore(settings.artifacts_dir)
    ref = store.current("signals")
    signals = load_table(ref)
    column = "tier" if "tier" in signals else "signal"
    return {
        "night": ref.meta["night"],  # a night without an open pattern is a night, too
        "open_patterns": len(signals),
        "by_tier": {str(k): int(v) for k, v in signals[column].value_counts().items()},
        "ledger": load_json(store.current("prediction_ledger"), "ledger.json"),
        "monitor": load_json(store.current("signal_outcomes"), "monitor.json"),
    }


def _show(result: dict[str, Any], console: Any) -> None:
    tiers = ", ".join(f"{n} {tier}" for tier, n in result["by_tier"].items()) or "none"
    console.print(f"night of {result['night']}: {result['open_patterns']} open patterns ({tiers})")
    ledger, monitor = result["ledger"], result["monitor"]
    console.print(f"ledger: {ledger['added']} new rows, {ledger['rows']} in all; {monitor['matured']} have matured")
    for check in result["failed_checks"]:
        console.print(f"did not pass: {check}", style="yellow", markup=False, highlight=False)
    console.print(f"{result['seconds']} s; the log is {result['log']}", highlight=False)
