"""The `k4` command. Each group of commands lives in its own file; here they get their names."""

from __future__ import annotations

import typer

from k4_pipeline.cli import audit, bench, champion, export, features, instance, report, run

app = typer.Typer(
    name="k4",
    help="Finds rare consolidations that end in an explosive breakout (class K4), from daily bars, and proves at every "
    "step that no future information was used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("report")(report.report)
app.command("audit")(audit.audit)
app.command("export")(export.export)
app.command("features")(features.features)
app.add_typer(champion.app, name="champion")
app.add_typer(bench.app, name="bench")
app.command("ui")(instance.ui)
app.command("init")(instance.init)


def main() -> None:
    """Entry point of the console script."""
    app()
