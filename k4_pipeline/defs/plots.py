"""Small pictures for asset metadata: bar charts as Markdown images.

Dagster's asset page draws Markdown in place only where it is shorter than 1,000 characters, which rules out what a
plotting library writes; so a chart is a few lines of SVG.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

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


def _top_of(value: float, top: float) -> int:
    return HEIGHT - (round((HEIGHT - 4) * value / top) if value == value and top > 0 else 0)
