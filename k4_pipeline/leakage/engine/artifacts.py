"""The audit of stored artifacts: what the store holds for one as-of date, in the form the checks read.

Every version is taken with the very inputs it names, its bytes verified, and with the settings that were asked for. Raw
bars are read from the source again; a source file written since is the one reason not to, and leaves the proof open.
"""

from __future__ import annotations

import atexit
import dataclasses
import datetime as dt
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from k4_pipeline.config import FILE_SOURCES, PipelineConfig, SourceConfig, from_dict
from k4_pipeline.errors import BadInputError, K4Error, StaleArtifactError
from k4_pipeline.evaluation.calibration import Calibrator
from k4_pipeline.features.context_table import read_context
from k4_pipeline.features.panel import read_panel
from k4_pipeline.leakage.engine.audit import AuditContext, AuditSample, day_text
from k4_pipeline.leakage.engine.fingerprints import package_fingerprint
from k4_pipeline.leakage.oracles.reader import cut_file, files_of, plain_copy, why_not_plain
from k4_pipeline.market import sources
from k4_pipeline.market.bars import Bars
from k4_pipeline.market.files.places import place_of
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.patterns.labels import LABEL_COLUMNS
from k4_pipeline.pipeline.full_night import changed_tickers
from k4_pipeline.pipeline.model_files import certificates_of
from k4_pipeline.pipeline.reference import Reference
from k4_pipeline.pipeline.stages import Fitted, PipelineRun, clean
from k4_pipeline.pipeline.stored_bars import NIGHT_BARS, night_bars_of
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.splits.manifest import SplitManifest
from k4_pipeline.storage import ArtifactRef, ArtifactStore, read_parquet
from k4_pipeline.storage.code_version import described
from k4_pipeline.training.checkpoint import load_checkpoint
from k4_pipeline.verdict import Verdict

DATA = (
    "daily_bars",
    "snapshots",
    "labeled_snapshots",
    "market_features",
    "sequences",
    "context_features",
    "training_windows",
)
OF_AS_OF = ("dataset_split", "trained_model", "predictions")
REPORT = "validation_report"
SERVING = ("signals", "todays_list", "drift", "champion_model", "walk_forward_report")
WRITTEN = ("LastModified", "mtime", "created")  # when a file of a store was written, by kind of store
Export = Callable[[str, Path, "str | None"], Any]


def was_made(store: ArtifactStore, asset: str) -> bool:
    """Whether a version of an unpartitioned asset was ever committed, whatever its verdict."""
    try:
        store.newest(asset)
    except StaleArtifactError:
        return False
    return True


def newest_as_of(store: ArtifactStore) -> str:
    """The newest as-of date with predictions; `BadInputError` when there is none."""
    partitions = store.partitions("predictions")
    if not partitions:
        raise BadInputError("the store holds no predictions yet: run the pipeline first (k4 run)")
    return max(partitions)


def open_refs(store: ArtifactStore, as_of: str) -> dict[str, ArtifactRef]:
    """The current version of everything that leads to the predictions of `as_of` (and its report, when there is one).

    Raises `StaleArtifactError` when one is missing, failed its checks, or was made from another version of its inputs.
    """
    refs = {name: store.current(name) for name in DATA} | {name: store.current(name, as_of) for name in OF_AS_OF}
    if as_of in store.partitions(REPORT):
        refs[REPORT] = store.current(REPORT, as_of)
    store.verify_chain(list(refs.values()))
    for ref in refs.values():
        ref.verify()
    return refs


def recorded_config(config: PipelineConfig, refs: dict[str, ArtifactRef]) -> PipelineConfig:
    """`config` with every section as it was recorded when the artifacts were made."""
    for ref in refs.values():
        if "config.json" not in ref.files:
            continue
        for section, values in json.loads(ref.path("config.json").read_text()).items():
            current = getattr(config, section)
            config = dataclasses.replace(config, **{section: from_dict(type(current), values)})
    return config


def requested_config(config: PipelineConfig, refs: dict[str, ArtifactRef], facts: dict[str, Any]) -> PipelineConfig:
    """As `recorded_config`, but with what was asked for by the runs that made the artifacts, where that is known."""
    config = recorded_config(config, refs)
    for name, ref in refs.items():
        if name in facts and "config.json" in ref.files:
            asked = facts[name]["requested"]
            sections = {
                s: from_dict(type(getattr(config, s)), asked[s])
                for s in json.loads(ref.path("config.json").read_text())
            }
            config = dataclasses.replace(config, **sections)
    if "signals" in facts:
        serving = from_dict(type(config.serving), facts["signals"]["requested"]["serving"])
        config = dataclasses.replace(config, serving=serving)
    return config


def changed_since(path: str, when: float | None) -> str:
    """Why a file cannot be compared any more: it was written after `when`, when what was made of it was stored, or a
    store does not say when it was written; "" when it was not."""
    if "://" in path:
        place = place_of(path)
        found = place.fs.find(place.path, detail=True).values()
        stamps = [next((info[n] for n in WRITTEN if info.get(n) is not None), None) for info in found]
        if not stamps or None in stamps:
            return f"{path} does not say when it was written, so nothing shows that it is the file that was read"
        newest = max(s.timestamp() if isinstance(s, dt.datetime) else float(s) for s in stamps if s is not None)
    else:
        root = Path(path)
        files = [p for p in (root.rglob("*") if root.is_dir() else [root]) if p.is_file()]
        newest = max((p.stat().st_mtime for p in files), default=0.0)
    if when is None or newest <= when:
        return ""
    text = dt.datetime.fromtimestamp(newest, dt.UTC).strftime("%Y-%m-%d %H:%M")
    return f"{path} was written at {text} UTC, after what was made of it; run k4 run again"


def raw_again(config: PipelineConfig, when: float | None = None) -> tuple[RawBars | None, str]:
    """The raw bars read again from their source; None and why when the source is another one by now, or no file."""
    if config.source.source in ("yfinance", "plugin", *sources.VENDORS):
        return None, "a vendor is not asked again during an audit"
    if config.source.source in FILE_SOURCES:
        why = changed_since(config.source.path, when)
        if why:
            return None, why
    exchange = config.cleaning.default_exchange
    return sources.read_bars(config.source, config.simulation, default_exchange=exchange), ""


def source_here(source: SourceConfig) -> str:
    """The path of the source, or of a copy of it that lives as long as this process, where it lies in a store or an
    archive."""
    if source.source not in FILE_SOURCES:
        return ""
    folder = Path(tempfile.mkdtemp(prefix="k4-audit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = plain_copy(source.path, folder)
    files = files_of(path)
    return str(files[0] if source.source == "table" and len(files) == 1 else path)


def raw_before_the_nights(
    full: PipelineRun, config: PipelineConfig, when: float | None, here: str
) -> tuple[RawBars | None, str, str]:
    """The raw bars of a source that has grown since the full run, without the sessions it grew by, and the path of a
    copy that ends there; None and why where the source has restated what it had sent."""
    folder = Path(tempfile.mkdtemp(prefix="k4-audit-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = str(cut_file(Path(here), day_text(full.bars.last_day), folder))
    source, exchange = dataclasses.replace(config.source, path=path), config.cleaning.default_exchange
    try:
        raw = sources.read_bars(source, config.simulation, default_exchange=exchange)
        again = clean(raw, config, None if when is None else dt.datetime.fromtimestamp(when, dt.UTC).date())
    except BadInputError as problem:
        return None, str(problem), ""
    others = changed_tickers(full.bars, again.bars)
    if others or (full.rejects is not None and list(full.rejects["reason"]) != list(again.rejects["reason"])):
        what = f"of {', '.join(others[:3])}" if others else "of rows that are refused"
        why = f"the source has restated the past {what} since the bars were made; `k4 nightly --full` takes it in"
        return None, why, ""
    return raw, "", path


def stored_fitted(refs: dict[str, ArtifactRef]) -> Fitted:
    """Scaler, weights and calibrator with what is recorded of their fit."""
    folder = refs["trained_model"].dir
    model, meta = load_checkpoint(folder)
    facts = json.loads((folder / "facts.json").read_text())
    return Fitted(
        scaler=Scaler.from_json(meta["scaler_json"]),
        model=model,
        calibrator=Calibrator.from_json((folder / "calibrator.json").read_text()),
        as_of=str(refs["trained_model"].partition),
        history=facts["history"],
        best_epoch=int(facts["best_epoch"]),
        monitor_name=str(facts["monitor"]).removeprefix("validation_"),
        members=facts["members"],
        class_counts=list(facts.get("class_counts", [])),
        record=dict(facts.get("seen", {})),
        certificates=certificates_of(folder),
    )


def path_of(
    refs: dict[str, ArtifactRef], config: PipelineConfig, as_of: str | None, *, raw: RawBars | None = None
) -> PipelineRun:
    """The stored tables of `refs` as a `PipelineRun`: the five data assets; split, model, predictions if there.

    `snapshots` may be missing: the labelled ones are the same rows.

    `config` is what they were made with.
    """

    def table(asset: str, name: str = "") -> pd.DataFrame:
        return read_parquet(refs[asset].path(f"{name or asset}.parquet"))

    has, labeled = refs.keys(), table("labeled_snapshots")
    made = table("snapshots") if "snapshots" in has else labeled.drop(columns=list(LABEL_COLUMNS))
    split = "dataset_split" in has
    return PipelineRun(
        config=config,
        as_of=as_of,
        raw=raw,
        bars=Bars.from_frame(table("daily_bars")),
        rejects=table("daily_bars", "rejects"),
        panel=np.asarray(read_panel(refs["market_features"].dir).values),
        snapshots=made,
        labeled=labeled,
        sequences=table("sequences"),
        split=table("dataset_split") if split else None,
        manifest=SplitManifest.from_json(refs["dataset_split"].path("split.json").read_text()) if split else None,
        fitted=stored_fitted(refs) if "trained_model" in has else None,
        predictions=table("predictions") if "predictions" in has else None,
        context=np.asarray(read_context(refs["context_features"].dir).values) if "context_features" in has else None,
        windows=table("training_windows") if "training_windows" in has else None,
        metrics=_report_metrics(refs.get(REPORT)),
        given=made if "snapshots" in has and "counts" in refs["snapshots"].meta else None,
    )


def labels_of_file(refs: dict[str, ArtifactRef]) -> bool:
    """Whether the classes come from a snapshot file, so that no race gives them."""
    return "outcomes.parquet" in refs["snapshots"].files


def load_path(
    store: ArtifactStore, config: PipelineConfig, as_of: str, facts: dict[str, Any] | None = None
) -> tuple[PipelineRun, dict[str, Any]]:
    """The stored tables as a `PipelineRun`, and what else the checks of stored artifacts look at."""
    refs, facts = open_refs(store, as_of), facts or {}
    config = requested_config(config, refs, facts)
    full = path_of(refs, config, as_of)
    when = facts.get("daily_bars", {}).get("at")
    inapplicable = {"provenance": "the chain of stored versions is proved instead"}
    unproved = {"facts": "no run of this home made these artifacts, so what was asked for is not on record"}
    full.raw, unproved["raw"] = raw_again(config, when)
    here = cut = source_here(config.source)
    if full.raw is None and here and not why_not_plain(here) and night_bars_of(store, refs["daily_bars"]) is not None:
        full.raw, unproved["raw"], cut = raw_before_the_nights(full, config, when, here)
    if config.source.source == "simulated":
        inapplicable["source file"] = "the market is simulated: there is no file"
    unproved["source file"] = unproved["raw"] or (why_not_plain(cut) if cut else "")
    if not config.source.snapshots_path:
        inapplicable["snapshot file"] = "the snapshots were scanned from the bars: no file was asked for"
    else:
        unproved["snapshot file"] = changed_since(config.source.snapshots_path, facts.get("snapshots", {}).get("at"))
        inapplicable["scanned"] = f"the snapshots were asked for from {config.source.snapshots_path}"
        if file_has_classes(config.source.snapshots_path):
            inapplicable["raced"] = f"{config.source.snapshots_path} gives the classes itself"
    has = {name: was_made(store, name) for name in SERVING}
    has["ledger"] = has["signals"] and was_made(store, "prediction_ledger")
    names = {"champion_model": "champion", "walk_forward_report": "walk forward", "todays_list": "todays list"}
    inapplicable |= {names.get(n, n): f"no {n} was ever made in this home" for n, there in has.items() if not there}
    if has["signals"] and _last_night_unfinished(store):
        has["signals"] = has["ledger"] = False
        unproved["ledger"] = unproved["signals"] = "bars were added since the signals were made; run `k4 nightly` again"
    if has["signals"] and (why := store.newest("signals").meta.get("none_because")):
        has["signals"] = has["ledger"] = False
        inapplicable["ledger"] = inapplicable["signals"] = why
    extra = {"store": store, "refs": refs, "has": has, "labels_of_file": labels_of_file(refs), "facts": facts}
    extra["source path"] = cut
    extra["threads"] = json.loads(refs["trained_model"].path("facts.json").read_text()).get("threads")
    if REPORT in refs:
        extra |= {
            "report": json.loads(refs[REPORT].path("report.json").read_text()),
            "baselines": read_parquet(refs[REPORT].path("baselines.parquet")),
            "reference": Reference.read(refs["trained_model"].dir),
        }
    return full, {**extra, "inapplicable": inapplicable, "unproved": unproved}


def _last_night_unfinished(store: ArtifactStore) -> bool:
    """Whether the newest addition of a night to the bars is not that of the signals."""
    added = night_bars_of(store, store.current("daily_bars"))
    return store.current("signals").inputs.get(NIGHT_BARS) != (None if added is None else added.fingerprint)


def file_has_classes(path: str) -> bool:
    """Whether a snapshot file has a column of classes, looked up in the file itself."""
    names = pq.read_schema(path).names if path.endswith((".parquet", ".pq")) else pd.read_csv(path, nrows=0).columns
    return any("outcome" in str(n).lower() or "class" in str(n).lower() or "label" in str(n).lower() for n in names)


def _report_metrics(ref: ArtifactRef | None) -> dict[str, Any] | None:
    if ref is None:
        return None
    return json.loads(ref.path("report.json").read_text())["metrics"]


def artifact_context(
    store: ArtifactStore,
    config: PipelineConfig,
    as_of: str | None,
    sample: AuditSample | None = None,
    facts: dict[str, Any] | None = None,
    export: Export | None = None,
) -> AuditContext:
    """The stored artifacts of `as_of` (default: the newest with predictions) as an `AuditContext`.

    `facts`: what is known of the runs that made them (settings asked for, times), by asset; `export`: writes a table of
    the graph to a file, as `k4 export` does.
    """
    full, extra = load_path(store, config, as_of or newest_as_of(store), facts)
    when = (facts or {}).get("daily_bars", {}).get("at")
    today = dt.datetime.fromtimestamp(when, dt.UTC).date() if when else None
    return AuditContext(full, sample or AuditSample.named("normal"), today, {**extra, "export": export})


def chain_verdict(store: ArtifactStore, refs: dict[str, ArtifactRef]) -> Verdict:
    """Bytes, links and code of every stored version: it names the fingerprints of the current versions of its inputs,
    and the code that made it is the code installed."""
    name = "stored_artifacts_form_an_unbroken_chain"
    findings, links = [], 0
    by_key = {ref.key: ref for ref in refs.values()}
    for ref in refs.values():
        try:
            ref.verify()
        except K4Error as error:
            findings.append(str(error))
        findings += store.broken_code(ref)
        links += bool(ref.code)
        for key, recorded in ref.inputs.items():
            links += 1
            source = by_key.get(key)
            actual = source.fingerprint if source else store.current(*_split_key(key)).fingerprint
            if recorded != actual:
                findings.append(f"{ref.key} was made from {key} {recorded[:16]}, stored now is {actual[:16]}")
    made_by = {ref.key: described(ref.code) for ref in refs.values()}
    return Verdict.of(name, links, findings, versions=len(refs), code=package_fingerprint(), made_by=made_by)


def _split_key(key: str) -> tuple[str, str | None]:
    asset, _, partition = key.partition("@")
    return asset, partition or None
