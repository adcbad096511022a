"""Which later bars of an ACTIVE pattern become snapshots: a hash of (seed, ticker, date), nothing else.

The draw of a bar can not depend on the scan order, on other tickers or on bars that come later, because none of them
is an input. The hash is fixed here for good: changing it changes every sample.
"""

from __future__ import annotations

import hashlib

import numpy as np

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def _splitmix(x: np.ndarray) -> np.ndarray:
    """One step of splitmix64 (Steele, Lea and Flood 2014) on each uint64."""
    x = x + _GAMMA
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


def ticker_digest(ticker: str) -> int:
    """64 bits of a ticker name: BLAKE2b with an 8-byte digest of its UTF-8 form, read little-endian."""
    return int.from_bytes(hashlib.blake2b(str(ticker).encode(), digest_size=8).digest(), "little")


def sampling_uniform(seed: int, tickers: np.ndarray, days: np.ndarray) -> np.ndarray:
    """A uniform number in [0, 1) for each (seed, ticker, day), float64 (n,).

    `tickers` (n,) names, `days` (n,) days since 1970-01-01. With s = splitmix64 and d the ticker digest the number is
    the upper 53 bits of s(s(s(seed) xor d) xor day), over 2^53; seed and day enter as two's complement 64-bit integers.
    """
    names, codes = np.unique(np.asarray(tickers, dtype=object), return_inverse=True)
    digests = np.array([ticker_digest(name) for name in names], dtype=np.uint64)
    state = _splitmix(np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64))
    per_ticker = _splitmix(state ^ digests)  # (n_names,)
    day_bits = np.asarray(days).astype(np.int64).view(np.uint64)
    bits = _splitmix(per_ticker[codes] ^ day_bits)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def thinned(seed: int, tickers: np.ndarray, days: np.ndarray, rows: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of `rows` (n,), ascending: those whose (ticker, day), each (n,), have the smallest hash."""
    if len(rows) <= limit:
        return rows
    return np.sort(rows[np.argsort(sampling_uniform(seed, tickers, days), kind="stable")[:limit]])
