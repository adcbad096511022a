"""A slow, independent reading of docs/patterns.md in plain Python loops; shares no code with the package.

Lists of floats in, tuples out, one ticker at a time. The four criteria are computed here too, straight from rows 9 to
13 of docs/features.md, with exactly rounded sums, so that the whole way from bars to activation bars is checked.
"""

from __future__ import annotations

import hashlib
import math

NAN = float("nan")


def bollinger_width(close: list[float]) -> list[float]:
    """bbw_20: 4 * std_20 / mean_20 * 100 (ddof 0), rounded to 9 decimals; NaN before 20 bars."""
    out = []
    for t in range(len(close)):
        if t < 19:
            out.append(NAN)
            continue
        window = close[t - 19 : t + 1]
        mean = math.fsum(window) / 20
        variance = math.fsum((c - mean) ** 2 for c in window) / 20
        out.append(round(4 * math.sqrt(variance) / mean * 100, 9))
    return out


def strict_rank_share(values: list[float], n: int) -> list[float]:
    """Share of the last n values strictly below the current one; NaN while one of them is missing."""
    out = []
    for t in range(len(values)):
        window = values[max(0, t - n + 1) : t + 1]
        if len(window) < n or any(math.isnan(v) for v in window):
            out.append(NAN)
        else:
            out.append(sum(1 for v in window if v < values[t]) / n)
    return out


def ratio_to_mean_20(values: list[float]) -> list[float]:
    """value / mean of the last 20, NaN before 20 bars and where the mean is zero."""
    out = []
    for t in range(len(values)):
        if t < 19:
            out.append(NAN)
            continue
        mean = math.fsum(values[t - 19 : t + 1]) / 20
        out.append(values[t] / mean if mean != 0 else NAN)
    return out


def wilder_adx(high: list[float], low: list[float], close: list[float], n: int = 14) -> list[float]:
    """Wilder's ADX as TA-Lib starts it, with directional moves that tie within 1e-6 of the previous close ignored."""
    out = [NAN] * len(close)
    plus = minus = true_range = 0.0
    directions: list[float] = []
    adx = NAN
    for t in range(1, len(close)):
        up = max(high[t] - high[t - 1], 0.0)
        down = max(low[t - 1] - low[t], 0.0)
        tie = abs(up - down) < 1e-6 * close[t - 1]
        plus_move = up if up > down and not tie else 0.0
        minus_move = down if down > up and not tie else 0.0
        tr = max(high[t], close[t - 1]) - min(low[t], close[t - 1])
        if t < n:  # the first n - 1 moves are summed
            plus, minus, true_range = plus + plus_move, minus + minus_move, true_range + tr
            continue
        plus = plus - plus / n + plus_move
        minus = minus - minus / n + minus_move
        true_range = true_range - true_range / n + tr
        dx = None
        if true_range > 0 and plus + minus > 0:
            p, m = plus / true_range, minus / true_range
            dx = 100 * abs(p - m) / (p + m)
        if t < 2 * n:
            directions.append(0.0 if dx is None else dx)
            if t == 2 * n - 1:
                adx = math.fsum(directions) / n
                out[t] = adx
            continue
        if dx is not None:
            adx = (adx * (n - 1) + dx) / n
        out[t] = adx
    return out


def criteria(high: list[float], low: list[float], close: list[float], volume: list[float]) -> list[tuple]:
    """(bbw_percentile, adx, volume_ratio, range_ratio) of each bar."""
    percentile = strict_rank_share(bollinger_width(close), 100)
    adx = wilder_adx(high, low, close)
    volume_ratio = ratio_to_mean_20(volume)
    range_ratio = ratio_to_mean_20([h - lo for h, lo in zip(high, low)])
    return list(zip(percentile, adx, volume_ratio, range_ratio))


def patterns(high, low, close, volume, config, given_criteria=None) -> list[dict]:
    """Every pattern of one ticker that counts: bar numbers of start, activation, end (None while open), geometry."""
    values = given_criteria if given_criteria is not None else criteria(high, low, close, volume)
    found = []
    state = "NONE"
    qualifying: list[int] = []
    current: dict = {}
    for t in range(len(close)):
        if state == "ACTIVE":
            ending = None
            if close[t] > current["power"]:
                ending = "breakout"
            elif close[t] < current["lower"]:
                ending = "breakdown"
            elif t - current["activation"] == config.max_active_bars:
                ending = "timeout"
            if ending is not None:
                current["end"], current["reason"] = t, ending
                state, qualifying = "NONE", []
            continue
        bbw_percentile, adx, volume_ratio, range_ratio = values[t]
        good = bbw_percentile < config.bbw_percentile_max and (
            [
                adx < config.adx_max,
                volume_ratio < config.volume_ratio_max,
                range_ratio < config.range_ratio_max,
            ].count(True)
            >= config.min_other
        )
        if not good:
            state, qualifying = "NONE", []
            continue
        state = "QUALIFYING"
        qualifying.append(t)
        if len(qualifying) == config.qualifying_bars:
            top = max(high[k] for k in qualifying)
            current = {
                "start": qualifying[0],
                "activation": t,
                "end": None,
                "reason": "open",
                "upper": top,
                "lower": min(low[k] for k in qualifying),
                "power": top * config.power_factor,
            }
            found.append(current)
            state = "ACTIVE"
    return [p for p in found if p["activation"] + 1 >= config.min_history_bars]


def race_class(gains: list[float], losses: list[float], upper: float, lower: float) -> int:
    """The race of docs/patterns.md on the later bars, thresholds written out as in its table."""
    stop_bar = next((t for t, value in enumerate(losses) if value <= 0.90 * lower), None)
    before_stop = gains if stop_bar is None else gains[:stop_bar]
    best = 0
    for cls, factor in ((1, 1.05), (2, 1.15), (3, 1.35), (4, 1.75)):
        if any(value >= factor * upper for value in before_stop):
            best = cls
    if stop_bar is None:
        return best
    if best == 0:
        return 5
    if best == 3 and any(value >= 1.75 * upper for value in gains[stop_bar:]):
        return 4
    return best


def first_breach_class(gains: list[float], losses: list[float], upper: float, lower: float) -> int:
    """The second rule: bar by bar K5, K4, K3; without a breach the best gain decides."""
    for gain, loss in zip(gains, losses):
        if loss <= 0.90 * lower:
            return 5
        if gain >= 1.75 * upper:
            return 4
        if gain >= 1.35 * upper:
            return 3
    best = max(gains, default=0.0)
    return 2 if best >= 1.15 * upper else 1 if best >= 1.05 * upper else 0


def label(row, days, high, low, close, upper, lower, config, sessions_after, data_end):
    """(class, known day, censored, bars used) of the snapshot on bar `row` of one ticker, or None when not known.

    Walks through time: day by day of `data_end` back from the snapshot it asks what an observer of that evening knows.
    `sessions_after(day, n)` is the n-th exchange session after a day; all days are ints.
    """
    horizon_day = sessions_after(days[row], config.horizon_bars)
    bar = row
    for day in range(days[row], data_end + 1):
        if bar + 1 < len(days) and days[bar + 1] == day:
            bar += 1
        ordinary = bar - row == config.horizon_bars
        silent = day >= sessions_after(days[bar], config.delisted_after_sessions + 1)
        if not ordinary and not (silent and day >= horizon_day):
            continue
        later = slice(row + 1, bar + 1)
        by_close = config.measured_on == "close"
        gains = (close if by_close else high)[later]
        losses = (close if by_close else low)[later]
        decide = race_class if config.labeling == "race" else first_breach_class
        return decide(gains, losses, upper, lower), day, not ordinary, bar - row
    return None


def sampling_number(seed: int, ticker: str, day: int) -> float:
    """The documented hash of (seed, ticker, date) in Python integers."""
    mask = 2**64 - 1

    def mix(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) & mask
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
        return x ^ (x >> 31)

    digest = int.from_bytes(hashlib.blake2b(ticker.encode(), digest_size=8).digest(), "little")
    return (mix(mix(mix(seed & mask) ^ digest) ^ (day & mask)) >> 11) / 2**53
