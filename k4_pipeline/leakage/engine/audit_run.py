"""One call for the whole audit: stored artifacts or the small universe, every check, and the negative controls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig
from k4_pipeline.leakage.engine.audit import AuditContext, AuditReport, AuditSample, run_checks
from k4_pipeline.leakage.engine.isolated import ContextSource, run_isolated
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.verdict import Verdict

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
    why_no_refit = ""
    chosen = dataclasses.replace(AuditSample.named("small" if store_root is None else sample), seed=seed)
    if store_root is None:
        source = ContextSource(small_config(seed), as_of or SMALL_AS_OF, chosen)
        what = f"the code, on the small universe {seed} at {source.as_of}"
    else:
        from k4_pipeline.leakage.engine.artifacts import newest_as_of

        store = ArtifactStore(store_root)
        as_of = as_of or newest_as_of(store)
        if sample == "normal":
            refit, why_no_refit = refit_decision(store, config, as_of)
            chosen = dataclasses.replace(chosen, refits=int(refit))
        source = ContextSource(config, as_of, chosen, store=str(store_root))
        what = f"the artifacts of {source.as_of}"
    context = source.context()
    if isolated:
        report = run_isolated(source, context, workers=workers, budget_s=budget_s, progress=progress)
    else:
        report = run_checks(context, progress=progress)
    if store_root is not None:
        _add_chain(report, context)
    if controls:
        from k4_pipeline.leakage.controls.negative_controls import run_controls

        control_report = run_controls(context.full, source.as_of, seed=seed)
        report.verdicts += control_report.verdicts
        report.seconds |= control_report.seconds
    reasons = {"raw": context.extra.get("no_raw", ""), "refit": why_no_refit, "second refit": SECOND_REFIT}
    report.not_applicable = {name: _explained(text, reasons) for name, text in report.not_applicable.items()}
    sizes = dataclasses.asdict(chosen)
    return {"what": what, "as_of": source.as_of, "sample": sizes, **report.to_dict()}


SECOND_REFIT = "the weights are fitted a second time, on bars that are noise from as_of on, by --sample thorough only"


def refit_decision(store: ArtifactStore, config: PipelineConfig, as_of: str) -> tuple[bool, str]:
    """Whether the default audit fits the weights again, and if not, why and how to get it.

    Scaler and calibrator are fitted again by every audit; the weights when their own training took no longer than
    `proof.refit_max_seconds` (the refit takes about as long) and was done on this kind of device.
    """
    ref = store.current("trained_model", as_of)
    facts = json.loads(ref.path("facts.json").read_text())
    seconds, device = ref.meta.get("training_seconds"), str(facts.get("device", "cpu"))
    how = "; `k4 audit --sample thorough` does it"
    if device != "cpu":
        return False, f"the weights were not fitted again: they were trained on {device}, other devices round otherwise"
    if seconds is None:
        return False, f"the weights were not fitted again: their training time is not on record{how}"
    limit = config.proof.refit_max_seconds
    if seconds > limit:
        took = f"their training took {seconds:.0f} s, proof.refit_max_seconds is {limit:.0f}"
        return False, f"the weights were not fitted again: {took}{how}"
    return True, ""


def _explained(text: str, reasons: dict[str, str]) -> str:
    """`needs refit, raw` with what is known of each missing thing."""
    missing = text.removeprefix("needs ").split(", ")
    known = [reasons[name] for name in missing if reasons.get(name)]
    return f"{text} ({'; '.join(known)})" if known else text


def _add_chain(report: AuditReport, context: AuditContext) -> Verdict:
    from k4_pipeline.leakage.engine.artifacts import chain_verdict

    verdict = chain_verdict(context.extra["store"], context.extra["refs"])
    report.verdicts.insert(0, verdict)
    return verdict
