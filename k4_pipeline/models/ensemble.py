"""Several models as one: networks, trees and a logit, averaged kind by kind, behind the interface of a network.

`forward(x, mask, context)` gives log-probabilities as logits, so whatever scores, stores or fingerprints a network does
the same with an ensemble. Trees and logit live in the state as the bytes of their JSON text: one safetensors file holds
everything, and its hash covers everything.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from k4_pipeline.config import N_CLASSES, ModelConfig
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.models.build import build_model
from k4_pipeline.models.forest import ExtraTrees
from k4_pipeline.models.tabular import GradientBoosting, Logit

TABULAR_KINDS: dict[str, Any] = {"gradient_boosting": GradientBoosting, "logit": Logit, "extra_trees": ExtraTrees}
WITHOUT_CONTEXT = "_without_context"  # ends the kind of a network that reads the sequence alone


class Corrected(nn.Module):
    """A network whose class weights are taken out of its logits again: logits - log(weights)."""

    log_weights: Tensor

    def __init__(self, network: nn.Module, log_weights: Tensor | None = None) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("log_weights", torch.zeros(N_CLASSES) if log_weights is None else log_weights.float())

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Logits (batch, classes)."""
        return self.network(x, mask, context) - self.log_weights


def row_of(x: np.ndarray, context: np.ndarray) -> np.ndarray:
    """What trees and logit read: the last bar of x (batch, length, features) and the context (batch, k), float32."""
    return with_origin(np.concatenate([x[:, -1].astype(np.float32), context.astype(np.float32)], axis=1), 1.0)


def with_origin(rows: np.ndarray, origin: float) -> np.ndarray:
    """`rows` (n, d) with one more column: 1 for a snapshot, 0 for a training window."""
    return np.concatenate([rows, np.full((len(rows), 1), origin, np.float32)], axis=1)


class TextModel(nn.Module):
    """Trees or a logit as a module without parameters: its text is a buffer of bytes."""

    text: Tensor

    def __init__(self, kind: str, text: str = "", n_bytes: int = 0) -> None:
        super().__init__()
        self.kind = kind
        data = np.frombuffer(text.encode(), dtype=np.uint8).copy() if text else np.zeros(n_bytes, np.uint8)
        self.register_buffer("text", torch.from_numpy(data))
        self._fitted: Any = None

    def fitted(self) -> Any:
        """The model that the text describes."""
        if self._fitted is None:
            self._fitted = TABULAR_KINDS[self.kind].from_json(bytes(self.text.cpu().numpy()).decode())
        return self._fitted

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probabilities (batch, classes)."""
        assert context is not None
        p = self.fitted().predict_proba(row_of(x.float().cpu().numpy(), context.float().cpu().numpy()))
        return torch.from_numpy(np.log(p)).float().to(x.device)


class Ensemble(nn.Module):
    """Members (kind, module), averaged within a kind and then over the kinds; a single one is passed on as it is.

    `validated` are the members as validation saw them, where the others were fitted once more on all rows known;
    with `both` the two are averaged.
    """

    def __init__(
        self,
        kinds: list[str],
        members: list[nn.Module],
        validated: list[nn.Module] | None = None,
        config: ModelConfig | None = None,
        *,
        both: bool = False,
    ) -> None:
        super().__init__()
        self.both = both
        self.config = config or ModelConfig()
        self.kinds = list(kinds)
        self.members = nn.ModuleList(members)
        self.validated_members = None if validated is None else nn.ModuleList(validated)
        self.n_classes = N_CLASSES

    def validated(self) -> Ensemble:
        """The ensemble that never saw a validation row: what validation rows may be scored with."""
        if self.validated_members is None:
            return self
        return Ensemble(self.kinds, list(self.validated_members), config=self.config)

    def member(self, i: int) -> nn.Module:
        """Member i as validation saw it."""
        return (self.validated_members or self.members)[i]

    def forward(self, x: Tensor, mask: Tensor, context: Tensor | None = None) -> Tensor:
        """Log-probabilities (batch, classes) of x (batch, length, features), mask and context (batch, n_context)."""
        if len(self.members) == 1 and not self.both:
            return self.members[0](x, mask, context)
        by_kind: dict[str, list[Tensor]] = {}
        pairs = list(zip(self.kinds, self.members))
        if self.both and self.validated_members is not None:
            pairs += zip(self.kinds, self.validated_members)
        for kind, member in pairs:
            by_kind.setdefault(kind, []).append(torch.softmax(member(x, mask, context).double(), dim=-1))
        means = [torch.stack(parts).mean(dim=0) for parts in by_kind.values()]
        return torch.log(torch.stack(means).mean(dim=0).clamp(min=1e-12)).float()

    def describe(self) -> list[dict[str, Any]]:
        """What `build_ensemble` needs beside the state; JSON-able."""
        out = []
        for i, kind in enumerate(self.kinds):
            validated = [] if self.validated_members is None else [self.validated_members[i]]
            pair: list[Any] = [self.members[i], *validated]
            if kind in TABULAR_KINDS:
                out.append({"kind": kind, "bytes": [len(m.text) for m in pair]})
            else:
                network = pair[0].network
                out.append({"kind": kind, "n_features": network.n_features, "n_context": network.n_context})
        return out


def build_ensemble(config: ModelConfig, description: list[dict[str, Any]], *, refitted: bool, both: bool) -> Ensemble:
    """An ensemble of that shape, to load a state into."""

    def module(entry: dict[str, Any], which: int) -> nn.Module:
        kind = entry["kind"]
        if kind in TABULAR_KINDS:
            return TextModel(kind, n_bytes=int(entry["bytes"][which]))
        return Corrected(build_model(network_config(config, kind), entry["n_features"], n_context=entry["n_context"]))

    try:
        kinds = [entry["kind"] for entry in description]
        sets = [[module(entry, which) for entry in description] for which in range(2 if refitted else 1)]
    except (KeyError, IndexError, TypeError) as problem:
        raise StaleArtifactError(f"the stored ensemble is not described as expected ({problem}); train again") from None
    return Ensemble(kinds, sets[0], sets[1] if refitted else None, config, both=both)


def network_config(config: ModelConfig, kind: str) -> ModelConfig:
    """The settings of a network of that kind; TabM and one without context take half of the head's dropout."""
    architecture = kind.removesuffix(WITHOUT_CONTEXT)
    share = 0.5 if kind != architecture or kind == "tabm" else 1.0
    head = None if config.head_dropout is None else config.head_dropout * share
    return dataclasses.replace(config, architecture=architecture, head_dropout=head)  # type: ignore[arg-type]
