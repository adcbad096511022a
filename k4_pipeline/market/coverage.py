"""Whether the bars at hand cover the tickers of a snapshot file; what is missing, and the three ways out.

The classic case: a snapshot file made on London tickers (`VOD.L`) and bars of Kuala Lumpur (`1155.KL`): both lists are
long, hardly one ticker is common, and a plain join would go on with the remainder in silence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from k4_pipeline.market.exchanges import EXCHANGE_TITLES, split_suffix

_EXAMPLES = 5


def _group(suffix: str) -> str:
    title = EXCHANGE_TITLES.get(suffix, "")
    label = f".{suffix}" if suffix else "no suffix"
    return f"{label} ({title})" if title and suffix else label


@dataclass(frozen=True)
class CoverageReport:
    """Counts and names of a comparison between the tickers of snapshots and those of bars.

    `missing` maps exchange suffix ("" = none) to the snapshot tickers without bars, ascending; `snapshot_suffixes` and
    `bar_suffixes` count tickers per suffix; `mismatch` says in words when the two lists stem from different exchanges.
    """

    n_snapshot_tickers: int
    n_bar_tickers: int
    n_covered: int
    missing: dict[str, list[str]] = field(default_factory=dict)
    snapshot_suffixes: dict[str, int] = field(default_factory=dict)
    bar_suffixes: dict[str, int] = field(default_factory=dict)
    mismatch: str = ""

    @property
    def n_missing(self) -> int:
        return self.n_snapshot_tickers - self.n_covered

    @property
    def missing_tickers(self) -> list[str]:
        """All missing tickers, ascending."""
        return sorted(t for group in self.missing.values() for t in group)

    def message(self) -> str:
        """One paragraph: the counts, the missing tickers by exchange, and the ways out."""
        if self.n_missing == 0:
            return f"bars cover all {self.n_snapshot_tickers} tickers of the snapshots"
        groups = []
        for suffix, names in sorted(self.missing.items(), key=lambda item: (-len(item[1]), item[0])):
            examples = ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")
            groups.append(f"{_group(suffix)}: {len(names)} missing ({examples})")
        parts = [
            f"bars are missing for {self.n_missing} of {self.n_snapshot_tickers} tickers of the snapshots. "
            + "; ".join(groups)
        ]
        if self.mismatch:
            parts.append(self.mismatch)
        parts.append(
            "Three ways out: fetch the missing bars (--missing-tickers fetch), use another bar or snapshot file "
            "(--path, --snapshots), or leave those snapshots out (--missing-tickers filter)"
        )
        return ". ".join(parts)


def _count_suffixes(tickers: Iterable[str]) -> dict[str, int]:
    return dict(Counter(split_suffix(t)[1] for t in tickers).most_common())


def _mismatch(snapshots: dict[str, int], bars: dict[str, int], missing: dict[str, list[str]]) -> str:
    """A sentence when a whole exchange of the snapshots has no bars while the bars have one the snapshots lack."""
    absent = [s for s in missing if s in snapshots and s not in bars]
    other = [s for s in bars if s not in snapshots]
    if not absent or not other:
        return ""
    left = max(absent, key=lambda s: snapshots[s])
    right = max(other, key=lambda s: bars[s])
    return (
        f"The two files seem to be of different exchanges: {snapshots[left]} snapshot tickers are {_group(left)} and "
        f"no bar is, while {bars[right]} tickers of the bars are {_group(right)} and no snapshot is"
    )


def universe_coverage(snapshot_tickers: Iterable[str], bar_tickers: Iterable[str]) -> CoverageReport:
    """Compare the tickers of snapshots (repetitions are fine) with those of the bars, exactly as spelled."""
    wanted, there = sorted(set(map(str, snapshot_tickers))), set(map(str, bar_tickers))
    missing: dict[str, list[str]] = {}
    for ticker in wanted:
        if ticker not in there:
            missing.setdefault(split_suffix(ticker)[1], []).append(ticker)
    snapshot_suffixes, bar_suffixes = _count_suffixes(wanted), _count_suffixes(there)
    return CoverageReport(
        n_snapshot_tickers=len(wanted),
        n_bar_tickers=len(there),
        n_covered=len(wanted) - sum(map(len, missing.values())),
        missing=missing,
        snapshot_suffixes=snapshot_suffixes,
        bar_suffixes=bar_suffixes,
        mismatch=_mismatch(snapshot_suffixes, bar_suffixes, missing),
    )
