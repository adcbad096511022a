"""Jobs: what is materialized together."""

from __future__ import annotations

import dagster as dg

from k4_pipeline.defs.graph import ASSET_ORDER, NIGHTLY_ASSETS, RETRAIN_ASSETS

# Runs of all jobs write the same unpartitioned assets: one after the other (dagster.yaml limits this tag to one run).
ONE_WRITER = {"k4/writer": "artifacts"}

full_pipeline = dg.define_asset_job(
    "full_pipeline",
    selection=list(ASSET_ORDER),
    tags=ONE_WRITER,
    description="Everything from bars to signals for one as_of; what `k4 run` executes.",
)
retrain = dg.define_asset_job(
    "retrain",
    selection=list(RETRAIN_ASSETS),
    tags=ONE_WRITER,
    description="Fresh bars, a model of one as_of with its validation, the champion by its rule, today's signals.",
)
nightly = dg.define_asset_job(
    "nightly",
    selection=list(NIGHTLY_ASSETS),
    tags=ONE_WRITER,
    description="Bars to signals with the champion that serves; trains nothing.",
)
JOBS = [full_pipeline, retrain, nightly]
