"""The asymmetric loss of the classifier, in its single-label form, with the K4 quantities reported apart.

Source: Ridnik et al. 2021, "Asymmetric Loss For Multi-Label Classification" (arXiv:2009.14119), and the single-label
variant of the authors' repository (Alibaba-MIIL/ASL, `ASLSingleLabel`), plus class weights and sample weights.

With softmax probabilities p, one-hot target y, smoothed target y~ = (1 - eps) y + eps / C and class weights w:

    loss = - w[y] * sum_c y~_c * (1 - p_c y_c - (1 - p_c)(1 - y_c)) ^ (gamma_pos y_c + gamma_neg (1 - y_c)) * log p_c

so the target's term carries (1 - p)^gamma_pos and every other term p^gamma_neg. A term with y~_c = 0 vanishes: without
label smoothing `gamma_neg` does nothing at all in this form. With both gammas 0 and unit weights it is cross-entropy
with label smoothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.config import K4, LossConfig
from k4_pipeline.errors import ConfigError


class LossResult(NamedTuple):
    """Scalars of one batch, as tensors (reading them waits for the device, so the caller decides when)."""

    loss: Tensor  # weighted mean over the rows; the only one to call backward() on
    k4_loss: Tensor  # mean loss of the K4 rows before sample weights, NaN when there is none; detached
    k4_count: Tensor  # rows whose target is K4, int64
    k4_accuracy: Tensor  # share of the K4 rows whose largest logit is K4, NaN when there is none


def asymmetric_loss(
    logits: Tensor,
    target: Tensor,
    *,
    gamma_pos: float = 0.0,
    gamma_neg: float = 4.0,
    label_smoothing: float = 0.1,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Loss per row, (batch,) float32, from logits (batch, classes) of any float type and target (batch,) int64.

    Everything stays in log space, so logits of +-1e4 give finite losses and gradients: log(1 - p_target) is the
    log-sum-exp over the other classes rather than a difference of near-equal numbers.
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)  # (batch, classes)
    n_classes = log_p.shape[-1]
    index = target.long().unsqueeze(-1)  # (batch, 1)
    log_p_target = log_p.gather(-1, index).squeeze(-1)  # (batch,)

    target_term = (1.0 - label_smoothing + label_smoothing / n_classes) * log_p_target
    if gamma_pos:
        is_target = torch.zeros_like(log_p, dtype=torch.bool).scatter(-1, index, True)
        log_not_p = torch.logsumexp(log_p.masked_fill(is_target, float("-inf")), dim=-1)
        target_term = target_term * torch.exp(gamma_pos * log_not_p)

    loss = -target_term
    if label_smoothing:
        focused = log_p * torch.exp(gamma_neg * log_p) if gamma_neg else log_p  # (batch, classes)
        others = focused.sum(-1) - focused.gather(-1, index).squeeze(-1)
        loss = loss - (label_smoothing / n_classes) * others
    if class_weights is not None:
        loss = loss * class_weights.to(loss.dtype)[target]
    return loss


class AsymmetricLoss(nn.Module):
    """`asymmetric_loss` with the settings of a `LossConfig`, its mean, and the K4 monitoring."""

    class_weights: Tensor

    def __init__(self, config: LossConfig, k4_class: int = K4) -> None:
        super().__init__()
        _check(config, k4_class)
        self.config = config
        self.k4_class = k4_class
        self.register_buffer("class_weights", torch.tensor(config.class_weights, dtype=torch.float32))

    def forward(self, logits: Tensor, target: Tensor, sample_weight: Tensor | None = None) -> LossResult:
        """`LossResult` of logits (batch, classes), target (batch,) int64 and optional sample_weight (batch,).

        The loss is the plain mean over rows (not divided by the class weights, so that it estimates the weighted risk
        without bias); with sample weights it is their weighted mean.
        """
        rows = asymmetric_loss(
            logits,
            target,
            gamma_pos=self.config.gamma_pos,
            gamma_neg=self.config.gamma_neg,
            label_smoothing=self.config.label_smoothing,
            class_weights=self.class_weights,
        )
        if sample_weight is None:
            loss = rows.mean()
        else:
            weight = sample_weight.to(rows.dtype)
            loss = (rows * weight).sum() / weight.sum()
        is_k4 = target == self.k4_class
        count = is_k4.sum()
        found = ((logits.detach().argmax(-1) == self.k4_class) & is_k4).sum()
        # 0 / 0 is NaN on purpose: "no K4 row in this batch" must not look like a loss or an accuracy of zero.
        return LossResult(
            loss=loss,
            k4_loss=(rows.detach() * is_k4).sum() / count,
            k4_count=count,
            k4_accuracy=found / count,
        )


def balanced(config: LossConfig, class_counts: Sequence[float] | np.ndarray) -> LossConfig:
    """`config` with the class weights that its `balance` gives for rows with these class counts (classes,).

    `sqrt_inverse`: one over the square root of the frequency (half a row added to each class), mean 1 over the rows.
    """
    if config.balance == "fixed":
        return config
    counts = np.asarray(class_counts, dtype=np.float64) + 0.5
    frequency = counts / counts.sum()
    weights = np.ones(len(counts)) if config.balance == "none" else frequency**-0.5
    weights /= (weights * frequency).sum()
    return dataclasses.replace(config, class_weights=tuple(weights.tolist()), balance="fixed")


def weighted_log_prior(class_counts: Sequence[float], config: LossConfig) -> Tensor:
    """Log of the class mix as the loss sees it, (classes,) float32: where the head's bias starts.

    counts * class weights, normalised and smoothed like the targets. Starting there, the first steps are not spent on
    learning the base rates from a uniform guess (Lin et al. 2017, "Focal Loss", section 3.3, use the same idea).
    """
    mass = torch.tensor(class_counts, dtype=torch.float64) * torch.tensor(config.class_weights, dtype=torch.float64)
    prior = mass / mass.sum()
    smoothing = max(config.label_smoothing, 1e-3)  # a class without rows must still get a finite bias
    return torch.log((1.0 - smoothing) * prior + smoothing / len(prior)).float()


def _check(config: LossConfig, k4_class: int) -> None:
    if not 0.0 <= config.label_smoothing < 1.0:
        raise ConfigError(f"label_smoothing is {config.label_smoothing}; it must lie in [0, 1)")
    if config.gamma_pos < 0 or config.gamma_neg < 0:
        raise ConfigError(f"gamma_pos and gamma_neg are {config.gamma_pos}, {config.gamma_neg}; they must be >= 0")
    if not config.class_weights or min(config.class_weights) < 0 or max(config.class_weights) <= 0:
        raise ConfigError(f"class_weights are {config.class_weights}; they must be >= 0, not all zero")
    if not 0 <= k4_class < len(config.class_weights):
        raise ConfigError(f"there are {len(config.class_weights)} class weights, so no class {k4_class}")
