"""The `k4` command. Each group of commands lives in its own cli_*.py; here they get their names."""

from __future__ import annotations

import typer

from k4_pipeline import cli_audit, cli_bench, cli_champion, cli_export, cli_features, cli_instance, cli_report, cli_run

app = typer.Typer(
    name="k4",
    help="Finds rare consolidations that end in an explosive breakout (class K4), from daily bars, and proves at every "
    "step that no future information was used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("run")(cli_run.run)
app.command("report")(cli_report.report)
app.command("audit")(cli_audit.audit)
app.command("export")(cli_export.export)
app.command("features")(cli_features.features)
app.add_typer(cli_champion.app, name="champion")
app.add_typer(cli_bench.app, name="bench")
app.command("ui")(cli_instance.ui)
app.command("init")(cli_instance.init)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
