"""`training.where`: the fit of `trained_model` in other processes, through Dagster Pipes, or on a Ray cluster.

Wherever it runs, it is the same job folder, and what comes back is taken over only with the hashes it was written with.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dagster as dg
import torch

from k4_pipeline.config import PipelineConfig, from_dict
from k4_pipeline.config.data import SplitConfig
from k4_pipeline.defs.staging import AssetRun, load_json, load_table
from k4_pipeline.errors import K4Error
from k4_pipeline.features.context_table import CONTEXT_FILE
from k4_pipeline.features.panel import PANEL_FILE
from k4_pipeline.pipeline.job import RESULT_FOLDER, take_result, write_job
from k4_pipeline.storage import ArtifactRef

INPUTS = ("dataset_split", "sequences", "market_features", "context_features", "training_windows")
POLL_SECONDS = 0.2
END_SECONDS = 10.0  # that a process which was asked to end may take


class TrainingFailedError(K4Error):
    """The training elsewhere ended without a result."""


def as_split(split: ArtifactRef, config: PipelineConfig) -> PipelineConfig:
    """`config` with the spans that the stored split was made with."""
    stored = load_json(split, "config.json")["split"]
    return dataclasses.replace(config, split=from_dict(SplitConfig, stored, within="split"))


def bundle_of(
    folder: Path, inputs: dict[str, ArtifactRef], config: PipelineConfig, as_of: str, *, link: bool = False
) -> Path:
    """Write the training of these inputs into `folder`; `link`: with names for the stored files instead of copies."""
    return write_job(
        folder,
        split=load_table(inputs["dataset_split"]),
        sequences=load_table(inputs["sequences"]),
        windows=load_table(inputs["training_windows"]),
        panel_file=inputs["market_features"].path(PANEL_FILE),
        context_file=inputs["context_features"].path(CONTEXT_FILE),
        scaler_json=inputs["dataset_split"].path("scaler.json").read_text(),
        config=config,
        fingerprints={name: ref.fingerprint for name, ref in inputs.items()},
        as_of=as_of,
        link=link,
    )


def launcher(where: str, processes: int) -> list[str]:
    """The words in front of `-m k4_pipeline.training`."""
    if where.startswith("pipes:") and where != "pipes:local":
        return shlex.split(where.removeprefix("pipes:"))
    if processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]


def train_elsewhere(context: dg.AssetExecutionContext, work: AssetRun) -> dict[str, Any]:
    """Write the job, run it where `training.where` says, take the result over; returns the facts."""
    training = work.config.training
    job, state = work.unfinished_dir / "job", work.unfinished_dir / "state"
    shutil.rmtree(job, ignore_errors=True)
    bundle_of(job, work.inputs, work.config, context.partition_key, link=True)
    out = job / RESULT_FOLDER
    if training.where.startswith("bundle:"):
        out = Path(training.where.removeprefix("bundle:").strip()).expanduser() / RESULT_FOLDER
    elif training.where == "ray":
        from k4_pipeline.pipeline.sharded.training import train_on_ray

        train_on_ray(work.config, job, out, state, work.progress("training"))
    else:
        words = [*launcher(training.where, training.processes), "-m", "k4_pipeline.training", str(job)]
        _through_pipes([*words, "--out", str(out), "--unfinished", str(state)], context, work)
    return take_result(job, out, work.dir)


def _through_pipes(command: list[str], context: dg.AssetExecutionContext, work: AssetRun) -> None:
    """Run `command` with what it reports in the log and the progress of this run; it ends when the step ends."""
    log = work.unfinished_dir / "training.log"
    report, seen = work.progress("training"), 0
    with (
        dg.open_pipes_session(
            context.op_execution_context, dg.PipesTempFileContextInjector(), dg.PipesTempFileMessageReader()
        ) as session,
        log.open("wb") as lines,
    ):
        arguments = [word for pair in session.get_bootstrap_cli_arguments().items() for word in pair]
        context.log.info(f"training in another process: {shlex.join(command)}")
        # As many threads as here: the bits of a training on the processor depend on it.
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        process = subprocess.Popen([*command, *arguments], stdout=lines, stderr=subprocess.STDOUT, env=environment)
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                messages = session.get_custom_messages()
                for message in messages[seen:]:
                    report(message["done"], message["total"])
                seen = len(messages)
        finally:
            _end(process)
    said = log.read_text(errors="replace").strip()
    if process.returncode:
        last = " ".join(said.splitlines()[-5:])
        raise TrainingFailedError(f"the training process ended with status {process.returncode}: {last}")
    context.log.debug(said)


def _end(process: subprocess.Popen) -> None:
    """Ask it to end (torchrun then ends its processes), and insist."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
