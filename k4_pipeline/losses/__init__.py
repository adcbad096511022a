"""The training loss."""

from k4_pipeline.losses.asymmetric import AsymmetricLoss, LossResult, asymmetric_loss, balanced, weighted_log_prior

__all__ = ["AsymmetricLoss", "LossResult", "asymmetric_loss", "balanced", "weighted_log_prior"]
