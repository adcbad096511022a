"""Small pictures for asset metadata: bar charts as Markdown images.

Dagster's asset page draws Markdown in place only where it is shorter than 1,000 characters, which rules out what a
plotting library writes; so a chart is a few lines of SVG.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 240, 60  # pixels of the bars
ALL_LABELS = 8  # up to so many bars each has its label; beyond, the first and the last


def bar_image(title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """A Markdown image (SVG inside) of a bar chart; NaN is drawn as no bar, the largest value stands in its title."""
    top = max((v for v in values if v == v), default=0)
    step = max(WIDTH // max(len(values), 1), 4)
    gap = step // 4 if len(values) <= 2 * ALL_LABELS else 0
    between = f"V{HEIGHT}h{gap}" if gap else ""
    bars = "".join(f"V{_top_of(v, top)}h{step - gap}{between}" for v in values)
    shown = range(len(values)) if len(values) <= ALL_LABELS else (0, len(values) - 1)
    texts = "".join(f'<text x="{i * step}" y="{HEIGHT + 12}">{escape(str(labels[i]))}</text>' for i in shown)
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{(len(values) + 2) * step}" height="{HEIGHT + 16}" '
        f'font-size="11" fill="gray"><path fill="#2563eb" d="M0 {HEIGHT}{bars}V{HEIGHT}z"/>{texts}</svg>'
    )
    picture = base64.b64encode(svg.encode()).decode()
    return f"**{title}** (highest bar: {top:,.4g})\n\n![{title}](data:image/svg+xml;base64,{picture})"


def candle_image(chart: dict[str, Any], most: int = 28) -> str:
    """A Markdown image (SVG inside) of the last bars as candlesticks with the box, the power line above it (dashed) and
    the stop (red, dashed); `chart` as made by `evaluation.charts.pattern_chart`."""
    n = min(most, len(chart["dates"]))
    width = 8 * n
    high, low, opened, close = (chart[name][-n:] for name in ("high", "low", "open", "close"))
    top, bottom = max([*high, chart["power"]]), min([*low, chart["stop"]])

    def y(price: float) -> int:
        return round((HEIGHT - 2) * (top - price) / ((top - bottom) or 1.0)) + 1

    drawn = ""
    for colour, rising in (("green", True), ("red", False)):
        rows = [i for i in range(n) if (close[i] >= opened[i]) == rising]
        wicks = "".join(f"M{8 * i + 4} {y(high[i])}V{y(low[i])}" for i in rows)
        bodies = "".join(f"M{8 * i + 4} {y(opened[i])}V{y(close[i])}v1" for i in rows)
        drawn += f'<path stroke="{colour}" d="{wicks}"/><path stroke="{colour}" stroke-width="5" d="{bodies}"/>'
    for colour, name in (("#2563eb", "power"), ("red", "stop")):
        drawn += f'<path stroke="{colour}" stroke-dasharray="4" d="M0 {y(chart[name])}h{width}"/>'
    upper, lower = y(chart["upper"]), y(chart["lower"])
    box = f'<rect y="{upper}" width="{width}" height="{lower - upper}" fill="#2563eb33"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}">{box}{drawn}</svg>'
    picture = base64.b64encode(svg.encode()).decode()
    return f"![{escape(chart['ticker'])}](data:image/svg+xml;base64,{picture})"


def _top_of(value: float, top: float) -> int:
    return HEIGHT - (round((HEIGHT - 4) * value / top) if value == value and top > 0 else 0)
