"""All asset checks: one check op per asset."""

from k4_pipeline.defs.checks import evaluation, market, patterns, training

CHECKS = [*market.CHECKS, *patterns.CHECKS, *training.CHECKS, *evaluation.CHECKS]

__all__ = ["CHECKS"]
