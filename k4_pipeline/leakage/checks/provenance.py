"""Fingerprints chained from bars to metrics: what each thing was made from, recomputed from the things themselves.

`record` is taken when a path is run; the check computes every fingerprint again from the tables in hand. For stored
artifacts the manifests of the artifact store hold the record (leakage/engine/artifacts.py).
"""

from __future__ import annotations

import dataclasses

from k4_pipeline.leakage.engine.audit import AuditContext, check
from k4_pipeline.leakage.engine.fingerprints import MADE_FROM, fingerprints, package_fingerprint
from k4_pipeline.verdict import Verdict


def _other_panel(context: AuditContext) -> AuditContext:
    panel = context.full.panel.copy()
    panel[-1, -1] = 0.5
    return context.with_full(panel=panel)


def _other_label(context: AuditContext) -> AuditContext:
    labeled = context.full.labeled.copy()
    labeled.loc[labeled.index[0], "label_bars"] += 1
    return context.with_full(labeled=labeled)


def _no_record(context: AuditContext) -> AuditContext:
    return dataclasses.replace(context, extra={"provenance": {"own": {}, "made_from": {}}})


@check(
    "provenance",
    proves="Every table, the scaler, the weights, the calibrator and the metrics are the ones recorded, and each was "
    "made from the recorded state of its sources by the recorded code.",
    misses="A leak that was there when the record was taken.",
    needs=("provenance",),
    corruptions=(_other_panel, _other_label, _no_record),
)
def the_chain_from_bars_to_metrics_is_unbroken(context: AuditContext) -> Verdict:
    """Fingerprints recomputed from the things in hand equal those recorded, link by link."""
    stored, now = context.extra["provenance"], fingerprints(context.full)
    findings = []
    for name, value in now.items():
        kept = stored["own"].get(name, "nothing")
        if kept != value:
            findings.append(f"{name}: recorded {kept[:16]}, in hand is {value[:16]}; it was changed after it was made")
    for name, sources in MADE_FROM.items():
        if name not in now:
            continue
        links = stored["made_from"].get(name)
        if links is None:
            findings.append(f"{name}: nothing is recorded of what it was made from")
            continue
        for source in sources:
            if source in now and links.get(source) != now[source]:
                findings.append(
                    f"{name} was made from {source} {str(links.get(source, 'nothing'))[:16]}, in hand is "
                    f"{now[source][:16]}"
                )
    return Verdict.of(
        "the_chain_from_bars_to_metrics_is_unbroken",
        len(now),
        findings,
        code=package_fingerprint(),
        links=len(MADE_FROM),
    )
