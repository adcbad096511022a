"""The plots, as plain Plotly figures from numbers that were computed elsewhere.

A colour that begins with `--` is a variable of report.css; the page fills it in, light or dark.
"""

from __future__ import annotations

import itertools
from typing import Any

from k4_pipeline.report.numbers import finite, titled

INK, MODEL, BASE, GOOD, BAD, GREY, LINE = "--ink", "--model", "--base", "--ok", "--bad", "--soft", "--grid"
SERIES, DASHES = (MODEL, BASE, GOOD, GREY, BAD), ("solid", "dot")
# No two methods look alike: colour and dash.
STYLES: dict[str, dict[str, Any]] = {
    "model": {"color": MODEL, "width": 3},
    "best_possible": {"color": INK, "dash": "dash"},
    "volatility_20": {"color": BASE, "dash": "dot"},
    "volatility_250": {"color": BASE},
    "gradient_boosting": {"color": GOOD},
    "logit": {"color": GOOD, "dash": "dot"},
    "bilstm": {"color": BAD},
    "class_mix": {"color": GREY, "dash": "dot"},
}


def _style(name: str) -> dict[str, Any]:
    return STYLES.get(name, {"color": GREY, "dash": "dashdot"})


def axis(title: str, **more: Any) -> dict[str, Any]:
    """An axis in the colours of the page."""
    return {"title": {"text": title}, "gridcolor": LINE, "zerolinecolor": LINE, "automargin": True, **more}


def figure(title: str, data: list[dict[str, Any]], x: str, y: str, note: str = "", **layout: Any) -> dict[str, Any]:
    """A figure with its title and, optionally, a note below."""
    base = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "margin": {"l": 45, "r": 10, "t": 10, "b": 40},
        "legend": {"orientation": "h", "y": -0.28},
        "hoverlabel": {"font": {"size": 12}},
        "xaxis": axis(x),
        "yaxis": axis(y),
    }
    return {"title": title, "note": note, "figure": {"data": data, "layout": {**base, **layout}}}


def curve(name: str, x: list[Any], y: list[Any], colour: str, **more: Any) -> dict[str, Any]:
    """One line of a plot."""
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": {"color": colour}, **more}


def gain(report: dict[str, Any]) -> dict[str, Any] | None:
    """Share of all K4 found against the share of snapshots looked at."""
    curves = report["metrics"].get("gain_curve")
    if not curves or not report["metrics"]["n_k4"]:
        return None
    lines = [
        curve(
            titled(name),
            [p["budget"] for p in points],
            [p["recall"] for p in points],
            "",
            line=_style(name),
        )
        for name, points in curves.items()
        if name != "class_mix"  # it ranks nothing: it is the line of chance
    ]
    lines.append(curve("at random", [0, 1], [0, 1], GREY, line={"color": GREY, "dash": "dot"}))
    return figure("K4 found within an alert budget", lines, "share of snapshots looked at", "share of K4 found")


def reliability(report: dict[str, Any]) -> dict[str, Any] | None:
    """Realised K4 frequency against the announced probability, with intervals and the rows of each group."""
    rows = report["metrics"].get("reliability_k4") or []
    if not rows:
        return None
    top = max([r["announced"] for r in rows] + [1e-3])
    bars = {}
    if all(finite(r.get("low")) and finite(r.get("high")) for r in rows):
        bars["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [r["high"] - r["realised"] for r in rows],
            "arrayminus": [r["realised"] - r["low"] for r in rows],
            "color": MODEL,
            "thickness": 1,
        }
    points = curve(
        "groups of test rows",
        [r["announced"] for r in rows],
        [r["realised"] for r in rows],
        MODEL,
        mode="lines+markers",
        text=[f"{r['count']} rows" for r in rows],
        hovertemplate="announced %{x:.2%}, realised %{y:.2%}, %{text}<extra></extra>",
        **bars,
    )
    ideal = curve("perfect", [0, top], [0, top], GREY, line={"color": GREY, "dash": "dot"})
    counts = ", ".join(str(r["count"]) for r in rows)
    return figure(
        "Calibration of P(K4)",
        [points, ideal],
        "announced probability",
        "realised share",
        f"Rows per group, left to right: {counts}." + (" Bars are 95% intervals." if bars else ""),
    )


def _value_bars(x: list[Any], values: list[Any], counts: list[int]) -> dict[str, Any]:
    """Bars of realised value, green above zero and red below; the rows of each are told when it is touched."""
    bars: dict[str, Any] = {"type": "bar", "name": "realised", "x": x, "y": values, "showlegend": False}
    bars["marker"] = {"color": [GOOD if finite(v) and v >= 0 else BAD for v in values]}
    bars["text"], bars["textposition"] = [f"{n:,} rows" for n in counts], "none"
    return {**bars, "hovertemplate": "%{x}: %{y:.2f} points, %{text}<extra></extra>"}


def value_by(label: str, rows: list[dict[str, Any]], mean: float) -> dict[str, Any] | None:
    """Mean realised value of each signal or tier that came, beside that of all test rows."""
    rows = [r for r in rows if r["count"]]
    if len(rows) < 2:  # one bar compares nothing
        return None
    names, counts = [r["signal"] for r in rows], [r["count"] for r in rows]
    bars = _value_bars(names, [r["mean_realised_value"] for r in rows], counts)
    line = curve("all test rows", names, [mean] * len(names), GREY, mode="lines+markers")
    note = "Rows: " + ", ".join(f"{name} {n:,}" for name, n in zip(names, counts)) + "."
    return figure(f"Realised value by {label}", [bars, line], "", "points", note)


def value_by_decile(report: dict[str, Any]) -> dict[str, Any] | None:
    """Mean realised value by tenth of expected value."""
    rows = report["metrics"].get("value_by_ev") or []
    if not rows:
        return None
    tenth = list(range(1, len(rows) + 1))
    realised = _value_bars(tenth, [r["realised"] for r in rows], [r["count"] for r in rows])
    announced = curve("announced EV", tenth, [r["ev"] for r in rows], MODEL)
    return figure(
        "Realised value by expected value",
        [realised, announced],
        "tenth of EV, low to high",
        "points",
        xaxis=axis("tenth of EV, low to high", dtick=1),
    )


def training(report: dict[str, Any]) -> dict[str, Any] | None:
    """Loss and monitored quantity by epoch."""
    history, monitor = report["model"].get("history") or [], report["model"].get("monitor", "")
    epochs = [h.get("epoch", i) for i, h in enumerate(history)]
    lines = [
        curve(titled(key), epochs, [h[key] for h in history], colour)
        for key, colour in (("train_loss", GREY), ("validation_loss", BASE))
        if history and key in history[0]
    ]
    layout: dict[str, Any] = {"xaxis": axis("epoch", dtick=max(len(epochs) // 10, 1))}
    if history and monitor in history[0]:
        lines.append(curve(titled(monitor), epochs, [h[monitor] for h in history], MODEL, yaxis="y2"))
        layout["yaxis2"] = {"overlaying": "y", "side": "right", "rangemode": "tozero", "automargin": True}
    return figure("Training", lines, "epoch", "loss", **layout) if lines else None


def class_mix(report: dict[str, Any]) -> dict[str, Any]:
    """Class shares of train, validation and test side by side."""
    bars = [
        {
            "type": "bar",
            "name": row["split"],
            "x": [name.partition("_")[0] for name in row["shares"]],
            "y": list(row["shares"].values()),
            "marker": {"color": colour},
        }
        for row, colour in zip(report["classes"], (GREY, BASE, MODEL))
    ]
    return figure("Class mix", bars, "", "share of labelled rows")


def by_month(report: dict[str, Any]) -> list[dict[str, Any]]:
    """K4 found, and rows, per month."""
    rows = report["metrics"].get("by_month") or []
    if not rows:
        return []
    months = [str(r["month"])[:7] for r in rows]
    counts = [
        {"type": "bar", "name": "snapshots", "x": months, "y": [r["n"] for r in rows], "marker": {"color": GREY}},
        {"type": "bar", "name": "K4", "x": months, "y": [r["n_k4"] for r in rows], "marker": {"color": GOOD}},
    ]
    out = [figure("Test rows per month", counts, "", "rows", barmode="overlay")]
    for key, what in (("k4_recall", "K4 recall in the top"), ("log_loss", "log loss")):
        title = f"{what} {rows[0]['budget']:.0%} per month" if key == "k4_recall" else f"{what} per month"
        lines = []
        for name in (n for n in rows[0]["methods"] if key in rows[0]["methods"][n]):
            values = [r["methods"].get(name, {}).get(key) for r in rows]
            shown: dict[str, Any] = {}
            if name not in ("model", "volatility_250", "best_possible"):
                shown["visible"] = "legendonly"
            known = [v if finite(v) else None for v in values]
            shown |= {"mode": "lines+markers", "connectgaps": False, "line": _style(name)}
            lines.append(curve(titled(name), months, known, "", **shown))
        if any(value is not None for line in lines for value in line["y"]):
            out.append(figure(title, lines, "", what, "Touch a name below the plot to show or hide it."))
    return out


def candles(chart: dict[str, Any], title: str) -> dict[str, Any]:
    """Candlesticks with box, power line and stop; `chart` as made by `evaluation.charts.pattern_chart`."""
    dates = chart["dates"]
    bars = {
        "type": "candlestick",
        "x": dates,
        **{name: chart[name] for name in ("open", "high", "low", "close")},
        "increasing": {"line": {"color": GOOD}},
        "decreasing": {"line": {"color": BAD}},
        "name": "bars",
        "showlegend": False,
    }
    box, after = (chart["start"], chart["snapshot"]), (chart["snapshot"], dates[-1])
    lines = [
        curve(
            "box", [*box, box[1], box[0], box[0]], [chart["upper"]] * 2 + [chart["lower"]] * 2 + [chart["upper"]], MODEL
        ),
        curve("power line", [box[0], after[1]], [chart["power"]] * 2, GOOD, line={"color": GOOD, "dash": "dash"}),
        curve("stop", [box[0], after[1]], [chart["stop"]] * 2, BAD, line={"color": BAD, "dash": "dash"}),
    ]
    lines[0].update(fill="toself", opacity=0.35)
    mark = {"type": "line", "x0": box[1], "x1": box[1], "y0": 0, "y1": 1, "yref": "paper"}
    mark["line"] = {"color": GREY, "dash": "dot", "width": 1}
    x = axis("", rangeslider={"visible": False}, rangebreaks=[{"bounds": ["sat", "mon"]}])
    return figure(title, [bars, *lines], "", "price", xaxis=x, shapes=[mark])


def equity(curves: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Equity and drawdown of several rules; each curve has name, dates, equity and drawdown."""
    out = []
    for key, title, unit in (("equity", "Equity after costs", "multiple of the start"), ("drawdown", "Drawdown", "")):
        lines = [
            curve(c["name"], c["dates"], c[key], "", line={"color": colour, "dash": dash})
            for c, (dash, colour) in zip(curves, itertools.product(DASHES, SERIES))
        ]
        out.append(figure(title, lines, "", unit))
    return out


def report_figures(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The figures of how good the model is, those without rows left out."""
    made = [gain(report), reliability(report), *by_month(report)]
    return [f for f in made if f is not None]
