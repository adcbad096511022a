"""The trading section of a report and the page of `k4 backtest`, from `evaluation.trading`. Computes nothing."""

from __future__ import annotations

from typing import Any

from k4_pipeline.report import figures
from k4_pipeline.report.numbers import finite, number, span
from k4_pipeline.report.page import Grid, Section

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def result_grid(trading: dict[str, Any]) -> Grid:
    """One row per list and exit rule."""
    rows = [
        [
            r["rule"],
            r["exits"],
            f"{r['trades']:,}",
            {"text": number(r["net_return"], "{:+.1%}"), "kind": _kind(r["net_return"])},
            {"text": number(r["mean_net"], "{:+.2%}"), "small": span({"low": r["low"], "high": r["high"]}, "{:+.2%}")},
            number(r["hit_rate"], "{:.0%}"),
            number(r["max_drawdown"], "{:.1%}"),
            number(r["break_even_cost"], "{:+.2%}"),
        ]
        for r in trading["results"]
    ]
    header = ["list", "exit", "trades", "net return", "mean per trade", "winners", "max drawdown", "break-even cost"]
    return Grid(header, rows)


MEASURES = {
    "annual_return": ("return a year", "{:+.1%}"),
    "annual_volatility": ("volatility a year", "{:.1%}"),
    "sharpe": ("Sharpe", "{:+.2f}"),
    "sortino": ("Sortino", "{:+.2f}"),
    "max_drawdown": ("max drawdown", "{:.1%}"),
    "longest_drawdown_days": ("longest drawdown, days", "{:,.0f}"),
    "best_month": ("best month", "{:+.1%}"),
    "worst_month": ("worst month", "{:+.1%}"),
    "invested": ("invested on average", "{:.0%}"),
    "turnover": ("turnover", "{:.1f}x"),
    "hit_rate": ("winners", "{:.0%}"),
    "payoff": ("payoff", "{:.2f}"),
    "profit_factor": ("profit factor", "{:.2f}"),
    "mean_cost": ("cost paid", "{:.2%}"),
    "break_even_cost": ("break-even cost", "{:+.2%}"),
    "skipped": ("filled, but no free place", "{:,.0f}"),
}


def tearsheet(trading: dict[str, Any]) -> Grid | None:
    """One column per list that traded, under the exit of the headline; one row per measure."""
    main = trading["results"][0]
    shown = [r for r in trading["results"] if r["exits"] == main["exits"] and r["trades"] and "invested" in r]
    if not shown:
        return None
    rows: list[list[Any]] = [
        [title, *(number(r.get(key), form) for r in shown)] for key, (title, form) in MEASURES.items()
    ]
    return Grid(["measure", *(r["rule"] for r in shown)], rows, f"Tearsheet, exit by the {main['exits']}")


def _kind(value: Any) -> str:
    return "" if not finite(value) or value == 0 else "passed" if value > 0 else "failed"


def heatmap(trading: dict[str, Any]) -> Grid | None:
    """Return of each month as a coloured table."""
    monthly = trading.get("monthly") or []
    if not monthly or not trading["curves"]:  # no order was filled
        return None
    top = max([abs(v) for row in monthly for v in row["months"] if finite(v)] + [1e-9])
    rows = []
    for row in monthly:
        cells: list[Any] = [str(row["year"])]
        for value in row["months"]:
            if not finite(value):
                cells.append("")
                continue
            share = round(60 * abs(value) / top)
            colour = "var(--ok)" if value >= 0 else "var(--bad)"
            style = f"background: color-mix(in srgb, {colour} {share}%, transparent)"
            cells.append({"text": f"{value:+.1%}", "style": style})
        rows.append([*cells, {"text": number(row["year_return"], "{:+.1%}")}])
    return Grid(["year", *MONTHS, "year total"], rows, f"Monthly return: {trading['curves'][0]['name']}", "heat")


def trading_section(trading: dict[str, Any], title: str = "Trading value after costs") -> Section | None:
    """Lists, exits, curves and assumptions; None without a backtest."""
    if not trading:
        return None
    if not trading.get("results"):
        return Section(title, [str(trading.get("left_out", "Not computed for this report."))])
    grids = [g for g in (result_grid(trading), tearsheet(trading), heatmap(trading)) if g]
    return Section(
        title, list(trading["in_words"]), grids, figures.equity(trading["curves"]), notes=trading["assumptions"]
    )


def render_backtest(trading: dict[str, Any], title: str, *, plotly_folder: str | None = "..") -> str:
    """A page of its own."""
    from k4_pipeline.report.page import render_page

    section = trading_section(trading)
    return render_page(title, [section] if section else [], plotly_folder=plotly_folder)
