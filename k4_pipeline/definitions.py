"""The Dagster code location: `defs` is what `dagster dev`, `dg dev` and workspace.yaml load."""

import dagster as dg

from k4_pipeline.defs.build import build_defs
from k4_pipeline.defs.market import stored_markets

defs = dg.Definitions.merge(build_defs(), *stored_markets())
