"""Pattern channels, masks and model inputs in plain Python loops, written from docs/features.md; shares no code.

The numbers of the canonical table are written out here on purpose.
"""

from __future__ import annotations

import math

NAN = float("nan")
P_LEVEL = {5, 6, 7, 49, 50, 51, 52, 59, 60, 61}
P_WIDTH = {16, 46, 48}
VOLUME = {8}
COUNT = {1, 2, 4, 41, 65, 66, 69}
PATTERN = {1, 2, 3, 4, 23, 24, 25, 26, 49, 50, 51, 52, 67, 69}


def divide(a: float, b: float) -> float:
    return a / b if b != 0 else NAN


def pattern_channels(close: list[float], high: list[float], low: list[float], t: int, p: dict) -> dict[int, float]:
    """The 14 channels at bar t; p holds start and activation (bar numbers), upper, lower, power, qualifying."""
    upper, lower, power, start = p["upper"], p["lower"], p["power"], p["start"]
    seen = [b for b in range(len(close)) if start <= b <= t]
    w0 = NAN
    if start >= 20:
        w0 = max(high[start - 20 : start]) - min(low[start - 20 : start])
    return {
        1: t - p["activation"],
        2: t - start,
        3: divide(upper - lower, lower) * 100,
        4: len(seen),
        23: divide(close[t] - lower, upper - lower),
        24: divide(upper - close[t], close[t]) * 100,
        25: divide(close[t] - lower, close[t]) * 100,
        26: divide(power - close[t], close[t]) * 100,
        49: close[start],
        50: upper,
        51: lower,
        52: power,
        67: divide(w0 - (upper - lower), w0) * 100,
        69: p["qualifying"],
    }


def scale_free(number: int, x: float, price: float, snapshot_close: float, mean_volume: float, clip) -> float:
    """Model input of channel `number` before standardisation."""
    if math.isnan(x):
        return NAN
    if number in P_LEVEL:
        return math.log(x / snapshot_close)
    if number in P_WIDTH:
        return x / price
    if number in VOLUME:
        return NAN if math.isnan(mean_volume) or mean_volume == 0 else math.log(0.01 + x / mean_volume)
    if number in COUNT:
        return math.copysign(math.log1p(abs(x)), x)
    return min(max(x, clip[0]), clip[1])
