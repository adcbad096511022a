"""The plots of the validation report, as Plotly figures from the report's own numbers. Computes nothing."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

INK, MODEL, BASE, GOOD, GREY = "#1b2733", "#0b6e99", "#c77d0a", "#2e7d4f", "#9aa5b1"


def _layout(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    figure.update_layout(
        title={"text": title, "font": {"size": 15}},
        xaxis_title=x,
        yaxis_title=y,
        template="plotly_white",
        font={"family": "system-ui, sans-serif", "size": 12, "color": INK},
        margin={"l": 55, "r": 15, "t": 45, "b": 45},
        height=330,
        legend={"orientation": "h", "y": -0.25},
    )
    return figure


def gain_plot(report: dict[str, Any]) -> go.Figure:
    """Share of all K4 found against the share of snapshots looked at."""
    curves = report["metrics"]["gain_curve"]
    figure = go.Figure()
    for name, colour in (("model", MODEL), ("volatility", BASE)):
        points = curves[name]
        figure.add_scatter(
            x=[p["budget"] for p in points], y=[p["recall"] for p in points], name=name, line={"color": colour}
        )
    figure.add_scatter(x=[0, 1], y=[0, 1], name="at random", line={"color": GREY, "dash": "dot"})
    return _layout(figure, "K4 found within an alert budget", "share of snapshots looked at", "share of K4 found")


def reliability_plot(report: dict[str, Any]) -> go.Figure:
    """Realised K4 frequency against the announced probability."""
    rows = report["metrics"]["reliability_k4"]
    top = max([r["announced"] for r in rows] + [r["realised"] for r in rows] + [1e-3])
    figure = go.Figure()
    figure.add_scatter(
        x=[r["announced"] for r in rows],
        y=[r["realised"] for r in rows],
        mode="lines+markers",
        name="tenths of the test rows",
        line={"color": MODEL},
    )
    figure.add_scatter(x=[0, top], y=[0, top], name="perfect", mode="lines", line={"color": GREY, "dash": "dot"})
    return _layout(figure, "Calibration of P(K4)", "announced probability", "realised share")


def value_plot(report: dict[str, Any]) -> go.Figure:
    """Mean realised value by tenth of expected value."""
    rows = report["metrics"]["value_by_ev"]
    figure = go.Figure()
    tenth = list(range(1, len(rows) + 1))
    figure.add_bar(x=tenth, y=[r["realised"] for r in rows], name="realised", marker_color=GOOD)
    figure.add_scatter(x=tenth, y=[r["ev"] for r in rows], name="announced EV", line={"color": MODEL})
    return _layout(figure, "Realised value by expected value", "tenth of EV, low to high", "strategic value (points)")


def history_plot(report: dict[str, Any]) -> go.Figure:
    """Loss and monitored quantity by epoch."""
    history = report["model"].get("history", [])
    figure = go.Figure()
    epochs = [h["epoch"] for h in history]
    for key, colour in (("train_loss", GREY), ("validation_loss", BASE)):
        if history and key in history[0]:
            figure.add_scatter(
                x=epochs, y=[h[key] for h in history], name=key.replace("_", " "), line={"color": colour}
            )
    monitor = report["model"].get("monitor", "")
    if history and monitor in history[0]:
        figure.add_scatter(x=epochs, y=[h[monitor] for h in history], name=monitor, yaxis="y2", line={"color": MODEL})
        figure.update_layout(yaxis2={"overlaying": "y", "side": "right", "rangemode": "tozero"})
    return _layout(figure, "Training", "epoch", "loss")


def class_plot(report: dict[str, Any]) -> go.Figure:
    """Class shares of train, validation and test side by side."""
    figure = go.Figure()
    for row, colour in zip(report["classes"], (GREY, BASE, MODEL)):
        names = [name.lower().replace("_", "<br>").capitalize() for name in row["shares"]]
        figure.add_bar(x=names, y=list(row["shares"].values()), name=row["split"], marker_color=colour)
    figure.update_xaxes(tickangle=0, tickfont={"size": 10})
    return _layout(figure, "Class mix", "", "share of labelled rows")


def all_plots(report: dict[str, Any]) -> list[go.Figure]:
    """In the order of the report."""
    return [f(report) for f in (gain_plot, value_plot, reliability_plot, class_plot, history_plot)]
