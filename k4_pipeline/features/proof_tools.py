"""What the proofs share: the channel set under test, its result, made-up bars cut from real ones, exact comparison."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from k4_pipeline.errors import BadInputError
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.spec import MARKET_FEATURES, FeatureSpec
from k4_pipeline.market.bars import Bars, to_dates

MAX_FINDINGS = 20
_BATCH_BARS = 400_000
_COLUMNS = ("open", "high", "low", "close", "volume")


@dataclass(frozen=True)
class ChannelSet:
    """Declared channels and the function that computes them, (n_bars, len(specs)); a user's own go the same way."""

    specs: tuple[FeatureSpec, ...]
    compute: Callable[[Bars], np.ndarray]


MARKET = ChannelSet(MARKET_FEATURES, compute_market_features)


@dataclass(frozen=True)
class ProofResult:
    """What one proof compared and found.

    cases: values compared. violations: those that break the statement. flipped: values beyond the tolerance that the
    statement allows up to a share (rescale by a factor that is no power of two). findings: the first violations, in
    words. details: counts for the metadata of a check.
    """

    proof: str
    cases: int
    violations: int
    flipped: int = 0
    findings: tuple[str, ...] = ()
    details: dict[str, float | int | str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """True only with evidence: something was compared and nothing broke the statement."""
        return self.cases > 0 and self.violations == 0


@dataclass(frozen=True)
class Piece:
    """Rows [start, stop) of `Bars`, inside one ticker, presented to the computation as a ticker of its own."""

    start: int
    stop: int
    change: Callable[[dict[str, np.ndarray]], None] | None = None  # edits the copied columns in place


def cut_bars(bars: Bars, pieces: Sequence[Piece]) -> Bars:
    """`Bars` whose i-th ticker is the i-th piece."""
    rows = np.concatenate([np.arange(p.start, p.stop) for p in pieces])
    offsets = np.concatenate([[0], np.cumsum([p.stop - p.start for p in pieces])]).astype(np.int64)
    columns = {c: getattr(bars, c)[rows] for c in _COLUMNS}
    for piece, a, b in zip(pieces, offsets[:-1], offsets[1:], strict=True):
        if piece.change is not None:
            piece.change({c: columns[c][a:b] for c in _COLUMNS})
    names = np.array([f"{i:09d}" for i in range(len(pieces))], dtype=object)
    return Bars(tickers=names, offsets=offsets, date=bars.date[rows], **columns)


def computed_pieces(bars: Bars, pieces: Sequence[Piece], channels: ChannelSet) -> Iterator[tuple[int, np.ndarray]]:
    """(number of the piece, its channels (stop - start, n_channels)), computed in batches of bounded size."""
    first = 0
    while first < len(pieces):
        last, total = first, 0
        while last < len(pieces) and (last == first or total < _BATCH_BARS):
            total += pieces[last].stop - pieces[last].start
            last += 1
        batch = cut_bars(bars, pieces[first:last])
        values = channels.compute(batch)
        for i in range(first, last):
            yield i, values[batch.offsets[i - first] : batch.offsets[i - first + 1]]
        first = last


def same_bits(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Elementwise: the same bits, so that NaN equals NaN and -0 differs from 0; shapes and dtypes must agree."""
    if a.dtype != b.dtype or a.shape != b.shape:
        raise BadInputError(f"cannot compare {a.dtype} {a.shape} with {b.dtype} {b.shape}; compute both the same way")
    kind = {4: np.uint32, 8: np.uint64}[a.dtype.itemsize]
    return np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind)


def close_to(a: np.ndarray, b: np.ndarray, rtol: float, floor: np.ndarray | float = 0.0) -> np.ndarray:
    """Elementwise: both NaN, or |a - b| <= rtol * max(|a|, |b|, floor)."""
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), floor)
    with np.errstate(invalid="ignore"):
        near = np.abs(a.astype(np.float64) - b) <= rtol * size
    return near | (np.isnan(a) & np.isnan(b))


def describe(
    bars: Bars,
    first_row: int,
    wrong: np.ndarray,
    expected: np.ndarray,
    actual: np.ndarray,
    specs: Sequence[FeatureSpec],
) -> list[str]:
    """The first violations of a block of rows in words: ticker, date, channel, both values."""
    lines = []
    for i, channel in np.argwhere(wrong)[:MAX_FINDINGS]:
        row = first_row + int(i)
        ticker = bars.tickers[np.searchsorted(bars.offsets, row, side="right") - 1]
        day = str(to_dates(bars.date[row : row + 1])[0])[:10]
        lines.append(f"{ticker} {day} {specs[channel].name}: {expected[i, channel]!r} became {actual[i, channel]!r}")
    return lines


def sample_tickers(bars: Bars, count: int | None, rng: np.random.Generator, min_bars: int = 1) -> np.ndarray:
    """Numbers of up to `count` tickers (all when None) with at least `min_bars` bars, ascending."""
    able = np.flatnonzero(np.diff(bars.offsets) >= min_bars)
    if count is None or count >= len(able):
        return able
    return np.sort(rng.choice(able, count, replace=False))


def sample_cuts(bars: Bars, ticker: int, count: int | None, rng: np.random.Generator) -> np.ndarray:
    """Rows of a ticker at which to cut: all but the last when `count` is None, else so many at random."""
    rows = np.arange(bars.offsets[ticker], bars.offsets[ticker + 1] - 1)
    if count is None or count >= len(rows):
        return rows
    return np.sort(rng.choice(rows, count, replace=False))
