"""Channels of activity and movement: features 33-36 (inactive mass, energy of returns, rarity of momentum, score)."""

from __future__ import annotations

import numpy as np

from k4_pipeline._numba import njit
from k4_pipeline.features.kernels.elementary import exp, log
from k4_pipeline.features.kernels.rolling import rank_share_rows
from k4_pipeline.features.kernels.window_sums import join, nothing, spread_8, sums_8
from k4_pipeline.features.layout import channel_row, helper_row, row, start
from k4_pipeline.simd.simd_f64 import LANES, clip, divide, earlier_4, load, splat, square_root, store

_MASS_RANK = channel_row("nes_inactive_mass")
_WAVELET = channel_row("nes_wavelet_energy")
_RSA = channel_row("nes_rsa_proxy")
_NES = channel_row("nes_score")
_MOMENTUM = channel_row("price_momentum_20d")
_RETURN = helper_row("return")
_MASS = helper_row("mass")
_WORK = helper_row("work_0")


@njit
def mass_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 33."""
    rank_share_rows(buffer, start(_MASS, stride), start(_MASS_RANK, stride), n)


@njit
def energy_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 34."""
    source, out, work = start(_RETURN, stride), start(_WAVELET, stride), start(_WORK, stride)
    std5, std10, std20 = start(_WORK + 1, stride), start(_WORK + 2, stride), start(_WORK + 3, stride)
    none, zero = nothing(), splat(0.0)
    levels = (none, none, none, none, none)
    eight1, dev_eight1, four2, dev_four2 = none, none, none, none
    for i in range(0, n, LANES):
        r = load(buffer, source + i)
        two, dev_two, four, dev_four, eight, dev_eight = spread_8(r, levels)
        _, dev_five = join(four, dev_four, 4.0, earlier_4(levels[0], r), zero, 1.0)
        _, dev_ten = join(eight, dev_eight, 8.0, levels[1], levels[2], 2.0)
        sixteen, dev_sixteen = join(eight, dev_eight, 8.0, eight1, dev_eight1, 8.0)
        _, dev_twenty = join(sixteen, dev_sixteen, 16.0, four2, dev_four2, 4.0)
        store(buffer, std5 + i, square_root(dev_five * (1.0 / 5.0)))
        store(buffer, std10 + i, square_root(dev_ten * (1.0 / 10.0)))
        store(buffer, std20 + i, square_root(dev_twenty * (1.0 / 20.0)))
        store(buffer, out + i, zero)
        eight1, dev_eight1, four2, dev_four2 = eight, dev_eight, levels[3], levels[4]
        levels = (r, two, dev_two, four, dev_four)
    add_share_of_mean_50(buffer, std5, work, out, n)
    add_share_of_mean_50(buffer, std10, work, out, n)
    add_share_of_mean_50(buffer, std20, work, out, n)
    for i in range(0, n, LANES):
        store(buffer, out + i, load(buffer, out + i) * (1.0 / 3.0))


@njit
def add_share_of_mean_50(buffer: np.ndarray, x: int, work: int, out: int, n: int) -> None:
    """Add x / mean_50(x) to row `out`; row `work` is overwritten."""
    none = nothing()
    levels, two2, eight1, sixteen1, sixteen2 = (none, none, none), none, none, none, none
    for i in range(0, n, LANES):
        value = load(buffer, x + i)
        two, four, eight = sums_8(value, levels)
        sixteen = eight + eight1
        total = (sixteen + sixteen2) + load(buffer, work + i - 32)
        store(buffer, work + i, sixteen + two2)
        store(buffer, out + i, load(buffer, out + i) + divide(value, total * (1.0 / 50.0)))
        two2, levels = levels[1], (value, two, four)
        eight1, sixteen2, sixteen1 = eight, sixteen1, sixteen


@njit
def rarity_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 35."""
    source, out = start(_MOMENTUM, stride), start(_RSA, stride)
    # Sums and deviations of 4, 32 and 36 bars, which longer ones read 32 or 64 bars later.
    four_to, dev_four_to = start(_WORK, stride), start(_WORK + 1, stride)
    thirty_two_to, dev_thirty_two_to = start(_WORK + 2, stride), start(_WORK + 3, stride)
    thirty_six_to, dev_thirty_six_to = start(_WORK + 4, stride), start(_WORK + 5, stride)
    none = nothing()
    levels = (none, none, none, none, none)
    eight1, dev_eight1, sixteen1, dev_sixteen1, sixteen2, dev_sixteen2 = none, none, none, none, none, none
    for i in range(0, n, LANES):
        x = load(buffer, source + i)
        two, dev_two, four, dev_four, eight, dev_eight = spread_8(x, levels)
        sixteen, dev_sixteen = join(eight, dev_eight, 8.0, eight1, dev_eight1, 8.0)
        a, b = join(sixteen, dev_sixteen, 16.0, sixteen2, dev_sixteen2, 16.0)
        c, d = load(buffer, four_to + i - 32), load(buffer, dev_four_to + i - 32)
        e, f = join(a, b, 32.0, c, d, 4.0)
        c, d = load(buffer, thirty_two_to + i - 32), load(buffer, dev_thirty_two_to + i - 32)
        c, d = join(a, b, 32.0, c, d, 32.0)
        store(buffer, four_to + i, four)
        store(buffer, dev_four_to + i, dev_four)
        store(buffer, thirty_two_to + i, a)
        store(buffer, dev_thirty_two_to + i, b)
        a, b = load(buffer, thirty_six_to + i - 64), load(buffer, dev_thirty_six_to + i - 64)
        store(buffer, thirty_six_to + i, e)
        store(buffer, dev_thirty_six_to + i, f)
        total, deviation = join(c, d, 64.0, a, b, 36.0)
        std = square_root(deviation * (1.0 / 100.0))
        store(buffer, out + i, clip(divide(x - total * (1.0 / 100.0), std), -3.0, 3.0))
        eight1, dev_eight1, levels = eight, dev_eight, (x, two, dev_two, four, dev_four)
        sixteen2, dev_sixteen2, sixteen1, dev_sixteen1 = sixteen1, dev_sixteen1, sixteen, dev_sixteen


@njit
def energy_score_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    """Feature 36 from 33-35. Powers of 0.3, 0.4, 0.3 as whole powers under one tenth root."""
    mass, wavelet, rsa = start(_MASS_RANK, stride), start(_WAVELET, stride), start(_RSA, stride)
    out = start(_NES, stride)
    for i in range(0, n, LANES):
        a, b = clip(load(buffer, mass + i), 1e-10, 1.0), clip(load(buffer, wavelet + i), 0.1, 10.0)
        c = clip(load(buffer, rsa + i) + 1.0, 0.1, 10.0)
        square = b * b
        store(buffer, out + i, ((a * a) * a) * (square * square) * ((c * c) * c))
    score = row(buffer, _NES, stride, n)
    for i in range(n):
        score[i] = exp(0.1 * log(score[i]))
