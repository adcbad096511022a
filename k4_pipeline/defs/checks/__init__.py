"""All asset checks: one check op per asset."""

from k4_pipeline.defs.checks import evaluation, market, model_inputs, patterns, training

CHECKS = [*market.CHECKS, *patterns.CHECKS, *model_inputs.CHECKS, *training.CHECKS, *evaluation.CHECKS]

__all__ = ["CHECKS"]
