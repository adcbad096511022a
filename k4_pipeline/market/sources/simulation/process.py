"""One bar of the simulated market from the bar before it: the only place where the process is written down.

`advance` is used twice: to make the history (`simulate_path`) and to continue it from a hidden state
(evaluation/truth.py), so that true probabilities and history cannot disagree. simulated.py describes the process.
"""

from __future__ import annotations

import math

import numpy as np

from k4_pipeline._numba import njit

# Hidden state of a ticker at the close of a bar: float64 (N_STATE,)
LOG_PRICE = 0  # log of the unrounded, unadjusted close
REGIME = 1
AGE = 2  # bars since the regime began
LOG_VOL = 3  # log-volatility deviation of the loud state
QUIET = 4  # log of the volatility multiplier of the consolidation reached so far
VOLUME_NOISE = 5
N_STATE = 6

LOUD, CONSOLIDATION, SQUEEZE, RUN = 0, 1, 2, 3

# One bar: float64 (N_BAR,), unadjusted prices in cents precision, whole shares
OPEN, HIGH, LOW, CLOSE, VOLUME = 0, 1, 2, 3, 4
N_BAR = 5


@njit
def first_state(rng, p, log_price, state):
    """A ticker on the eve of its first bar: loud, with stationary volatility and volume."""
    state[LOG_PRICE] = log_price
    state[REGIME] = LOUD
    state[AGE] = 0.0
    state[LOG_VOL] = p.vol_sd * rng.standard_normal()
    state[QUIET] = 0.0
    state[VOLUME_NOISE] = p.volume_sd * rng.standard_normal()


@njit
def cents(log_price):
    """The quoted price, at least one cent."""
    return max(1.0, math.floor(math.exp(log_price) * 100.0 + 0.5)) / 100.0


@njit
def advance(rng, p, market, state, bar):
    """Draw the next bar into `bar` (N_BAR,) and move `state` (N_STATE,) to its close.

    `market` is the market's standardised shock of that bar. The regime moves first, then volatility, so both are fixed
    before the bar's return is drawn: without run drift and squeeze jumps the close is an exact martingale.
    """
    regime = int(state[REGIME])
    state[AGE] += 1.0
    move = rng.random()
    if regime == LOUD:
        if state[AGE] > p.min_loud and move < p.enter_quiet:
            regime = SQUEEZE if move < p.enter_quiet * p.squeeze_share else CONSOLIDATION
            state[AGE] = 0.0
            state[QUIET] = 0.0
    elif regime == RUN:
        if move < p.exit_run:
            regime = LOUD
            state[AGE] = 0.0
            state[LOG_VOL] = p.vol_sd * rng.standard_normal()
    elif move < (p.exit_squeeze if regime == SQUEEZE else p.exit_quiet):
        # Volatility is drawn afresh: what was seen before and during the consolidation says nothing about it.
        regime = LOUD
        state[AGE] = 0.0
        state[LOG_VOL] = p.vol_sd * rng.standard_normal()

    pressure = min(1.0, state[AGE] / p.pressure_bars) if regime == SQUEEZE else 0.0
    jump = 0.0
    arrival = rng.random()
    if arrival < p.jump_hazard + pressure * p.squeeze_hazard:
        if rng.random() < p.jump_up_share:
            jump = p.jump_up_mean + p.jump_up_sd * rng.standard_normal()
            regime = RUN
        else:
            jump = p.jump_down_mean + p.jump_down_sd * rng.standard_normal()
            regime = LOUD
            state[LOG_VOL] = p.vol_sd * rng.standard_normal()
        state[AGE] = 0.0
    state[REGIME] = regime

    log_mult = 0.0
    drift = 0.0
    if regime == LOUD:
        fresh = p.vol_sd * math.sqrt(1.0 - p.vol_phi * p.vol_phi)
        state[LOG_VOL] = p.vol_phi * state[LOG_VOL] + fresh * rng.standard_normal()
        log_mult = state[LOG_VOL]
    elif regime == RUN:
        log_mult = p.run_log_mult
        drift = p.run_drift
    else:
        state[QUIET] += p.quiet_speed * (p.quiet_log_mult - state[QUIET])
        log_mult = state[QUIET]
    noise = p.vol_noise * rng.standard_normal() - p.vol_noise * p.vol_noise
    sigma = math.exp(p.log_vol + log_mult + noise)

    night = sigma * math.sqrt(p.gap_share)
    day = sigma * math.sqrt(1.0 - p.gap_share)
    gap = night * rng.standard_normal() - 0.5 * night * night + drift + jump - p.compensation
    shock = p.market_corr * market + math.sqrt(1.0 - p.market_corr * p.market_corr) * rng.standard_normal()
    body = day * shock - 0.5 * day * day
    # Extremes of a Brownian bridge from open to close; maximum and minimum are drawn independently of each other.
    rise = 0.5 * (body + math.sqrt(body * body - 2.0 * day * day * math.log(1.0 - rng.random())))
    fall = 0.5 * (body - math.sqrt(body * body - 2.0 * day * day * math.log(1.0 - rng.random())))
    opening = state[LOG_PRICE] + gap
    state[LOG_PRICE] = opening + body
    bar[OPEN] = cents(opening)
    bar[HIGH] = cents(opening + rise)
    bar[LOW] = cents(opening + fall)
    bar[CLOSE] = cents(opening + body)

    fresh = p.volume_sd * math.sqrt(1.0 - p.volume_phi * p.volume_phi)
    state[VOLUME_NOISE] = p.volume_phi * state[VOLUME_NOISE] + fresh * rng.standard_normal()
    log_volume = p.log_volume + state[VOLUME_NOISE] + p.volume_vol_slope * log_mult
    log_volume += p.volume_move_slope * min(6.0, abs(jump + drift + body + gap) / sigma)
    log_volume += pressure * (p.trace + (p.trace_up if body > 0 else -p.trace_up))
    bar[VOLUME] = max(1.0, math.floor(math.exp(log_volume)))


@njit
def simulate_path(rng, p, market, log_price, bars, states, ratios):
    """History of one ticker, from its first bar to its delisting or to the last bar.

    `market` (n,) shocks; fills `bars` (n, N_BAR) unadjusted, `states` (n, N_STATE) and `ratios` (n,) (new shares per
    old one on the bar's morning, 1 without a split). Returns the number of bars before the delisting. Every random
    number is drawn in the order of the bars: a longer history begins with the shorter one.
    """
    state = np.empty(N_STATE)
    first_state(rng, p, log_price, state)
    for i in range(len(market)):
        ratio = 1.0
        price = math.exp(state[LOG_PRICE])
        event = rng.random()
        if price > p.split_above and event < p.split_hazard:
            ratio = 2.0 if rng.random() < 0.6 else 4.0
        elif price < p.reverse_below and event < p.reverse_hazard:
            ratio = 0.1
        ratios[i] = ratio
        state[LOG_PRICE] -= math.log(ratio)
        advance(rng, p, market[i], state, bars[i])
        states[i] = state
        if rng.random() < p.delist_hazard:
            return i + 1
    return len(market)
