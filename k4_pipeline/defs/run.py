"""One run of the whole graph in this process, on the same instance as the UI: what `k4 run` does."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from k4_pipeline.config import config_hash
from k4_pipeline.defs.audit_facts import REQUEST_TAG, requests_dir
from k4_pipeline.defs.causes import step_cause
from k4_pipeline.defs.graph import ASSET_ORDER, PARTITIONED_ASSETS
from k4_pipeline.defs.instance import open_instance
from k4_pipeline.defs.interrupts import watching_for_stop
from k4_pipeline.defs.partitions import as_of_partitions
from k4_pipeline.defs.progress import ProgressDisplay, showing
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import load_table
from k4_pipeline.errors import ConfigError
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.writer_lock import show_life

# What must exist before the newest as_of with evidence can be named.
DATA_ASSETS = ASSET_ORDER[: ASSET_ORDER.index("dataset_split")]


@dataclass(frozen=True)
class CheckOutcome:
    """One check evaluation of a run. `blocking`: a failure stops the run (a warning does not)."""

    asset: str
    check: str
    passed: bool
    blocking: bool
    description: str


@dataclass
class RunOutcome:
    """What became of a run. `step_errors`: one clear sentence per step that failed by itself."""

    success: bool
    run_ids: list[str] = field(default_factory=list)
    checks: list[CheckOutcome] = field(default_factory=list)
    step_errors: list[str] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """One clear sentence for each check that stopped it and for each step that failed by itself."""
        stopped = [c for c in self.checks if c.blocking and not c.passed]
        held = [f"check {c.check} on {c.asset} does not hold: {c.description}" for c in stopped]
        return held + self.step_errors

    def then(self, later: RunOutcome) -> RunOutcome:
        """Both runs as one outcome."""
        return RunOutcome(
            self.success and later.success,
            self.run_ids + later.run_ids,
            self.checks + later.checks,
            self.step_errors + later.step_errors,
        )


def choose_as_of(settings: Settings, wanted: str | None) -> str:
    """The newest quarter start up to `wanted`, or without it the newest one whose test span is labelled.

    An earlier split knows less, so any date may be given. Raises `ConfigError` for what is no date, or too early.
    """
    from k4_pipeline.splits.as_of import default_as_of

    if wanted is None:
        ref = ArtifactStore(settings.artifacts_dir).current("labeled_snapshots")
        return default_as_of(load_table(ref), settings.config.split).isoformat()
    keys = as_of_partitions.get_partition_keys()
    try:
        day = dt.date.fromisoformat(wanted).isoformat()
    except ValueError:
        raise ConfigError(f"--as-of {wanted!r} is no date; write it as YYYY-MM-DD") from None
    before = [key for key in keys if key <= day]
    if not before:
        raise ConfigError(f"--as-of {wanted} lies before the first quarter, {keys[0]}")
    return before[-1]


@dg.logger(config_schema={"path": str}, description="Everything Dagster says, into one file.")
def file_logger(context: dg.InitLoggerContext) -> logging.Logger:
    """A logger that appends to a file and prints nothing."""
    logger = logging.Logger("k4 run", logging.DEBUG)
    handler = logging.FileHandler(context.logger_config["path"])
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    return logger


def run_graph(
    settings: Settings,
    assets: tuple[str, ...],
    *,
    as_of: str | None,
    log: Path,
    progress: ProgressDisplay | None = None,
    started_by: str = "k4 run",
) -> RunOutcome:
    """Materialize `assets` with their checks; the run is recorded under K4_HOME and visible in the UI."""
    from k4_pipeline.defs.build import build_defs

    defs = build_defs({"k4": K4Resource.frozen(settings)}, loggers={"file": file_logger})
    job = defs.resolve_job_def("full_pipeline")
    partitioned = any(name in PARTITIONED_ASSETS for name in assets)
    run_id, request = str(uuid.uuid4()), config_hash(settings.config)
    # A night was not asked for with options: its settings are those of the home.
    asked = (requests_dir(settings) / f"{request}.json").is_file()
    show_life(settings.home, run_id)
    with open_instance(settings) as instance, showing(progress), watching_for_stop() as asked_to_stop:
        try:
            result = job.execute_in_process(
                instance=instance,
                partition_key=as_of if partitioned else None,
                run_config={"loggers": {"file": {"config": {"path": str(log)}}}},
                asset_selection=[dg.AssetKey(name) for name in assets],
                raise_on_error=False,
                tags={"k4/started_by": started_by, **({REQUEST_TAG: request} if asked else {})},
                run_id=run_id,
            )
            if asked_to_stop():
                raise KeyboardInterrupt
        except BaseException:  # Ctrl-C: Dagster leaves such a run as started, or calls it failed
            run = instance.get_run_by_id(run_id)
            if run is not None and run.status != dg.DagsterRunStatus.SUCCESS:
                instance.report_run_canceled(run, message="Interrupted from the shell.")
            raise
    return _outcome(result)


def _outcome(result: dg.ExecuteInProcessResult) -> RunOutcome:
    outcome = RunOutcome(result.success, [result.run_id])
    blocked: set[str | None] = set()
    for event in result.all_events:
        if event.event_type == dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            check = CheckOutcome(
                evaluation.asset_key.to_user_string(),
                evaluation.check_name,
                bool(evaluation.passed),
                bool(evaluation.blocking) and evaluation.severity == dg.AssetCheckSeverity.ERROR,
                evaluation.description or "",
            )
            outcome.checks.append(check)
            if check.blocking and not check.passed:
                blocked.add(event.step_key)
        elif event.event_type == dg.DagsterEventType.STEP_FAILURE and event.step_key not in blocked:
            outcome.step_errors.append(f"{event.step_key}: {step_cause(event)}")
    return outcome
