"""Training and scoring between files: `train_candidate` fills a model folder, `score_snapshots` reads one.

What is fitted and how it is scored is `pipeline/fit.py`, which the leakage audit goes through as well; predictions and
signals go through the same function, so a served score is computed exactly as a validated one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K4, N_CLASSES, PipelineConfig, to_dict, without_place
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.progress import Progress
from k4_pipeline.storage import write_parquet
from k4_pipeline.storage.code_version import code_fingerprint

if TYPE_CHECKING:
    from k4_pipeline.evaluation.tiers import Certificates
    from k4_pipeline.features.panel import FeaturePanel

CALIBRATOR = "calibrator.json"
SEEN_ROWS = "seen_rows"
CALIBRATION_ROWS = "calibration_rows"
CERTIFICATE = "certificate.json"
# Whose rows each fitted or chosen thing sees; the others are constants of the configuration and see none.
SEES = {
    "scaler and its clipping bounds": "train",
    "weights": "train, and training windows known before validation",
    "early stopping": "validation (recipe.stopping_frac of its tickers)",
    "calibration": "validation (the other tickers)",
    "weights of the refit": "every row known at as_of, where recipe.refit is set",
    "class weights": "none, constants",
    "missing values": "none, constants",
    "signal thresholds": "none, constants",
    "hyper-parameters": "none, constants",
}
# Parts of the configuration that a trained model depends on.
SECTIONS = ("model", "recipe", "windows", "loss", "training", "tiers")


def train_candidate(
    folder: Path,
    *,
    split: pd.DataFrame,
    sequences: pd.DataFrame,
    panel: FeaturePanel,
    scaler_json: str,
    config: PipelineConfig,
    fingerprints: dict[str, str],
    as_of: str = "",
    context: np.ndarray | None = None,
    windows: pd.DataFrame | None = None,
    progress: Progress | None = None,
    unfinished: Path | None = None,
) -> dict[str, Any]:
    """Train on the train rows, stop early and calibrate on the validation rows; test rows are never read.

    `context` has one row per row of the panel; `windows` is the `training_windows` table.

    `unfinished` is a folder that outlives a killed process: the state of the training is kept there after every epoch,
    and the same training (rows, settings, code) goes on from it. The caller removes it once the result is stored.

    Writes the checkpoint, the reference of pipeline/reference.py, `calibrator.json`, `seen_rows.parquet` (member, keys
    and dates of every row that was handed to a fit) and `calibration_rows.parquet` (raw scores and classes of the
    validation rows that no member was fitted or stopped on, where recipe.stopping_frac is below 1) into `folder` and
    returns the facts a report shows.
    """
    import torch

    from k4_pipeline._numba import n_threads
    from k4_pipeline.features.context import context_list_hash
    from k4_pipeline.features.spec import feature_list_hash
    from k4_pipeline.pipeline import fit as candidate
    from k4_pipeline.pipeline.reference import write_reference
    from k4_pipeline.pipeline.tables import Stored
    from k4_pipeline.sequences.assemble import SequenceIndex
    from k4_pipeline.sequences.standardisation import Scaler
    from k4_pipeline.training import parallel
    from k4_pipeline.training.checkpoint import save_checkpoint
    from k4_pipeline.training.resume import Resume

    scaler = Scaler.from_json(scaler_json)
    index = SequenceIndex.from_frame(sequences, panel.close)
    tables = Stored(split, sequences, panel.values, index, context, windows, as_of)
    resume = None if unfinished is None else Resume(unfinished, _identity(config, fingerprints))
    made = candidate.fit(tables, scaler, config, progress=progress, resume=resume)
    lead, calibrator = made.lead, made.calibrator
    facts = {
        "architecture": config.model.architecture,
        "preset": config.model.preset,
        "kinds": made.model.kinds,
        "parameters": int(sum(p.numel() for p in made.model.parameters())),
        "train_rows": made.seen["train"]["rows"],
        "validation_rows": made.seen["validation"]["rows"],
        "best_epoch": int(lead.get("best_epoch", 0)),
        "monitor": f"validation_{lead.get('monitor_name', 'none')}",
        "monitor_note": lead.get("monitor_note", ""),
        "device": made.device,
        "processes": parallel.size(),
        "threads": [torch.get_num_threads(), n_threads()],  # sums are rounded otherwise on another number of them
        "seed": lead["seed"],
        "seconds": round(made.seconds, 1),
        "history": lead.get("history", []),
        "members": made.members,
        "class_counts": made.class_counts,
        "train_k4": made.class_counts[K4],
        "too_few_k4": candidate.too_few_k4(made.class_counts, config),
        "seen": made.seen,
        "sees": SEES,
        "calibration": calibrator.meta,
        "certificate": made.certificates.to_dict(),
        "calibrator_hash": calibrator.hash(),
        "feature_list_hash": feature_list_hash(),
        "scaler_hash": scaler.hash(),
        "fingerprints": fingerprints,
    }
    save_checkpoint(
        folder,
        made.model,
        {
            "config": {name: to_dict(without_place(config))[name] for name in SECTIONS},
            "scaler_json": scaler_json,
            "scaler_hash": scaler.hash(),
            "feature_list_hash": feature_list_hash(),
            "split_fingerprint": fingerprints["dataset_split"],
            "fingerprints": fingerprints,
            "calibrator_hash": calibrator.hash(),
            "context_list_hash": context_list_hash(),
            "history": lead.get("history", []),
        },
    )
    (folder / CALIBRATOR).write_text(calibrator.to_json())
    (folder / CERTIFICATE).write_text(json.dumps(made.certificates.to_dict(), indent=1, sort_keys=True))
    rows = [table.assign(member=name).astype({"member": "str"}) for name, table in made.handed.items()]
    write_parquet(pd.concat(rows, ignore_index=True), folder / f"{SEEN_ROWS}.parquet")
    write_parquet(made.p_calibration, folder / f"{CALIBRATION_ROWS}.parquet")
    p = calibrator.transform(made.p_calibration[[f"p_raw_{i}" for i in range(N_CLASSES)]].to_numpy())
    write_reference(folder, tables, scaler, config, made.p_calibration, p[:, K4])
    return facts


def certificates_of(folder: Path) -> Certificates:
    """The certificate of a stored model; `StaleArtifactError` when it cannot be read."""
    from k4_pipeline.evaluation.tiers import Certificates

    try:
        return Certificates.from_dict(json.loads((folder / CERTIFICATE).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise StaleArtifactError(f"{folder / CERTIFICATE} cannot be read ({problem}); train the model again") from None


def _identity(config: PipelineConfig, fingerprints: dict[str, str]) -> str:
    """Everything that the weights depend on, as one hash: settings, inputs, code."""
    text = json.dumps([to_dict(without_place(config)), fingerprints, code_fingerprint("trained_model")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def score_snapshots(
    folder: Path,
    *,
    wanted: pd.DataFrame,
    sequences: pd.DataFrame,
    panel: FeaturePanel,
    config: PipelineConfig,
    context: np.ndarray | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The predictions table of the snapshots in `wanted` (ticker, pattern_id, start_date, snapshot_date, split).

    `context` has one row per row of the panel; a model without context does not read it.

    The model folder is taken as it is: weights, feature list and calibrator must be those its record names, else
    `StaleArtifactError`.
    """
    from k4_pipeline.evaluation.calibration import Calibrator
    from k4_pipeline.features.context import context_list_hash
    from k4_pipeline.features.spec import feature_list_hash
    from k4_pipeline.pipeline.fit import score
    from k4_pipeline.pipeline.members import rows_of
    from k4_pipeline.sequences.assemble import SequenceIndex
    from k4_pipeline.sequences.standardisation import Scaler
    from k4_pipeline.training.checkpoint import load_checkpoint

    model, meta = load_checkpoint(folder)
    calibrator = Calibrator.from_json((folder / CALIBRATOR).read_text())
    scaler = Scaler.from_json(meta["scaler_json"])
    for what, stored, expected in (
        ("feature list", meta["feature_list_hash"], feature_list_hash()),
        ("calibrator", calibrator.hash(), meta["calibrator_hash"]),
        ("scaler", scaler.hash(), meta["scaler_hash"]),
        ("list of context features", meta["context_list_hash"], context_list_hash()),
    ):
        if stored != expected:
            raise StaleArtifactError(f"{folder}: {what} is {stored}, expected {expected}; train the model again")
    rows, keys = rows_of(sequences, wanted)
    return score(
        keys,
        rows,
        panel=panel.values,
        index=SequenceIndex.from_frame(sequences, panel.close),
        fitted_scaler=scaler,
        model=model,
        calibrator=calibrator,
        config=config,
        context=context,
        certificates=certificates_of(folder).tiers,
        progress=progress,
    )
