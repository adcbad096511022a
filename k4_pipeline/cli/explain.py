"""`k4 explain` and `k4 plot`: why a snapshot got its probability, and how it looked."""

from __future__ import annotations

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
from k4_pipeline.cli.progress import TerminalProgress

DateOption = typer.Option("--date", metavar="DATE", help="Snapshot day, YYYY-MM-DD. Default: the newest one.")
TickerArgument = typer.Argument(help="A ticker of the universe.")


@explained
def explain(
    ticker: Annotated[str, TickerArgument],
    date: Annotated[str | None, DateOption] = None,
    samples: Annotated[int, typer.Option(help="Permutations of the estimate: more are slower and steadier.")] = 25,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
    debug: bool = DebugOption,
) -> None:
    """Why the champion gives a snapshot its P(K4): contributions of the features, similar training rows, a chart.

    Contributions are Shapley values against an average training row; they add up to the change of the log odds of K4.
    The same content goes into an HTML page below the reports.
    """
    from k4_pipeline.cli.chart_terminal import terminal_chart
    from k4_pipeline.cli.lookup import explain_pattern
    from k4_pipeline.report.pattern import write_pattern_page

    settings = settings_for(home)
    with TerminalProgress(err_console()) as progress:
        found = explain_pattern(settings, ticker, date, samples=samples, progress=progress.of("explaining"))
    found["page"] = str(write_pattern_page(found, settings.reports_dir))
    if json_:
        print_json(found)
        return
    console = out_console()
    console.print(terminal_chart(found["chart"], width=min(console.width, 80)), highlight=False, markup=False)
    _say(console, found)


@explained
def plot(
    ticker: Annotated[str, TickerArgument],
    date: Annotated[str | None, DateOption] = None,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Draw a pattern in the terminal and as an HTML page: bars, box, power line and stop."""
    from k4_pipeline.cli.chart_terminal import terminal_chart
    from k4_pipeline.cli.lookup import find_pattern
    from k4_pipeline.report.pattern import write_pattern_page

    settings = settings_for(home)
    found = find_pattern(settings, ticker, date)
    found["page"] = str(write_pattern_page(found, settings.reports_dir))
    if json_:
        print_json(found)
        return
    console = out_console()
    console.print(terminal_chart(found["chart"], width=min(console.width, 80)), highlight=False, markup=False)
    console.print(f"Page: {found['page']}", soft_wrap=True, highlight=False, markup=False)


def _say(console: Any, found: dict[str, Any]) -> None:
    for line in found["lines"]:
        console.print(line, highlight=False, markup=False)
    console.print("\nWhat moved it most, against an average training row:", style="bold")
    for reason in found["reasons"]:
        console.print(f"  {reason['contribution']:+.2f}  {reason['in_words']}", highlight=False, markup=False)
    console.print("\nMost similar training rows:", style="bold")
    for row in found["neighbours"]:
        text = f"  {row['ticker']:8} {row['snapshot_date']}  {row['outcome']:15} distance {row['distance']:.2f}"
        console.print(text, highlight=False, markup=False)
    sanity = found["sanity"]
    console.print(
        f"\nSanity: the contributions {'add up' if sanity['adds_up'] else 'DO NOT add up'} to the log odds (off by "
        f"{sanity['sum_misses_by']:.1e}); two estimates correlate at {sanity['two_estimates_correlate']:.2f}.",
        highlight=False,
        markup=False,
    )
    console.print(f"Page: {found['page']}", soft_wrap=True, highlight=False, markup=False)
