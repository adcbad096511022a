"""`k4 import`: take over a training that was done on another machine, with everything that follows from it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, err_console, explained, settings_for
from k4_pipeline.cli.run import STEP_TIMES
from k4_pipeline.storage.writer_lock import writing


@explained
def import_bundle(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `k4 export bundle` with its result.")],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")] = False,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Take over the training in DIR, after `python -m k4_pipeline.training DIR` ran there or on another machine.

    Every file is compared with the hash it was written with, and the bundle with what is stored here: the result of
    other bars, settings or code is refused. Then the predictions, the report, the champion and the signals are made.
    """
    from k4_pipeline.cli.results import deliver

    settings = settings_for(home)
    with writing(settings.home):
        result = _take_over(settings, folder, quiet=quiet)
    deliver(result, "k4 import", as_json=json_)


def _take_over(settings: Any, folder: Path, *, quiet: bool) -> dict[str, Any]:
    from k4_pipeline.cli.progress import RunProgress
    from k4_pipeline.cli.results import collect_result
    from k4_pipeline.defs.graph import ASSET_ORDER
    from k4_pipeline.defs.run import run_graph
    from k4_pipeline.defs.training_place import as_split
    from k4_pipeline.pipeline.job import as_of_of
    from k4_pipeline.storage import ArtifactStore

    as_of = as_of_of(folder)
    split = ArtifactStore(settings.artifacts_dir).current("dataset_split", as_of)
    config = as_split(split, settings.config)
    training = dataclasses.replace(config.training, where=f"bundle:{folder.absolute()}")
    settings = dataclasses.replace(settings, config=dataclasses.replace(config, training=training))
    assets = ASSET_ORDER[ASSET_ORDER.index("trained_model") :]
    steps = [step for name in assets for step in (name, f"{name}_checks")]
    log = settings.logs_dir / f"import-{time.strftime('%Y%m%dT%H%M%S')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with RunProgress(err_console(), steps, settings.logs_dir / STEP_TIMES, quiet=quiet) as progress:
        outcome = run_graph(settings, assets, as_of=as_of, progress=progress, log=log, started_by="k4 import")
    return collect_result(settings, as_of, outcome, log)
