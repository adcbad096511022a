"""`python -m k4_pipeline.training DIR`: train what `k4 export bundle --out DIR` wrote, on this machine.

Needs torch, numpy, pandas, pyarrow, numba, scikit-learn, lightgbm and safetensors; neither the store nor Dagster. Under
`torchrun` its processes share every batch, one GPU each. Started through Dagster Pipes it reports to the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from k4_pipeline.errors import K4Error
from k4_pipeline.pipeline import job
from k4_pipeline.progress import Progress
from k4_pipeline.training import parallel


def _at_most_every(seconds: float, say: Callable[[int, int], Any]) -> Progress:
    """`say(done, total)`, and the last call always."""
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds or done == total:
            last = now
            say(done, total)

    return report


def _run(given: argparse.Namespace, progress: Progress | None) -> dict[str, Any]:
    with parallel.process_group():
        return job.run_job(
            given.folder,
            given.out or given.folder / job.RESULT_FOLDER,
            device=given.device,
            unfinished=given.unfinished,
            progress=None if parallel.rank() else progress,
        )


def _reporting(given: argparse.Namespace) -> dict[str, Any]:
    """With progress and log lines sent to the Dagster run that started this process."""
    import dagster_pipes

    with dagster_pipes.open_dagster_pipes(params_loader=dagster_pipes.PipesCliArgsParamsLoader()) as run:
        facts = _run(
            given, _at_most_every(0.5, lambda done, total: run.report_custom_message({"done": done, "total": total}))
        )
        run.log.info(f"trained {', '.join(facts['kinds'])} on {facts['train_rows']} rows, device {facts['device']}")
    return facts


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 on success, 1 with a message on an error a user can act on."""
    parser = argparse.ArgumentParser(prog="python -m k4_pipeline.training", description="Train an exported bundle.")
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder written by `k4 export bundle --out DIR`")
    parser.add_argument("--out", type=Path, help="folder for the result; default: DIR/result")
    parser.add_argument("--device", help="cpu, cuda or auto; default: as the bundle says")
    parser.add_argument("--unfinished", type=Path, help="keep the state here, so that a killed training goes on")
    parser.add_argument("--quiet", action="store_true", help="no progress lines")
    # What a run that starts this process through Dagster Pipes adds; read by dagster_pipes.
    parser.add_argument("--dagster-pipes-context", help=argparse.SUPPRESS)
    parser.add_argument("--dagster-pipes-messages", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    lines = _at_most_every(1.0, lambda done, total: print(f"step {done} of {total}", file=sys.stderr, flush=True))
    try:
        if given.dagster_pipes_context and parallel.is_first():
            facts = _reporting(given)
        else:
            facts = _run(given, None if given.quiet else lines)
    except K4Error as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if parallel.is_first():
        print(json.dumps({name: facts[name] for name in ("kinds", "train_rows", "best_epoch", "device")}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
