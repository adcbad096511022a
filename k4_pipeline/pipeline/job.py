"""A training as a folder: everything one as-of date's fit reads, carried to another process or machine and back.

`write_job` leaves out what a fit never reads: the classes of the test rows and of windows that are not known at as_of
do not travel. `run_job` gives the model folder that `train_candidate` would have given here, and `take_result` takes it
over after comparing every hash. `python -m k4_pipeline.training JOB` runs one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from k4_pipeline.config import SPLIT_NAMES, PipelineConfig, from_dict, to_dict, without_place
from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.features.context_table import CONTEXT_FILE, read_context
from k4_pipeline.features.panel import PANEL_FILE, read_panel
from k4_pipeline.pipeline.model_files import train_candidate
from k4_pipeline.progress import Progress
from k4_pipeline.storage import read_parquet, sha256_file, write_parquet
from k4_pipeline.storage.code_version import code_fingerprint
from k4_pipeline.storage.sealed import read_sealed, write_sealed
from k4_pipeline.training import parallel

JOB_FILE = "job.json"
RESULT_FILE = "result.json"
RESULT_FOLDER = "result"  # below the job, unless another is named
ASSET = "trained_model"


def write_job(
    folder: Path,
    *,
    split: pd.DataFrame,
    sequences: pd.DataFrame,
    windows: pd.DataFrame,
    panel_file: Path,
    context_file: Path,
    scaler_json: str,
    config: PipelineConfig,
    fingerprints: dict[str, str],
    as_of: str,
    link: bool = False,
) -> Path:
    """Write the job into `folder`, which must be new or empty; returns the path of its record.

    `link`: panel and context are other names of the files given, where the file system can; for jobs nobody edits.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BadInputError(f"{folder} is not empty; name a new folder for the bundle")
    folder.mkdir(parents=True, exist_ok=True)
    known = split["split"].isin(SPLIT_NAMES[:2]) | (split["label_end_date"] < pd.Timestamp(as_of))
    write_parquet(split[known].reset_index(drop=True), folder / "split.parquet")
    write_parquet(sequences, folder / "sequences.parquet")
    learnt = windows["label_end_date"] < pd.Timestamp(as_of)
    write_parquet(windows[learnt].reset_index(drop=True), folder / "windows.parquet")
    for source, name in ((panel_file, PANEL_FILE), (context_file, CONTEXT_FILE)):
        _copied(source, folder / name, link=link)
    record = {
        "as_of": as_of,
        "config": to_dict(without_place(config)),
        "scaler_json": scaler_json,
        "fingerprints": fingerprints,
        "code": code_fingerprint(ASSET),
        "files": _hashes(folder),
    }
    write_sealed(folder / JOB_FILE, record)
    return folder / JOB_FILE


def run_job(
    folder: Path,
    out: Path,
    *,
    device: Literal["auto", "cpu", "cuda"] | None = None,
    unfinished: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the job in `folder` and write the model folder `out` with the hashes of its files; returns the facts.

    Raises `StaleArtifactError` for a damaged job, and for one that other code wrote than is installed here.
    """
    job = _job(folder)
    if job["code"] != code_fingerprint(ASSET):
        raise StaleArtifactError(
            f"{folder} was written by other code than is installed here ({str(job['code'])[:12]} and "
            f"{code_fingerprint(ASSET)[:12]}); install the same version on both machines"
        )
    config = from_dict(PipelineConfig, job["config"])
    if device is not None:
        config = dataclasses.replace(config, training=dataclasses.replace(config.training, device=device))
    with _result_folder(out) as into:
        facts = train_candidate(
            into,
            split=read_parquet(folder / "split.parquet"),
            sequences=read_parquet(folder / "sequences.parquet"),
            panel=read_panel(folder),
            scaler_json=job["scaler_json"],
            config=config,
            fingerprints=job["fingerprints"],
            as_of=job["as_of"],
            context=read_context(folder).values,
            windows=read_parquet(folder / "windows.parquet"),
            progress=progress,
            unfinished=unfinished,
        )
        write_sealed(into / RESULT_FILE, {"job": _identity(folder), "facts": facts, "files": _hashes(into)})
    return facts


@contextmanager
def _result_folder(out: Path) -> Iterator[Path]:
    """`out`; for all but the first of several processes that train together a folder that is thrown away."""
    if parallel.rank():
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    else:
        out.mkdir(parents=True, exist_ok=True)
        yield out


def take_result(folder: Path, out: Path, into: Path) -> dict[str, Any]:
    """Copy the model of the job in `folder` from `out` into `into` and return its facts.

    Raises `StaleArtifactError` when it is the result of another job, or a file is missing or not as it was written.
    """
    result = _sealed(out, RESULT_FILE, "run the training again")
    if result["job"] != _identity(folder):
        raise StaleArtifactError(f"{out} is the result of another job than {folder}; run the training again")
    _compare(out, result["files"], "run the training again")
    for name in result["files"]:
        shutil.copyfile(out / name, into / name)
    _compare(into, result["files"], "run the training again")
    return result["facts"]


def as_of_of(folder: Path) -> str:
    """The as-of date of the job in `folder`; `StaleArtifactError` when there is none."""
    return str(_sealed(folder, JOB_FILE, "export the bundle again")["as_of"])


def _copied(source: Path, path: Path, *, link: bool) -> None:
    if link:
        with suppress(OSError):  # another file system
            os.link(source, path)
            return
    shutil.copyfile(source, path)


def _hashes(folder: Path) -> dict[str, str]:
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name not in (JOB_FILE, RESULT_FILE)]
    return {p.name: sha256_file(p) for p in files}


def _compare(folder: Path, files: dict[str, str], remedy: str) -> None:
    for name, expected in files.items():
        path = folder / Path(name).name
        if not path.is_file() or sha256_file(path) != expected:
            raise StaleArtifactError(f"{path} is missing or not as it was written; {remedy}")


def _sealed(folder: Path, name: str, remedy: str) -> dict[str, Any]:
    try:
        return read_sealed(folder / name)
    except (OSError, ValueError) as problem:
        raise StaleArtifactError(f"{folder / name} cannot be read ({problem}); {remedy}") from None


def _job(folder: Path) -> dict[str, Any]:
    job = _sealed(folder, JOB_FILE, "export the bundle again")
    _compare(folder, job["files"], "export the bundle again")
    return job


def _identity(folder: Path) -> str:
    return hashlib.sha256((folder / JOB_FILE).read_bytes()).hexdigest()
