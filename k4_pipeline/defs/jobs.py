"""Jobs: what is materialized together."""

from __future__ import annotations

import dagster as dg

from k4_pipeline.defs.graph import ASSET_ORDER, FULL_NIGHT_ASSETS, NIGHTLY_ASSETS, RETRAIN_ASSETS

full_pipeline = dg.define_asset_job(
    "full_pipeline",
    selection=list(ASSET_ORDER),
    description="Everything from bars to signals for one as_of; what `k4 run` executes.",
)
retrain = dg.define_asset_job(
    "retrain",
    selection=list(RETRAIN_ASSETS),
    description="Fresh bars, a model of one as_of with its validation, the champion by its rule, today's signals.",
)
nightly = dg.define_asset_job(
    "nightly",
    selection=list(NIGHTLY_ASSETS),
    description="New bars to signals with the champion that serves: what changed since the last full run.",
)
nightly_full = dg.define_asset_job(
    "nightly_full",
    selection=list(FULL_NIGHT_ASSETS),
    description="The whole source to signals with the champion that serves; trains nothing. Once a week.",
)
JOBS = [full_pipeline, retrain, nightly, nightly_full]
