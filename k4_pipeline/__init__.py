"""k4_pipeline: find the rare, explosive consolidation breakouts (K4) and prove that no future was used."""

__version__ = "0.1.0"
