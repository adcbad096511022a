"""Small pictures for asset metadata: bar charts as Markdown images."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence


def bar_image(title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """A Markdown image (PNG inside) of a bar chart; NaN is drawn as no bar, the largest value stands in its title."""
    from matplotlib.figure import Figure

    narrow = len(values) > 16
    figure = Figure(figsize=(max(2.4, len(values) * (0.1 if narrow else 0.6)), 1.8), dpi=80, layout="constrained")
    axes = figure.add_subplot()
    axes.bar(range(len(values)), [v if v == v else 0.0 for v in values], color="#2563eb")
    every = max(1, len(values) // 8) if narrow else 1
    axes.set_xticks(range(0, len(values), every), [str(label) for label in labels[::every]], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    top = max((v for v in values if v == v), default=0)
    picture = base64.b64encode(data.getvalue()).decode()
    return f"**{title}** (highest bar: {top:,.4g})\n\n![{title}](data:image/png;base64,{picture})"
