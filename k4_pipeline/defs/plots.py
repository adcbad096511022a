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
    """A Markdown image (SVG inside) of the last bars: range and close of each, green where it closed above its open,
    with the
    box; `chart` as made by `evaluation.charts.pattern_chart`."""
    n = min(most, len(chart["dates"]))
    high, low, opened, close = (chart[name][-n:] for name in ("high", "low", "open", "close"))
    top, bottom = max([*high, chart["upper"]]), min([*low, chart["lower"]])

    def y(price: float) -> int:
        return round(HEIGHT * (top - price) / ((top - bottom) or 1.0))

    paths = {"green": "", "red": ""}
    for i in range(n):
        colour = "green" if close[i] >= opened[i] else "red"
        paths[colour] += f"M{8 * i + 3} {y(high[i])}V{y(low[i])}M{8 * i + 3} {y(close[i])}h4"
    drawn = "".join(f'<path stroke="{colour}" d="{path}"/>' for colour, path in paths.items() if path)
    upper, lower = y(chart["upper"]), y(chart["lower"])
    box = f'<rect y="{upper}" width="{8 * n}" height="{lower - upper}" fill="#2563eb33"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" width="{8 * n}" height="{HEIGHT}">{box}{drawn}</svg>'
    picture = base64.b64encode(svg.encode()).decode()
    return f"![{escape(chart['ticker'])}](data:image/svg+xml;base64,{picture})"


def _top_of(value: float, top: float) -> int:
    return HEIGHT - (round((HEIGHT - 4) * value / top) if value == value and top > 0 else 0)
