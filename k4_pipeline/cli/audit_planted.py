"""`k4 audit --planted` and `k4 audit --demo`: the power of the audit, and what leakage looks like."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from k4_pipeline.cli.common import err_console, out_console, print_json
from k4_pipeline.cli.progress import TerminalProgress
from k4_pipeline.errors import ConfigError


def number_of_leaks(sample: str) -> int | None:
    """`--sample` of the planted suite: a number of leaks; the audit's own size names mean all of them."""
    if sample in ("normal", "thorough", "small", "all"):
        return None
    if not sample.isdigit() or int(sample) < 1:
        raise ConfigError(f"--sample {sample!r} is no number of leaks; give 1 or more, or leave it out for all")
    return int(sample)


def planted(*, seeds: int, sample: str, clean_runs: int, workers: int | None, json_: bool, markdown: bool) -> None:
    """Plant every leak and count what the audit notices; status 1 when a leak or a clean run was misjudged."""
    from k4_pipeline._numba import n_threads

    try:
        from k4_pipeline_tests.mutations.runner import run_mutations
        from k4_pipeline_tests.mutations.table import headline, to_markdown
    except ModuleNotFoundError:
        raise ConfigError(
            "the planted leaks are part of the tests and not of the installed package; run `k4 audit --planted` in a "
            "checkout of the source"
        ) from None

    with TerminalProgress(err_console(), quiet=json_ or markdown) as progress:
        result = run_mutations(
            seeds,
            sample=number_of_leaks(sample),
            clean_runs=clean_runs,
            jobs=workers or n_threads(),
            progress=progress.of("planted leaks and clean runs"),
        )
    if json_:
        print_json(result)
    elif markdown:
        typer.echo(to_markdown(result))
    else:
        _show(result, headline(result))
    good = result["detected"] == result["planted"] and not result["false_alarms"] and not result["benign_alarms"]
    raise typer.Exit(0 if good else 1)


def _show(result: dict[str, Any], text: str) -> None:
    console = out_console()
    table = Table("stage", "planted leak", "detected", "noticed by")
    for row in result["by_mutation"]:
        good = row["detected"] == row["runs"]
        mark = f"[{'green' if good else 'red'}]{row['detected']}/{row['runs']}[/]"
        table.add_row(row["stage"], row["name"], mark, ", ".join(row["fired"]) or "nobody")
    console.print(table)
    for alarm in result["alarms"]:
        console.print(f"false alarm: {alarm}", style="red", markup=False, highlight=False)
    console.print(text, markup=False, highlight=False)


def demo(*, seed: int, json_: bool, markdown: bool) -> None:
    """Train one model on the honest split and on a random one, and show both side by side."""
    from k4_pipeline.leakage.controls.demo import run_demo
    from k4_pipeline.report.text import demo_section

    with TerminalProgress(err_console(), quiet=json_ or markdown) as progress:
        result = run_demo(seed=seed, progress=progress.of("trainings"))
    if json_:
        print_json(result)
    elif markdown:
        typer.echo(demo_section(result))
    else:
        console = out_console()
        for market in result["markets"]:
            table = Table("metric", "honest split", "random split", title=market["market"])
            for row in market["rows"]:
                table.add_row(row["metric"], _cell(row["honest"]), _cell(row["random"]))
            console.print(table)
        console.print(result["in_words"], markup=False, highlight=False)
    raise typer.Exit(0)


def _cell(metric: dict[str, float]) -> str:
    return f"{metric['value']:.3f}  ({metric['low']:.3f} to {metric['high']:.3f})"
