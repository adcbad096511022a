"""When the model is trained again: every quarter, when matured signals refute a certificate, and when drift lasts.

What has too little data to be judged is skipped with the reason; a failed run is for what should have worked.
"""

from __future__ import annotations

import datetime as dt

import dagster as dg

from k4_pipeline.defs.jobs import retrain
from k4_pipeline.defs.partitions import newest_labelled_as_of
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import load_json, load_table
from k4_pipeline.errors import K4Error
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore

LOOK_EVERY_S = 3600
NOT_AGAIN_DAYS = 30  # a broken certificate that retraining did not mend is for a person


def too_little_data(settings: Settings, as_of: str) -> str:
    """Why a model of `as_of` cannot be trained and judged on what is stored; "" when it can."""
    from k4_pipeline.errors import BadInputError
    from k4_pipeline.splits.walk_forward import split_snapshots

    store = ArtifactStore(settings.artifacts_dir)
    try:
        labeled = load_table(store.last_good("labeled_snapshots"))
    except K4Error:
        return "no labelled snapshots are stored yet; `k4 run` makes the first model"
    serves = _as_of_that_serves(settings, store)
    if serves >= as_of:
        return f"the champion is of {serves}, and no model of a later quarter can be judged yet (newest: {as_of})"
    try:
        _, manifest = split_snapshots(labeled, as_of, settings.config.split)
    except BadInputError as problem:
        return f"too little data to retrain at {as_of}: {problem}"
    if not manifest.rows.get("test"):
        return f"no snapshot after {as_of} has a known label, so a model of it could not be judged"
    return ""


def _as_of_that_serves(settings: Settings, store: ArtifactStore) -> str:
    """Of the champion of this market; "" where there is none."""
    from k4_pipeline.evaluation import champion

    try:
        record = champion.Record.read(store.last_good(champion.CHAMPION))
    except K4Error:
        return ""
    return record.as_of if record.market == champion.market_identity(settings.config) else ""


def reasons_to_retrain(store: ArtifactStore, lasting: int) -> list[str]:
    """Sentences from the last night about refuted certificates, lasting drift and age; empty when nothing asks for a
    new model. `lasting`: nights in a row that drift must show."""
    found: list[str] = []
    try:
        shown = load_json(store.last_good("signal_outcomes"), "monitor.json")
        found += [f"the certificate of {t['tier']} is refuted" for t in shown["tiers"] if t["claim_holds"] is False]
        drift = store.last_good("drift").meta
        if drift["in_a_row"] >= lasting:
            found.append(f"drift on {drift['in_a_row']} nights in a row: {'; '.join(drift['why'])}")
        too_old = store.last_good("signals").meta["none_because"]
        found += [too_old] if too_old else []
    except K4Error:
        pass  # no night yet
    return found


@dg.sensor(
    name="retrain_when_needed",
    job=retrain,
    minimum_interval_seconds=LOOK_EVERY_S,
    description="Retrains when matured signals refute a certificate, when drift lasts, or past the age limit; once in "
    f"{NOT_AGAIN_DAYS} days at most, and not with too little data. Stopped until switched on.",
)
def retrain_when_needed(context: dg.SensorEvaluationContext, k4: K4Resource) -> dg.RunRequest | dg.SkipReason:
    """One look at what the last night found."""
    settings, today = k4.settings(), dt.datetime.now(dt.UTC).date()
    reasons = reasons_to_retrain(ArtifactStore(settings.artifacts_dir), settings.config.serving.drift_lasting_nights)
    if not reasons:
        return dg.SkipReason("no certificate is refuted, no drift lasts, the champion is young enough")
    last = context.cursor
    if last and (today - dt.date.fromisoformat(last)).days < NOT_AGAIN_DAYS:
        return dg.SkipReason(f"{reasons[0]}, but a model was trained for such a reason on {last}")
    config = settings.config
    as_of = newest_labelled_as_of(today, config.split.test_months, config.labels.horizon_bars)
    why = too_little_data(settings, as_of)
    if why:
        return dg.SkipReason(why)
    context.update_cursor(str(today))
    return dg.RunRequest(run_key=f"retrain-{as_of}-{today}", partition_key=as_of, tags={"k4/why": reasons[0][:200]})
