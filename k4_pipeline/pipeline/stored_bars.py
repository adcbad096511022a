"""The bars as they stand tonight: the last full version, with what the nights since then added."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.newer import Newer, no_bars, with_newer
from k4_pipeline.storage import ArtifactRef, ArtifactStore, read_parquet

NIGHT_BARS = "night_bars"
ADDED, READ_AGAIN = "night_bars", "read_again"


def night_bars_of(store: ArtifactStore, daily_bars: ArtifactRef) -> ArtifactRef | None:
    """What was added to this version of `daily_bars`; None when nothing was, also by a night that found nothing new.

    Raises `StaleArtifactError` when the newest addition did not pass its checks.
    """
    try:
        newest = store.newest(NIGHT_BARS)
    except StaleArtifactError:
        return None
    if newest.inputs.get("daily_bars") != daily_bars.fingerprint:
        return None
    if not (newest.meta["rows"] or newest.meta["why_again"]):
        return None
    return store.current(NIGHT_BARS)


def stored_newer(ref: ArtifactRef) -> Newer:
    """The tables of a `night_bars` version."""
    why = {str(t): str(w) for t, w in ref.meta["why_again"].items()}
    return Newer(_bars(ref, ADDED), _bars(ref, READ_AGAIN), tuple(sorted(why)), why)


def _bars(ref: ArtifactRef, name: str) -> Bars:
    frame = read_parquet(ref.path(f"{name}.parquet"))
    return Bars.from_frame(frame) if len(frame) else no_bars()


def frame_of(bars: Bars) -> pd.DataFrame:
    """The long table of bars, also of none."""
    return bars.to_frame().astype({"ticker": "str", "date": "datetime64[us]"})


def bars_of(daily_bars: ArtifactRef, night_bars: ArtifactRef | None) -> Bars:
    """`daily_bars` with the rows of `night_bars`; kept in memory for the next caller of the same versions."""
    folders = (daily_bars.dir, None if night_bars is None else night_bars.dir)
    fingerprints = (daily_bars.fingerprint, None if night_bars is None else night_bars.fingerprint)
    if _kept.key != (folders, fingerprints):
        alone = ((daily_bars.dir, None), (daily_bars.fingerprint, None))
        if _kept.key == alone and _kept.bars is not None:  # the night has read them a moment ago
            base = _kept.bars
        else:
            base = Bars.from_frame(read_parquet(daily_bars.path("daily_bars.parquet")))
        _kept.bars = base if night_bars is None else with_newer(base, stored_newer(night_bars))
        _kept.key = (folders, fingerprints)
    assert _kept.bars is not None
    return _kept.bars


class _Kept:
    key: tuple[tuple[Path, Path | None], tuple[str, str | None]] | None = None
    bars: Bars | None = None


_kept = _Kept()


def bars_of_tonight(store: ArtifactStore) -> Bars:
    """The newest bars of a store, their checks passed."""
    daily = store.current("daily_bars")
    return bars_of(daily, night_bars_of(store, daily))


def night_of(bars: Bars) -> str:
    """The last day, YYYY-MM-DD."""
    return str(np.datetime64(int(bars.last_day), "D"))
