"""The `k4` command. One file per command; here they get their names, and are imported when they are called."""

from __future__ import annotations

from typing import Annotated, ClassVar

import typer

from k4_pipeline import __version__
from k4_pipeline.cli.ending import leave
from k4_pipeline.cli.lazy import LazyGroup


class Commands(LazyGroup):
    """name -> (module, attribute, one line of help), in the order of `k4 --help`."""

    table: ClassVar = {
        "run": ("k4_pipeline.cli.run", "run", "Run everything, from bars to report and today's signals."),
        "walk-forward": (
            "k4_pipeline.cli.walk_forward",
            "walk_forward",
            "Model, baselines and best possible at several dates, pooled.",
        ),
        "tune": ("k4_pipeline.cli.tune", "tune", "Search for better settings inside one fold; trials are kept."),
        "data": ("k4_pipeline.cli.data", "app", "Read and clean a source, and say what was refused and why."),
        "report": ("k4_pipeline.cli.report", "report", "Show, render or open the validation report."),
        "signals": ("k4_pipeline.cli.signals", "signals", "Today's open patterns, best first."),
        "plot": ("k4_pipeline.cli.explain", "plot", "Draw a pattern: bars, box, power line and stop."),
        "explain": ("k4_pipeline.cli.explain", "explain", "Why a pattern got its probability."),
        "backtest": ("k4_pipeline.cli.backtest", "backtest", "What the lists would have been worth after costs."),
        "compare": (
            "k4_pipeline.cli.compare",
            "compare",
            "Two results side by side, paired where the rows are the same.",
        ),
        "export": ("k4_pipeline.cli.export", "export", "Write a table of the graph as Parquet or CSV."),
        "import": ("k4_pipeline.cli.import_bundle", "import_bundle", "Take over a training done on another machine."),
        "nightly": ("k4_pipeline.cli.nightly", "nightly", "New bars to today's signals with the champion; for cron."),
        "monitor": ("k4_pipeline.cli.monitor", "monitor", "Whether the signals that were given were right."),
        "champion": ("k4_pipeline.cli.champion", "app", "The model that serves: its history, and the way back."),
        "alerts": ("k4_pipeline.cli.alerts", "app", "Messages about what went wrong or is new: try and see them."),
        "audit": ("k4_pipeline.cli.audit", "audit", "Prove again that no future information was used."),
        "status": ("k4_pipeline.cli.status", "status", "What is stored here, whether it may be used, what to do next."),
        "doctor": ("k4_pipeline.cli.doctor", "doctor", "Whether this machine and this home folder are fit for a run."),
        "features": ("k4_pipeline.cli.features", "features", "The 69 features: look-back, scale and formula."),
        "reference": (
            "k4_pipeline.cli.reference",
            "reference",
            "Commands, settings, tables and checks, as a page.",
        ),
        "ui": ("k4_pipeline.cli.ui", "ui", "Start the Dagster UI on the same home folder."),
        "serve": ("k4_pipeline.cli.serve", "serve", "One part of the UI as the process of a container or a unit."),
        "bench": ("k4_pipeline.cli.bench", "app", "Measure speed and memory."),
        "init": ("k4_pipeline.cli.instance", "init", "Create the home folder; with --compile, the kernels too."),
    }


# Plain help here: rich's Markdown support alone takes longer to import than everything else of `k4 --help`.
app = typer.Typer(name="k4", cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"k4 {__version__}")
        raise typer.Exit


@app.callback()
def k4(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Find rare consolidations that end in an explosive breakout (class K4), from daily bars.

    Every step proves that no future information was used. Start with `k4 run`.
    """


def main() -> None:
    """Entry point of the console script."""
    try:
        app()
    except SystemExit as end:
        leave(end)
        raise
