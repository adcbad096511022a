"""Proofs on the production code path that a channel at t is a function of its own ticker's bars up to t, and no more.

Each proof changes the bars in a way that must not matter, computes again and compares, and returns a `ProofResult` with
the number of values compared. They are exhaustive with `tickers=None, cuts=None` and sampled otherwise. `reference`,
the stored panel's values, replaces the computation on all bars, so that the stored panel itself is what is proved.

What they do not catch: a use of the future that leaves the values of the sampled bars unchanged, and bars that were
themselves revised by the source with later knowledge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from k4_pipeline.features.proof_tools import (
    MARKET,
    MAX_FINDINGS,
    ChannelSet,
    Piece,
    ProofResult,
    close_to,
    computed_pieces,
    cut_bars,
    describe,
    same_bits,
    sample_cuts,
    sample_tickers,
)
from k4_pipeline.market.bars import Bars

PRICES = ("open", "high", "low", "close")
WARMUP_RTOL = 1e-6
RESCALE_RTOL = 1e-6
MAX_FLIPPED_SHARE = 1e-3
_WARMUP_FOLLOWED_BARS = 200


class _Tally:
    """Values compared and violations of one proof, with the first of them in words."""

    def __init__(self, bars: Bars, channels: ChannelSet) -> None:
        self.bars, self.specs = bars, channels.specs
        self.cases = self.violations = 0
        self.findings: list[str] = []

    def add(
        self, start: int, wrong: np.ndarray, expected: np.ndarray, actual: np.ndarray, cases: int | None = None
    ) -> None:
        """A block of rows from `start` on; `cases`: how many of its values count, all by default."""
        self.cases += wrong.size if cases is None else cases
        self.violations += int(wrong.sum())
        if len(self.findings) < MAX_FINDINGS and wrong.any():
            self.findings += describe(self.bars, start, wrong, expected, actual, self.specs)

    def result(self, proof: str, **details: float | int | str) -> ProofResult:
        return ProofResult(proof, self.cases, self.violations, 0, tuple(self.findings[:MAX_FINDINGS]), details)


def _compare_prefixes(
    proof: str,
    bars: Bars,
    pieces: Sequence[Piece],
    last_rows: Sequence[int],
    channels: ChannelSet,
    reference: np.ndarray | None,
) -> ProofResult:
    """Every piece, up to and including its `last_rows`, must have the reference's bits."""
    whole = channels.compute(bars) if reference is None else reference
    tally = _Tally(bars, channels)
    for i, values in computed_pieces(bars, pieces, channels):
        start, stop = pieces[i].start, last_rows[i] + 1
        expected, actual = np.asarray(whole[start:stop]), values[: stop - start]
        tally.add(start, ~same_bits(expected, actual), expected, actual)
    return tally.result(proof, cuts=len(pieces))


def check_truncation(
    bars: Bars,
    *,
    tickers: int | None = 40,
    cuts: int | None = 6,
    seed: int = 0,
    channels: ChannelSet = MARKET,
    reference: np.ndarray | None = None,
) -> ProofResult:
    """Computed on bars up to t and on all bars, every channel at and before t has the same bits."""
    rng = np.random.default_rng(seed)
    pieces, ends = [], []
    for ticker in sample_tickers(bars, tickers, rng):
        for row in sample_cuts(bars, ticker, cuts, rng):
            pieces.append(Piece(int(bars.offsets[ticker]), int(row) + 1))
            ends.append(int(row))
    return _compare_prefixes("truncation", bars, pieces, ends, channels, reference)


def _corruptions(kept: int, rng: np.random.Generator) -> dict[str, Callable[[dict[str, np.ndarray]], None]]:
    """Ways to corrupt the bars after the first `kept` of a piece."""
    seed = int(rng.integers(2**32))

    def missing(columns: dict[str, np.ndarray]) -> None:
        for values in columns.values():
            values[kept:] = np.nan

    def shuffled(columns: dict[str, np.ndarray]) -> None:
        order = np.random.default_rng(seed).permutation(len(columns["close"]) - kept)
        for values in columns.values():
            values[kept:] = values[kept:][order]

    def million_fold(columns: dict[str, np.ndarray]) -> None:
        for name in PRICES:
            columns[name][kept:] *= 1e6

    return {"missing": missing, "shuffled": shuffled, "million_fold": million_fold}


def check_future_corruption(
    bars: Bars,
    *,
    tickers: int | None = 40,
    cuts: int | None = 3,
    seed: int = 0,
    channels: ChannelSet = MARKET,
    reference: np.ndarray | None = None,
) -> ProofResult:
    """All bars after t made NaN, shuffled, or 1e6-fold in price: no bit changes at or before t."""
    rng = np.random.default_rng(seed)
    pieces, ends = [], []
    for ticker in sample_tickers(bars, tickers, rng, min_bars=2):
        start, stop = int(bars.offsets[ticker]), int(bars.offsets[ticker + 1])
        for row in sample_cuts(bars, ticker, cuts, rng):
            for change in _corruptions(int(row) + 1 - start, rng).values():
                pieces.append(Piece(start, stop, change))
                ends.append(int(row))
    return _compare_prefixes("future corruption", bars, pieces, ends, channels, reference)


def check_isolation(
    bars: Bars,
    *,
    tickers: int | None = 40,
    seed: int = 0,
    channels: ChannelSet = MARKET,
    reference: np.ndarray | None = None,
) -> ProofResult:
    """A ticker computed alone, among others in another order, or beside an unrelated one keeps every bit."""
    rng = np.random.default_rng(seed)
    chosen = sample_tickers(bars, tickers, rng)
    whole = channels.compute(bars) if reference is None else reference
    own = [Piece(int(bars.offsets[i]), int(bars.offsets[i + 1])) for i in chosen]

    def unrelated(columns: dict[str, np.ndarray]) -> None:
        for values in columns.values():
            values *= 3.7

    universes: list[list[Piece]] = [[piece] for piece in own]
    universes.append(own[::-1])
    universes.append([p for piece in own for p in (Piece(piece.start, piece.stop, unrelated), piece)])
    tally = _Tally(bars, channels)
    for universe in universes:
        made = cut_bars(bars, universe)
        values = channels.compute(made)
        for i, piece in enumerate(universe):
            if piece.change is not None:
                continue
            expected = np.asarray(whole[piece.start : piece.stop])
            actual = values[made.offsets[i] : made.offsets[i + 1]]
            tally.add(piece.start, ~same_bits(expected, actual), expected, actual)
    return tally.result("isolation", universes=len(universes), tickers=len(own))


def _typical_size(values: np.ndarray) -> np.ndarray:
    """Median size of the values other than 0 and NaN, (channels,) float64; 0 for a channel that has none.

    Zeros do not count: in a channel that is mostly 0, as a clipped compression is, a tie may come out as 1e-16.
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    counted = [column[column > 0] for column in sizes.T]
    return np.array([np.median(column) if len(column) else 0.0 for column in counted])


def check_rescale(
    bars: Bars,
    *,
    factors: Sequence[float] = (2.0**-12, 2.0**-3, 2.0, 2.0**12, 0.1, 3.0, 7.77),
    tickers: int | None = 20,
    seed: int = 0,
    channels: ChannelSet = MARKET,
    reference: np.ndarray | None = None,
) -> ProofResult:
    """Prices times k and volumes by k: channels react as their scale class says.

    For k a power of two bit for bit (prices times k, volumes by k). For any other k to 1e-6 of the value,
    or of 1e-3 of the median size of the channel's values other than 0 where that is more; values beyond are flipped
    ties, and a violation once they exceed 0.1% of a channel.
    """
    rng = np.random.default_rng(seed)
    chosen = sample_tickers(bars, tickers, rng)
    whole = channels.compute(bars) if reference is None else reference
    cases = violations = flipped = 0
    findings: list[str] = []
    exponent = np.array(
        [{"price_level": 1, "price_width": 1, "volume": -1}.get(spec.scale, 0) for spec in channels.specs]
    )
    plain = [Piece(int(bars.offsets[i]), int(bars.offsets[i + 1])) for i in chosen]
    original = np.concatenate([np.asarray(whole[p.start : p.stop]) for p in plain]) if plain else whole[:0]
    starts = np.concatenate([[0], np.cumsum([p.stop - p.start for p in plain])])
    typical = _typical_size(original)
    for k in factors:

        def rescale(columns: dict[str, np.ndarray], k: float = k) -> None:
            for name in PRICES:
                columns[name] *= k
            columns["volume"] /= k

        pieces = [Piece(p.start, p.stop, rescale) for p in plain]
        values = [block for _, block in computed_pieces(bars, pieces, channels)]
        actual = np.concatenate(values) if values else original
        back = (actual / float(k) ** exponent).astype(actual.dtype)
        cases += back.size
        if np.frexp(k)[0] == 0.5:
            wrong = ~same_bits(original, back)
            violations += int(wrong.sum())
        else:
            wrong = ~close_to(original, back, RESCALE_RTOL, 1e-3 * typical)
            flipped += int(wrong.sum())
            too_many = wrong.sum(axis=0) > MAX_FLIPPED_SHARE * max(len(wrong), 1)
            violations += int(wrong[:, too_many].sum())
            wrong = wrong & too_many
        for piece, a, b in zip(plain, starts[:-1], starts[1:], strict=True):
            if len(findings) < MAX_FINDINGS and wrong[a:b].any():
                lines = describe(bars, piece.start, wrong[a:b], original[a:b], back[a:b], channels.specs)
                findings += [f"k={k:g}: {line}" for line in lines]
    details: dict[str, float | int | str] = {"factors": len(factors), "flipped_share": flipped / max(cases, 1)}
    return ProofResult("rescale", cases, violations, flipped, tuple(findings[:MAX_FINDINGS]), details)


def check_warmup(
    bars: Bars,
    *,
    tickers: int | None = 40,
    cuts: int | None = 3,
    seed: int = 0,
    channels: ChannelSet = MARKET,
    reference: np.ndarray | None = None,
) -> ProofResult:
    """History before the declared warm-up does not matter: to 1e-6 for recursive channels, not a bit for the others.

    Compared from the warm-up's last bar on, over the next 200 bars.
    """
    rng = np.random.default_rng(seed)
    longest = max(spec.warmup_bars for spec in channels.specs)
    whole = channels.compute(bars) if reference is None else reference
    pieces = []
    for ticker in sample_tickers(bars, tickers, rng, min_bars=longest + 2):
        start, stop = int(bars.offsets[ticker]), int(bars.offsets[ticker + 1])
        rows = np.arange(start + 1, stop - longest)
        chosen = rows if cuts is None or cuts >= len(rows) else np.sort(rng.choice(rows, cuts, replace=False))
        pieces += [Piece(int(row), min(int(row) + longest + _WARMUP_FOLLOWED_BARS, stop)) for row in chosen]
    recursive = np.array([spec.recursive for spec in channels.specs])
    warmup = np.array([spec.warmup_bars for spec in channels.specs])
    tally, worst = _Tally(bars, channels), 0.0
    for i, actual in computed_pieces(bars, pieces, channels):
        expected = np.asarray(whole[pieces[i].start : pieces[i].stop])
        warm = np.arange(len(actual))[:, None] >= warmup - 1
        near = np.where(recursive, close_to(expected, actual, WARMUP_RTOL, 1e-6), same_bits(expected, actual))
        tally.add(pieces[i].start, warm & ~near, expected, actual, cases=int(warm.sum()))
        with np.errstate(all="ignore"):
            apart = np.abs(expected - actual) / np.maximum(np.abs(expected), 1e-6)
        worst = max(worst, float(np.nan_to_num(np.where(warm, apart, 0.0)).max()))
    return tally.result("warm-up", starts=len(pieces), worst_relative_difference=worst)
