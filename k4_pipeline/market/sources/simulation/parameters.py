"""The constants of the simulated market: one set per world, and what differs between tickers.

Belongs here: every number of the process. Does not belong here: how a bar is made from them (process.py).
"""

from __future__ import annotations

import hashlib
import math
from typing import NamedTuple

import numpy as np

from k4_pipeline.errors import ConfigError

MAX_TICKERS = 10_000  # names are S0000 .. S9999


class Params(NamedTuple):
    """Everything one bar of one ticker depends on besides its hidden state. Logs are natural, times in bars."""

    log_vol: float  # log of the usual daily volatility in the loud state
    vol_sd: float  # stationary sd of the log-volatility in the loud state
    vol_phi: float  # its AR(1) coefficient
    vol_noise: float  # sd of the independent log-volatility noise of a single bar (fat tails)
    market_corr: float  # correlation of the intraday move with the market's
    gap_share: float  # share of a bar's variance that falls overnight
    quiet_log_mult: float  # log of the volatility multiplier deep inside a consolidation
    quiet_speed: float  # share of the way to that multiplier covered per bar
    min_loud: float  # bars the loud state lasts at least
    enter_quiet: float  # hazard of a consolidation after that
    exit_quiet: float  # hazard of its quiet end
    exit_squeeze: float  # the same for a squeeze
    squeeze_share: float  # share of consolidations that are squeezes (in the null world: decoys)
    pressure_bars: float  # bars until a squeeze has its full hazard and volume trace
    jump_hazard: float  # jumps in every state, compensated by drift
    squeeze_hazard: float  # additional jumps under full pressure, not compensated
    jump_up_share: float
    jump_up_mean: float  # log size
    jump_up_sd: float
    jump_down_mean: float
    jump_down_sd: float
    compensation: float  # log of the expected factor of a bar through `jump_hazard`
    run_drift: float  # log drift per bar of the run after an upward jump
    run_log_mult: float  # log of the volatility multiplier of a run
    exit_run: float  # hazard of its end
    log_volume: float  # log of the usual number of shares per bar
    volume_vol_slope: float  # log volume per log volatility
    volume_move_slope: float  # log volume per absolute standardised move
    volume_phi: float  # AR(1) of the volume noise
    volume_sd: float  # its stationary sd
    trace: float  # log volume added under full pressure
    trace_up: float  # further log volume on rising bars under full pressure, taken away on falling ones
    delist_hazard: float
    split_hazard: float  # per bar above `split_above`
    split_above: float  # unadjusted price
    reverse_hazard: float  # per bar below `reverse_below`
    reverse_below: float


_COMMON = {
    "vol_sd": 0.40,
    "vol_phi": 0.94,
    "vol_noise": 0.40,
    "gap_share": 0.20,
    "min_loud": 40.0,
    "enter_quiet": 1 / 45,
    "exit_quiet": 1 / 80,
    "squeeze_share": 0.13,
    "pressure_bars": 25.0,
    "jump_up_share": 0.85,
    "jump_up_sd": 0.20,
    "jump_down_mean": -0.30,
    "jump_down_sd": 0.10,
    "run_log_mult": math.log(1.8),
    "exit_run": 1 / 12,
    "volume_vol_slope": 0.40,
    "volume_move_slope": 0.25,
    "volume_phi": 0.50,
    "volume_sd": 0.40,
    "trace": 0.35,
    "trace_up": 0.50,
    "delist_hazard": 8e-5,
    "split_hazard": 0.02,
    "split_above": 110.0,
    "reverse_hazard": 0.05,
    "reverse_below": 4.0,
}
# The null world has deeper consolidations and a weaker market factor: narrow channels far from the barriers and nearly
# independent tickers leave as little as possible to chance. Its decoy squeezes end as any consolidation does.
_WORLDS = {
    "squeeze": {
        "log_vol": math.log(0.020),
        "market_corr": 0.35,
        "quiet_log_mult": math.log(0.18),
        "quiet_speed": 0.22,
        "exit_squeeze": 1 / 120,
        "jump_hazard": 2.5e-5,
        "squeeze_hazard": 0.013,
        "jump_up_mean": 0.48,
        "run_drift": 0.02,
    },
    "null": {
        "log_vol": math.log(0.026),
        "market_corr": 0.15,
        "quiet_log_mult": math.log(0.09),
        "quiet_speed": 0.45,
        "exit_squeeze": 1 / 80,
        "jump_hazard": 4.5e-4,
        "squeeze_hazard": 0.0,
        "jump_up_mean": 0.75,
        "run_drift": 0.0,
    },
}
# Between tickers, squeeze world only:
_LOG_VOL_SD = 0.40
_JUMP_VOL_POWER = 0.35  # the mean log size of an upward jump grows with this power of the volatility


def stream(seed: int, name: str, purpose: str) -> np.random.Generator:
    """The random stream of one ticker (or of the market) for one purpose; depends on nothing else."""
    digest = hashlib.sha256(f"{seed}|{name}|{purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(np.frombuffer(digest, dtype=np.uint32)))


def ticker_names(n_tickers: int) -> list[str]:
    """S0000, S0001, ...: a smaller universe is the beginning of a larger one."""
    if not 1 <= n_tickers <= MAX_TICKERS:
        raise ConfigError(f"simulation.n_tickers is {n_tickers}; use 1 to {MAX_TICKERS}")
    return [f"S{i:04d}" for i in range(n_tickers)]


def ticker_params(world: str, seed: int, ticker: str) -> Params:
    """The parameters of one ticker. In the null world tickers differ in their usual volume alone."""
    if world not in _WORLDS:
        raise ConfigError(f"simulation.world is {world!r}; use one of {', '.join(sorted(_WORLDS))}")
    values = {**_COMMON, **_WORLDS[world]}
    character = stream(seed, ticker, "character").standard_normal(2)
    values["log_volume"] = 12.5 + float(character[1])
    if world == "squeeze":
        louder = _LOG_VOL_SD * float(character[0])
        values["log_vol"] += louder
        values["jump_up_mean"] *= math.exp(_JUMP_VOL_POWER * louder)
    up = math.exp(values["jump_up_mean"] + values["jump_up_sd"] ** 2 / 2)
    down = math.exp(values["jump_down_mean"] + values["jump_down_sd"] ** 2 / 2)
    mean_factor = values["jump_up_share"] * up + (1 - values["jump_up_share"]) * down
    return Params(compensation=math.log1p(values["jump_hazard"] * (mean_factor - 1)), **values)
