"""Why the model gave an open pattern its P(K4): what each channel adds to the probability of an average train row.

P(K4) of an ensemble is a mean over its members, so contributions are, too. For networks they are integrated gradients
(Sundararajan et al. 2017) along the straight line from the average train row; trees have no gradient, so for them and
for a logit each channel is switched in random order and its share of the change is averaged (Shapley values by
sampling). Both add up to the difference from the average row, which is checked. They speak of the raw score, before
calibration.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.config import K4
from k4_pipeline.models.ensemble import Ensemble, TextModel
from k4_pipeline.pipeline.reference import Reference

STEPS = 32  # of the line; doubled until the contributions add up, at most to MOST_STEPS
MOST_STEPS = 256
POWER = 3  # steps are even in the root of this order
ORDERS = 8  # random orders, each also backwards
ADDS_UP = 0.01  # of the difference, or of a probability of 1%


def weighted_members(model: nn.Module) -> list[tuple[float, nn.Module]]:
    """(share, member) of a model whose P(K4) is the sum of share times member."""
    if not isinstance(model, Ensemble):
        return [(1.0, model)]
    pairs = list(zip(model.kinds, model.members))
    if model.both and model.validated_members is not None:
        pairs += zip(model.kinds, model.validated_members)
    kinds = [kind for kind, _ in pairs]
    return [(1.0 / len(set(kinds)) / kinds.count(kind), member) for kind, member in pairs]


def contributions(
    model: nn.Module, x: Tensor, mask: Tensor, context: Tensor | None, average_context: Tensor | None
) -> dict[str, Any]:
    """Contributions (69 + k,) to the raw P(K4) of one row: x (1, 50, 69) standardised, mask (1, 50), context (1, k).

    The average train row is 0 in every standardised channel and `average_context` (k,). Also `base` and `value`, P(K4)
    of the average row and of this one, and `gap`, by how much the sum misses their difference.
    """
    base_x = torch.zeros_like(x)
    base_context = None
    if context is not None:
        assert average_context is not None
        base_context = torch.where(torch.isfinite(context), average_context[None], context)
    total = np.zeros(x.shape[-1] + (0 if context is None else context.shape[-1]))
    ends = [0.0, 0.0]
    for share, member in weighted_members(model):
        member.eval()
        with torch.no_grad():
            p = [float(_p_k4(member, a, mask, c)[0]) for a, c in ((base_x, base_context), (x, context))]
        ends = [end + share * q for end, q in zip(ends, p)]
        made = _switched if isinstance(member, TextModel) else _integrated
        total += share * made(member, x, mask, context, base_x, base_context, p[1] - p[0])
    gap = float(total.sum() - (ends[1] - ends[0]))
    return {"contributions": total, "base": ends[0], "value": ends[1], "gap": gap}


def _p_k4(member: nn.Module, x: Tensor, mask: Tensor, context: Tensor | None) -> Tensor:
    logits = member(x, mask.expand(len(x), -1), context)
    return torch.softmax(logits.double(), dim=-1)[:, K4]


def _integrated(
    member: nn.Module,
    x: Tensor,
    mask: Tensor,
    context: Tensor | None,
    base_x: Tensor,
    base_context: Tensor | None,
    difference: float,
) -> np.ndarray:
    steps = STEPS
    while True:
        # Normalisation layers bend most near the average row, where all inputs are 0: the steps are small there.
        even = (torch.arange(steps) + 0.5) / steps
        at, step = (even**POWER)[:, None], POWER * even ** (POWER - 1) / steps
        line = (base_x + at[:, :, None] * (x - base_x)).requires_grad_()
        beside = None
        if context is not None and base_context is not None:
            beside = (base_context + at * (context - base_context)).requires_grad_()
        wanted = [line] if beside is None else [line, beside]
        _p_k4(member, line, mask, beside).sum().backward(inputs=wanted)
        assert line.grad is not None
        parts = [((line.grad * step[:, None, None]).sum(0) * (x - base_x)[0]).sum(0)]
        if beside is not None and context is not None and base_context is not None:
            gradient = torch.zeros(beside.shape[1]) if beside.grad is None else (beside.grad * step[:, None]).sum(0)
            parts.append(torch.nan_to_num(gradient * (context - base_context)[0]))
        made = torch.cat(parts).double().numpy()
        if abs(made.sum() - difference) <= ADDS_UP * max(abs(difference), 0.01) or steps >= MOST_STEPS:
            return made
        steps *= 2


def _switched(
    member: nn.Module,
    x: Tensor,
    mask: Tensor,
    context: Tensor | None,
    base_x: Tensor,
    base_context: Tensor | None,
    difference: float,
) -> np.ndarray:
    assert context is not None
    assert base_context is not None
    n = x.shape[-1]
    own, base = torch.cat([x[0, -1], context[0]]), torch.cat([base_x[0, -1], base_context[0]])
    moving = np.flatnonzero(((own != base) & torch.isfinite(own)).numpy())
    out = np.zeros(len(own))
    if not len(moving):
        return out
    rng = np.random.default_rng(0)
    orders = [rng.permutation(moving) for _ in range(ORDERS)]
    orders += [order[::-1] for order in orders]
    turn = np.full((len(orders), len(own)), len(moving))  # when each channel is switched; what does not move never is
    for i, order in enumerate(orders):
        turn[i, order] = np.arange(len(order))
    switched = turn[:, None, :] < np.arange(len(moving) + 1)[None, :, None]
    every = torch.where(torch.from_numpy(switched.reshape(-1, len(own))), own, base)
    with torch.inference_mode():
        p = _p_k4(member, every[:, None, :n], mask[:, -1:], every[:, n:]).numpy()
    for order, steps in zip(orders, p.reshape(len(orders), -1)):
        out[order] += np.diff(steps) / len(orders)
    return out


def reasons(
    model: nn.Module,
    x: Tensor,
    mask: Tensor,
    context: Tensor | None,
    reference: Reference,
    names: tuple[str, ...],
    inputs: np.ndarray,
    most: int = 5,
) -> dict[str, Any]:
    """The `most` strongest channels of one row, as `name`, `contribution` (points of probability), `percentile` among
    the train rows and `in_words`; `adds_up` says whether all contributions together explain the score.

    `names` are those of (69 channels, context), `inputs` (d,) the row as `reference` names it.
    """
    average = None
    if context is not None:
        at = {name: i for i, name in enumerate(reference.names)}
        median = np.nanmedian(reference.inputs, axis=0)
        values = [median[at[name]] if name in at else np.nan for name in names[x.shape[-1] :]]
        average = torch.nan_to_num(torch.tensor(values, dtype=torch.float32))
    made = contributions(model, x, mask, context, average)
    where = dict(zip(reference.names, reference.percentiles(inputs)))
    strongest = np.argsort(-np.abs(made["contributions"]), kind="stable")[:most]
    rows = []
    for i in strongest:
        name, points = names[i], 100 * float(made["contributions"][i])
        at_percent = float(where.get(name, np.nan))
        place = f" (above {at_percent:.0f}% of the train rows)" if np.isfinite(at_percent) else ""
        text = f"{name}{place} {'adds' if points > 0 else 'takes'} {abs(points):.2f} points"
        rows.append({"name": name, "contribution": points / 100, "percentile": at_percent, "in_words": text})
    return {
        "reasons": rows,
        "base": made["base"],
        "score": made["value"],
        "adds_up": abs(made["gap"]) <= 2 * ADDS_UP * max(abs(made["value"] - made["base"]), 0.01),
    }
