"""The Dagster code location: `defs` is what `dagster dev`, `dg dev` and workspace.yaml load."""

from k4_pipeline.defs.build import build_defs

defs = build_defs()
