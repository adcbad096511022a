"""Jobs: what is materialized together."""

from __future__ import annotations

import dagster as dg

from k4_pipeline.defs.freshness import FRESHNESS_CHECKS
from k4_pipeline.defs.graph import ASSET_ORDER, FULL_NIGHT_ASSETS, NIGHTLY_ASSETS, RETRAIN_ASSETS

# job -> (its assets, what it is for); every market has these four
SELECTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "full_pipeline": (ASSET_ORDER, "Everything from bars to signals for one as_of; what `k4 run` executes."),
    "retrain": (
        RETRAIN_ASSETS,
        "Fresh bars, a model of one as_of with its validation, the champion by its rule, today's signals.",
    ),
    "nightly": (
        NIGHTLY_ASSETS,
        "New bars to signals with the champion that serves: what changed since the last full run.",
    ),
    "nightly_full": (
        FULL_NIGHT_ASSETS,
        "The whole source to signals with the champion that serves; trains nothing. Once a week.",
    ),
}
# A night does not wait for the rest of a backfill: it is the next to leave the queue.
PRIORITIES = {"nightly": "10", "nightly_full": "10", "retrain": "5"}
JOBS = [
    dg.define_asset_job(
        name,
        # How old the newest partition is, its sensor asks: no run waits for that.
        selection=dg.AssetSelection.assets(*assets) - dg.AssetSelection.checks(*FRESHNESS_CHECKS),
        description=what,
        tags={"dagster/priority": PRIORITIES[name]} if name in PRIORITIES else None,
    )
    for name, (assets, what) in SELECTIONS.items()
]
full_pipeline, retrain, nightly, nightly_full = JOBS
