"""`k4 audit`: the proof that no future information was used, run again by whoever wants to see it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

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
from k4_pipeline.cli.progress import TerminalProgress

NOT_PROVED = 3  # exit status: no check fired, but a proof could not be made


@explained
def audit(
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="DATE", help="Which artifacts. Default: the newest with predictions."),
    ] = None,
    sample: Annotated[
        str, typer.Option(help="How much is looked at: normal or thorough (small: everything).")
    ] = "normal",
    small: Annotated[
        bool,
        typer.Option("--small", help="Audit the code on a small simulated universe instead of the stored artifacts."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the sample and of the small universe.")] = 0,
    controls: Annotated[
        bool, typer.Option("--controls", help="Also train on data that holds nothing to learn.")
    ] = False,
    in_process: Annotated[
        bool, typer.Option("--in-process", help="All checks in this process: faster, less strict.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Checks run at the same time. Default: one a core, at most 4; --planted: one a core."),
    ] = None,
    stop_at_failure: Annotated[
        bool, typer.Option("--stop-at-failure", help="End with the first check that fails.")
    ] = False,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="NAME", help="Only this check (again for more); the others are not proved."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Seconds; a check without time left is not proved.")
    ] = None,
    planted: Annotated[
        bool, typer.Option("--planted", help="Plant known leaks and count how many the audit notices.")
    ] = False,
    seeds: Annotated[int, typer.Option(help="With --planted: how many seeds.")] = 3,
    clean_runs: Annotated[int, typer.Option(help="With --planted: how many unmodified runs.")] = 200,
    demo: Annotated[
        bool, typer.Option("--demo", help="Train one model on the honest and on a random split, side by side.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="With --planted or --demo: print the published table.")
    ] = False,
    json_: bool = JsonOption,
    debug: bool = DebugOption,
    home: Path | None = HomeOption,
) -> None:
    """Prove that no future information was used: replay, corrupt, recompute and refit, each check in a fresh process.

    With --planted the audit itself is tested (--sample N: only N leaks); --demo shows what leakage looks like.
    """
    from k4_pipeline.cli import audit_planted as cli_audit_planted

    if planted:
        cli_audit_planted.planted(
            seeds=seeds, sample=sample, clean_runs=clean_runs, workers=workers, json_=json_, markdown=markdown
        )
    if demo:
        cli_audit_planted.demo(seed=seed, json_=json_, markdown=markdown)
    from k4_pipeline._numba import n_threads
    from k4_pipeline.defs.audit_facts import audit_facts
    from k4_pipeline.defs.export import export_asset
    from k4_pipeline.leakage.engine import audit_run
    from k4_pipeline.leakage.engine.audit_stamp import proofs_in_words, read_stamp, write_stamp
    from k4_pipeline.report.render import with_proofs
    from k4_pipeline.storage import ArtifactStore, atomic_write_text

    settings = settings_for(home)
    ignored: set[str] = set()

    def facts(as_of: str) -> dict[str, Any]:
        found = audit_facts(settings, as_of)
        ignored.update(text for fact in found.values() for text in fact["ignored"])
        return found

    with TerminalProgress(err_console(), quiet=json_) as progress:
        result = audit_run.run(
            config=settings.config,
            store_root=None if small else settings.artifacts_dir,
            as_of=as_of,
            sample=sample,
            seed=seed,
            controls=controls,
            isolated=not in_process,
            workers=workers or min(4, n_threads()),
            budget_s=budget,
            stop_at_failure=stop_at_failure,
            names=check,
            progress=progress.of("checks"),
            facts=facts,
            export=partial(export_asset, settings),
        )
    if not small and result["verdicts"]:
        predictions = ArtifactStore(settings.artifacts_dir).current("predictions", result["as_of"])
        stamp = settings.reports_dir, result["as_of"], predictions.fingerprint
        write_stamp(*stamp, result)
        result["in_words"] = proofs_in_words(read_stamp(*stamp))
        page = settings.reports_dir / result["as_of"] / "report.html"
        if page.is_file():
            atomic_write_text(page, with_proofs(page.read_text(), result["in_words"]))
    result["ignored_settings"] = sorted(ignored)
    if json_:
        print_json(result)
    else:
        _show(result)
    raise typer.Exit({"passed": 0, "failed": 1}.get(result["status"], NOT_PROVED))


def _show(result: dict[str, Any]) -> None:
    console = out_console()
    table = Table("", "check", "cases", "seconds", title=f"audit of {result['what']}")
    for verdict in result["verdicts"]:
        mark = "[green]holds[/]" if verdict["passed"] else "[red]fails[/]"
        seconds = result["seconds"].get(verdict["name"], 0.0)
        table.add_row(mark, verdict["name"], f"{verdict['cases']:,}", f"{seconds:.1f}")
    for mark, names in (("[dim]not applicable[/]", "not_applicable"), ("[yellow]not proved[/]", "not_proved")):
        for name, reason in result[names].items():
            table.add_row(mark, name, "", reason)
    console.print(table)
    for verdict in result["verdicts"]:
        for finding in verdict["findings"]:
            console.print(f"{verdict['name']}: {finding}", style="red", markup=False, highlight=False)
    failed = sum(not v["passed"] for v in result["verdicts"])
    ends = {"passed": "no leak found", "failed": f"{failed} checks fail"}
    open_ = f"not proved: no check fails, but {len(result['not_proved'])} could not be asked"
    console.print(ends.get(result["status"], open_))
    for text in result["ignored_settings"]:
        console.print(f"of the settings that were asked for: {text}", markup=False, highlight=False)
    if "in_words" in result:
        console.print(result["in_words"], markup=False, highlight=False)
