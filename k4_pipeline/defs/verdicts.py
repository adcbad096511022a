"""Verdicts of checks as they are stored beside a promoted version, and read back for reports and the champion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from k4_pipeline.storage import ArtifactRef, ArtifactStore
from k4_pipeline.storage.json_values import json_safe
from k4_pipeline.verdict import Verdict


def pack(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """The JSON that `ArtifactStore.promote` keeps."""
    return {"checks": [json_safe(v.to_dict()) for v in verdicts]}


def unpack(stored: dict[str, Any] | None) -> list[Verdict]:
    """The inverse of `pack`; empty when nothing was stored."""
    fields = ("name", "passed", "cases", "findings", "detail")
    return [
        Verdict(**{**{k: v[k] for k in fields}, "findings": tuple(v["findings"])})
        for v in (stored or {}).get("checks", [])
    ]


def stored_verdicts(store: ArtifactStore, refs: Iterable[ArtifactRef]) -> list[Verdict]:
    """All verdicts of these versions, as given, each with the `asset` it is about in its detail."""
    return [
        replace(verdict, detail={**verdict.detail, "asset": ref.asset})
        for ref in refs
        for verdict in unpack(store.verdict(ref))
    ]
