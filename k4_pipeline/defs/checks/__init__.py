"""All asset checks: one check op per asset."""

from k4_pipeline.defs.checks import evaluation, market, model_inputs, nights, patterns, serving, training

CHECKS = [
    *market.CHECKS,
    *patterns.CHECKS,
    *model_inputs.CHECKS,
    *training.CHECKS,
    *evaluation.CHECKS,
    *serving.CHECKS,
    *nights.CHECKS,
]

__all__ = ["CHECKS"]
