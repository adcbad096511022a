"""How assets read and write: verified inputs in, one staged version out.

Assets pass no values through Dagster (results are folders, and a check must pass before anyone may read them), so the
place of IO managers is taken by `produce`: it opens the promoted version of each input, proves that the whole chain
behind it is current, and commits what the asset wrote together with the fingerprints it read. The version stays staged
until the checks of the asset promote it (defs/checks/factory.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from k4_pipeline.config import PipelineConfig, to_dict, without_place
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.progress import ProgressDisplay, progress_of_run
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.errors import BusyError, K4Error, StaleArtifactError
from k4_pipeline.progress import Progress
from k4_pipeline.settings import Settings
from k4_pipeline.storage import (
    ArtifactRef,
    ArtifactStore,
    atomic_write_json,
    atomic_write_text,
    read_parquet,
    write_parquet,
)
from k4_pipeline.storage.code_version import code_record
from k4_pipeline.storage.json_values import json_safe
from k4_pipeline.storage.os_errors import in_words
from k4_pipeline.storage.writer_lock import writers_of

if TYPE_CHECKING:
    import numpy as np

    from k4_pipeline.evaluation.champion import Record
    from k4_pipeline.features.panel import FeaturePanel
    from k4_pipeline.market.bars import Bars
    from k4_pipeline.pipeline.sharded.store import Shards


SHARDED_FROM = 8  # shards: from so many on the local engine takes one after another, too


def load_bars(ref: ArtifactRef) -> Bars:
    """The bars of a `daily_bars` version."""
    from k4_pipeline.market.bars import Bars

    return Bars.from_frame(read_parquet(ref.path("daily_bars.parquet")))


def bar_chunks(ref: ArtifactRef) -> Iterator[Bars]:
    """The bars of a `daily_bars` version, some whole tickers at a time, for what need not hold them all."""
    from k4_pipeline.features.stream import bars_in_chunks

    return bars_in_chunks(ref.path("daily_bars.parquet"))


def load_panel(ref: ArtifactRef) -> FeaturePanel:
    """The feature panel of a `market_features` version, mapped from disk."""
    from k4_pipeline.features.panel import read_panel

    return read_panel(ref.dir)


def load_context(ref: ArtifactRef) -> np.ndarray:
    """The context (n_bars, N_CONTEXT) of a `context_features` version, mapped from disk."""
    from k4_pipeline.features.context_table import read_context

    return read_context(ref.dir).values


def load_table(ref: ArtifactRef, name: str = "") -> pd.DataFrame:
    """A table of a version; without a name the one called as the asset."""
    return read_parquet(ref.path(f"{name or ref.asset}.parquet"))


def load_json(ref: ArtifactRef, name: str) -> Any:
    """A JSON file of a version."""
    return json.loads(ref.path(name).read_text())


def market_of_run(work: AssetRun) -> Record:
    """The market this run works on: its rules, and the tickers of the current bars."""
    from k4_pipeline.evaluation.champion import market_of

    bars = work.store.current("daily_bars").path("daily_bars.parquet")
    return market_of(work.config, read_parquet(bars, columns=["ticker"])["ticker"].unique())


@dataclasses.dataclass
class AssetRun:
    """What an asset body works with."""

    settings: Settings
    store: ArtifactStore
    asset: str
    dir: Path
    partition: str | None
    inputs: dict[str, ArtifactRef]
    progress_of: ProgressDisplay
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)
    ref: ArtifactRef | None = None

    @property
    def config(self) -> PipelineConfig:
        """The configuration of this run."""
        return self.settings.config

    @property
    def unfinished_dir(self) -> Path:
        """A folder for state that a killed run leaves to the next; removed when this version is committed."""
        return self.settings.unfinished_dir / (f"{self.asset}@{self.partition}" if self.partition else self.asset)

    def bars(self) -> Bars:
        """The cleaned bars."""
        return load_bars(self.inputs["daily_bars"])

    def bars_tonight(self) -> Bars:
        """The cleaned bars with what the nights since the last full run added."""
        from k4_pipeline.pipeline.stored_bars import NIGHT_BARS, bars_of

        return bars_of(self.inputs["daily_bars"], self.inputs.get(NIGHT_BARS))

    def bar_chunks(self) -> Iterator[Bars]:
        """The cleaned bars, some whole tickers at a time."""
        return bar_chunks(self.inputs["daily_bars"])

    @property
    def sharded(self) -> bool:
        """Whether the data stages work on shards: with Ray, and for bars that one memory should not hold."""
        execution, rows = self.config.execution, self.inputs["daily_bars"].meta["rows"]
        return execution.engine != "local" or rows > SHARDED_FROM * execution.shard_bars

    def shards(self) -> Shards:
        """The cleaned bars as shards."""
        from k4_pipeline.pipeline.sharded.store import Shards

        ref, execution = self.inputs["daily_bars"], self.config.execution
        url = execution.store or str(self.settings.home / "shards")
        return Shards.of(ref.path("daily_bars.parquet"), ref.fingerprint[:16], execution, url)

    def panel(self) -> FeaturePanel:
        """The feature panel."""
        return load_panel(self.inputs["market_features"])

    def bar_context(self) -> np.ndarray:
        """The context of every bar, mapped from disk."""
        return load_context(self.inputs["context_features"])

    def table(self, asset: str, name: str = "") -> pd.DataFrame:
        """A table of an input."""
        return load_table(self.inputs[asset], name)

    def json(self, asset: str, name: str) -> Any:
        """A JSON file of an input."""
        return load_json(self.inputs[asset], name)

    def write_table(self, name: str, table: pd.DataFrame) -> None:
        """Write `<name>.parquet` into the new version."""
        write_parquet(table, self.dir / f"{name}.parquet")

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file into the new version."""
        atomic_write_json(self.dir / name, value)

    def write_text(self, name: str, text: str) -> None:
        """Write a text file into the new version."""
        atomic_write_text(self.dir / name, text)

    def progress(self, label: str) -> Progress:
        """A `progress(done, total)` callback for one long domain call."""
        return self.progress_of.of(label)


def open_inputs(
    store: ArtifactStore, names: tuple[str, ...], partition: str | None, *, tonight: bool = False
) -> dict[str, ArtifactRef]:
    """The promoted versions of `names`, every byte and every link behind them verified; else `StaleArtifactError`.

    `tonight`: and `night_bars`, where they were added to these `daily_bars`.
    """
    refs = {name: store.current(name, partition if name in PARTITIONED_ASSETS else None) for name in names}
    if tonight:
        from k4_pipeline.pipeline.stored_bars import NIGHT_BARS, night_bars_of

        added = night_bars_of(store, refs["daily_bars"])
        refs |= {NIGHT_BARS: added} if added is not None else {}
    store.verify_chain(list(refs.values()))
    for ref in refs.values():
        ref.verify()
    return refs


@contextmanager
def produce(
    context: dg.AssetExecutionContext,
    k4: K4Resource,
    asset: str,
    *,
    inputs: tuple[str, ...] = (),
    sections: tuple[str, ...] = (),
    tonight: bool = False,
) -> Iterator[AssetRun]:
    """Stage a new version of `asset`; it is committed when the block ends without an error.

    `sections` are the parts of the configuration that the result depends on: they are stored beside it, so that the
    fingerprint changes with them. `tonight`: `night_bars` is an input where it is newer than `daily_bars`. A `K4Error`
    tells the user what to do, so it becomes a `dagster.Failure` with that message and is never retried.
    """
    try:
        with _stage(context, k4, asset, inputs, sections, tonight) as work:
            yield work
    except K4Error as error:
        raise dg.Failure(f"{type(error).__name__}: {error}", allow_retries=False) from error
    except (OSError, MemoryError, RecursionError) as error:
        sentence = in_words(error, k4.settings().home)
        if sentence is None:
            raise
        raise dg.Failure(sentence, allow_retries=False) from error


@contextmanager
def _stage(
    context: dg.AssetExecutionContext,
    k4: K4Resource,
    asset: str,
    inputs: tuple[str, ...],
    sections: tuple[str, ...],
    tonight: bool,
) -> Iterator[AssetRun]:
    settings, store = k4.settings(), k4.store()
    code_record(asset)  # read before the work: an edit while it runs is not the code that ran
    partition = context.partition_key if asset in PARTITIONED_ASSETS else None
    progress = progress_of_run(context.log.info)
    with progress.step(asset), store.stage(asset, partition) as staged:
        refs = open_inputs(store, inputs, partition, tonight=tonight)
        work = AssetRun(settings, store, asset, staged.dir, partition, refs, progress)
        yield work
        config = to_dict(without_place(settings.config))
        atomic_write_json(staged.dir / "config.json", {name: config[name] for name in sections})
        work.ref = staged.commit(
            kind=asset,
            meta=json_safe(work.meta),
            inputs={ref.key: ref.fingerprint for ref in work.inputs.values()},
            guard=lambda: _still_owner(context, settings.home),
        )
        shutil.rmtree(work.unfinished_dir, ignore_errors=True)


def _still_owner(context: dg.AssetExecutionContext, home: Path) -> None:
    """A step process can outlive its killed run; such a writer must not replace the work of the run that followed."""
    writers = writers_of(home)
    if writers and all(w.pid != os.getpid() and w.run_id != context.run.run_id for w in writers):
        raise BusyError(f"{writers[0].in_words()} writes into {home} now; the result of this step is dropped")
    run = context.instance.get_run_by_id(context.run.run_id)
    if run is not None and run.is_finished:
        raise StaleArtifactError(
            f"run {context.run.run_id} has ended as {run.status.value} while this step still worked; "
            "its result is dropped"
        )
