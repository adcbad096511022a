"""One call for the whole audit: stored artifacts or the small universe, every check, and the negative controls."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.engine.audit import AuditReport, AuditSample, load_checks, run_checks
from k4_pipeline.leakage.engine.isolated import ContextSource, run_isolated
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.progress import Progress
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.verdict import guarded


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
    stop_at_failure: bool = False,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
    facts: Callable[[str], dict[str, Any]] | None = None,
    export: Callable[..., Any] | None = None,
) -> dict[str, Any]:
    """The audit as a JSON-able dict: what, status, verdicts, seconds, not_applicable, not_proved.

    `store_root` None audits the code on the small simulated universe of `seed`, else the artifacts stored there, with
    `facts(as_of)` about the runs that made them. A proof that could not be asked, or was not because `names` names only
    others, leaves the audit "not proved". Raises `ConfigError` for a name that no check has.
    """
    chosen = dataclasses.replace(AuditSample.named("small" if store_root is None else sample), seed=seed)
    others = names_of_the_others(names)
    why_no_refit = ""
    if store_root is None:
        source = ContextSource(small_config(seed), as_of or SMALL_AS_OF, chosen)
        what = f"the code, on the small universe {seed} at {source.as_of}"
    else:
        from k4_pipeline.leakage.engine.artifacts import newest_as_of

        store = ArtifactStore(store_root)
        as_of = as_of or newest_as_of(store)
        what = f"the artifacts of {as_of}"
        if why := bars_made_again_since(store, as_of):
            report = AuditReport([], {})
            report.not_proved = {"every_check_of_this_model": why}
            sizes = dataclasses.asdict(chosen)
            return {"what": what, "as_of": as_of, "sample": {"name": sample, **sizes}, **report.to_dict()}
        known = facts(as_of) if facts is not None else {}
        if sample == "normal":
            why_no_refit = why_not_refitted(store, config, as_of, known.get("trained_model", {}).get("seconds"))
            chosen = dataclasses.replace(chosen, refit=not why_no_refit)
        source = ContextSource(config, as_of, chosen, store=str(store_root), facts=known, export=export)
    asked: dict[str, Any] = {"budget_s": budget_s, "stop_at_failure": stop_at_failure, "progress": progress}
    if isolated and config.execution.engine == "ray" and store_root is not None:
        from k4_pipeline.leakage.engine.on_ray import run_on_ray

        report = run_on_ray(source, config.execution, names or None, **asked)
    elif isolated:
        report = run_isolated(source, names or None, workers=workers, **asked)
    else:
        report = run_checks(source.context(), names or None, stop_at_failure=stop_at_failure, progress=progress)
    report.not_proved |= dict.fromkeys(others, "was not asked (--check)")
    if store_root is not None:
        _add_chain(report, store, source.as_of)
    if controls:
        from k4_pipeline.leakage.controls.negative_controls import run_controls

        control_report = run_controls(source.context().full, source.as_of, seed=seed)
        report.verdicts += control_report.verdicts
        report.seconds |= control_report.seconds
    if why_no_refit:
        report.not_proved = {
            name: f"{text} ({why_no_refit})" if "refit" in text else text for name, text in report.not_proved.items()
        }
    sizes = dataclasses.asdict(chosen)
    return {"what": what, "as_of": source.as_of, "sample": {"name": sample, **sizes}, **report.to_dict()}


def names_of_the_others(names: Sequence[str] | None) -> list[str]:
    """The checks that are not among `names`; none where all are asked. Raises `ConfigError` for an unknown name."""
    registry = load_checks()
    if unknown := [name for name in names or () if name not in registry]:
        raise ConfigError(f"no such check: {', '.join(unknown)}; `k4 audit --json` names all of them")
    return [name for name in registry if name not in names] if names else []


def bars_made_again_since(store: ArtifactStore, as_of: str) -> str:
    """Why nothing about the model of `as_of` can be asked: a full run without training (`k4 nightly`, once a week) has
    replaced the tables that it was trained on; "" when they are there."""
    split = store.current("dataset_split", as_of)
    recorded = split.inputs.get("labeled_snapshots")
    labeled = store.current("labeled_snapshots")
    if recorded == labeled.fingerprint or store.broken_code(split):
        return ""
    bars = store.current("daily_bars").meta["last_date"]
    return (
        f"the tables that the model of {as_of} was trained on were made again since, with bars up to {bars}; its "
        f"report holds what was proved then; `k4 run --as-of {as_of}` trains it on the new tables, and can be audited"
    )


def why_not_refitted(store: ArtifactStore, config: PipelineConfig, as_of: str, seconds: float | None) -> str:
    """Why the default audit leaves the second fit of the weights out; "" when it is made.

    `seconds`: what the training step took by the event log. What the artifact says of its own training decides nothing
    but the device, and whatever is left out leaves the audit "not proved".
    """
    ref = store.current("trained_model", as_of)
    device = str(json.loads(ref.path("facts.json").read_text()).get("device", "cpu"))
    if device != "cpu":
        return f"the weights were trained on {device}; other devices round otherwise, so they are not fitted again here"
    limit = config.proof.refit_max_seconds
    if seconds is not None and seconds > limit:
        took = f"their training took {seconds:.0f} s, proof.refit_max_seconds is {limit:.0f}"
        return f"the weights were not fitted again: {took}; `k4 audit --sample thorough` does it"
    return ""


def _add_chain(report: AuditReport, store: ArtifactStore, as_of: str) -> None:
    from k4_pipeline.leakage.engine.artifacts import chain_verdict, open_refs

    name = "stored_artifacts_form_an_unbroken_chain"
    report.verdicts.insert(0, guarded(name, lambda: chain_verdict(store, open_refs(store, as_of))))
