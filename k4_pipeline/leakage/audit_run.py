"""One call for the whole audit: stored artifacts or the small universe, every check, and the negative controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig
from k4_pipeline.leakage.audit import AuditContext, AuditReport, AuditSample, run_checks
from k4_pipeline.leakage.isolated import ContextSource, run_isolated
from k4_pipeline.leakage.small import SMALL_AS_OF, small_config
from k4_pipeline.leakage.verdict import Verdict
from k4_pipeline.market.storage import ArtifactStore

Progress = Callable[[int, int], None]


def run(
    *,
    config: PipelineConfig,
    store_root: Path | str | None,
    as_of: str | None = None,
    sample: str = "normal",
    seed: int = 0,
    controls: bool = False,
    isolated: bool = True,
    workers: int = 1,
    budget_s: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The audit as a JSON-able dict: what, passed, verdicts, seconds, not_applicable.

    `store_root` None audits the code on the small simulated universe of `seed`, else the artifacts stored there. A
    check that does not apply proves nothing and is named with its reason; the others must all hold.
    """
    chosen = dataclasses.replace(AuditSample.named("small" if store_root is None else sample), seed=seed)
    if store_root is None:
        source = ContextSource(small_config(seed), as_of or SMALL_AS_OF, chosen)
        what = f"the code, on the small universe {seed} at {source.as_of}"
    else:
        from k4_pipeline.leakage.artifacts import newest_as_of

        chosen = dataclasses.replace(chosen, refits=0) if sample == "normal" else chosen
        source = ContextSource(config, as_of or newest_as_of(ArtifactStore(store_root)), chosen, store=str(store_root))
        what = f"the artifacts of {source.as_of}"
    context = source.context()
    if isolated:
        report = run_isolated(source, context, workers=workers, budget_s=budget_s, progress=progress)
    else:
        report = run_checks(context, progress=progress)
    if store_root is not None:
        _add_chain(report, context)
    if controls:
        from k4_pipeline.leakage.controls import run_controls

        control_report = run_controls(seed=seed)
        report.verdicts += control_report.verdicts
        report.seconds |= control_report.seconds
    if context.extra.get("no_raw"):
        report.not_applicable = {
            name: f"{reason} ({context.extra['no_raw']})" if "raw" in reason else reason
            for name, reason in report.not_applicable.items()
        }
    sizes = dataclasses.asdict(chosen)
    return {"what": what, "as_of": source.as_of, "sample": sizes, **report.to_dict()}


def _add_chain(report: AuditReport, context: AuditContext) -> Verdict:
    from k4_pipeline.leakage.artifacts import chain_verdict

    verdict = chain_verdict(context.extra["store"], context.extra["refs"])
    report.verdicts.insert(0, verdict)
    return verdict


def audit_artifacts(
    store: ArtifactStore,
    config: PipelineConfig,
    as_of: str | None = None,
    *,
    sample: AuditSample | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Every applicable check on the stored artifacts of `as_of`, in this process. The refit is left to `thorough`."""
    from k4_pipeline.leakage.artifacts import artifact_context

    chosen = sample or dataclasses.replace(AuditSample.named("normal"), refits=0)
    context = artifact_context(store, config, as_of, chosen)
    report = run_checks(context, progress=progress)
    _add_chain(report, context)
    return report
