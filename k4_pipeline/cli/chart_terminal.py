"""A candlestick chart in characters: one column per bar, or per few bars where there are more than columns."""

from __future__ import annotations

from typing import Any

HEIGHT = 18
LABEL = 10


def terminal_chart(chart: dict[str, Any], width: int = 80, height: int = HEIGHT) -> str:
    """The bars of `evaluation.charts.pattern_chart` as text: `┃` body, `│` wick, `─` box, `=` power line, `x` stop."""
    columns = max(width - LABEL - 1, 10)
    n = len(chart["dates"])
    per = -(-n // columns)
    groups = [range(i, min(i + per, n)) for i in range(0, n, per)]
    low = min([*chart["low"], chart["stop"], chart["lower"]])
    high = max([*chart["high"], chart["power"]])
    step = (high - low) / (height - 1) or 1.0

    def line_of(price: float) -> int:
        return min(max(round((high - price) / step), 0), height - 1)

    canvas = [[" "] * len(groups) for _ in range(height)]
    column = {i: c for c, group in enumerate(groups) for i in group}
    at = {day: i for i, day in enumerate(chart["dates"])}
    start = column[at.get(chart["start"], 0)]
    end = column[at.get(chart["snapshot"], n - 1)]
    for price, mark, last in (
        (chart["stop"], "x", len(groups) - 1),
        (chart["upper"], "─", end),
        (chart["lower"], "─", end),
        (chart["power"], "=", len(groups) - 1),  # last: it lies close above the box
    ):
        for c in range(start, last + 1):
            canvas[line_of(price)][c] = mark
    for c, group in enumerate(groups):
        opened, closed = chart["open"][group[0]], chart["close"][group[-1]]
        for y in range(line_of(max(chart["high"][i] for i in group)), line_of(min(chart["low"][i] for i in group)) + 1):
            canvas[y][c] = "│"
        for y in range(line_of(max(opened, closed)), line_of(min(opened, closed)) + 1):
            canvas[y][c] = "┃" if closed >= opened else "░"
    lines = [f"{high - y * step:>{LABEL}.4g} {''.join(row)}" for y, row in enumerate(canvas)]
    foot = [" "] * len(groups)
    foot[start], foot[end] = "[", "|"
    lines.append(" " * (LABEL + 1) + "".join(foot))
    days = f"{chart['dates'][0]} to {chart['dates'][-1]}, {per} bar{'s' if per > 1 else ''} a column"
    lines.append(f"{chart['ticker']}: {days}; [ start {chart['start']}, | snapshot {chart['snapshot']}")
    lines.append("┃ rising  ░ falling  ─ box  = power line  x stop; bars right of | came later")
    return "\n".join(lines)
