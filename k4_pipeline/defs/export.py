"""What `k4 export` writes for each asset."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.staging import load_bars, load_json, load_panel, load_table, open_inputs
from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.evaluation.ledger import open_drift, open_ledger
from k4_pipeline.pipeline.members import align
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactRef, ArtifactStore, atomic_path, write_parquet

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
TEXTS = ("string", "mixed", "mixed-integer")
TableOf = Callable[[ArtifactStore, ArtifactRef], pd.DataFrame]


def _own(store: ArtifactStore, ref: ArtifactRef) -> pd.DataFrame:
    return load_table(ref)


def _beside(name: str) -> TableOf:
    """A further table stored in the same version."""
    return lambda store, ref: load_table(ref, name)


def _features(store: ArtifactStore, ref: ArtifactRef) -> pd.DataFrame:
    from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_CHANNELS
    from k4_pipeline.market.bars import to_dates

    panel = load_panel(ref)
    keys = pd.DataFrame(
        {
            "ticker": pd.Series(np.repeat(panel.tickers, np.diff(panel.offsets)), dtype="str"),
            "date": to_dates(panel.date),
        }
    )
    values = pd.DataFrame(np.asarray(panel.values), columns=[FEATURE_NAMES[i] for i in MARKET_CHANNELS])
    return pd.concat([keys, values], axis=1)  # row i of the panel is row i of its own keys


def _history(store: ArtifactStore, ref: ArtifactRef) -> pd.DataFrame:
    return pd.DataFrame(load_json(ref, "facts.json")["history"])


def _metrics(store: ArtifactStore, ref: ArtifactRef) -> pd.DataFrame:
    metrics = load_json(ref, "report.json")["metrics"]
    rows = [
        {"as_of": ref.partition, "method": family, "metric": name, **values}
        for family, found in {"model": metrics["model"], **metrics["baselines"]}.items()
        for name, values in found.items()
    ]
    return pd.DataFrame(rows)


def _champion(store: ArtifactStore, ref: ArtifactRef) -> pd.DataFrame:
    rows = [{**move, "failed": "; ".join(move["failed"])} for move in ref.meta["history"]]
    return pd.DataFrame(rows)


# name -> (asset it is stored in, how its table is made)
EXPORTS: dict[str, tuple[str, TableOf]] = {
    "daily_bars": ("daily_bars", _own),
    "rejects": ("daily_bars", _beside("rejects")),
    "completeness": ("daily_bars", _beside("completeness")),
    "revisions": ("daily_bars", _beside("revisions")),
    "suspicious_jumps": ("daily_bars", _beside("suspicious_jumps")),
    "stale_runs": ("daily_bars", _beside("stale_runs")),
    "snapshots": ("snapshots", _own),
    "labeled_snapshots": ("labeled_snapshots", _own),
    "market_features": ("market_features", _features),
    "sequences": ("sequences", _own),
    "dataset_split": ("dataset_split", _own),
    "trained_model": ("trained_model", _history),
    "predictions": ("predictions", _own),
    "validation_report": ("validation_report", _metrics),
    "walk_forward_report": ("walk_forward_report", _own),
    "champion_model": ("champion_model", _champion),
    "signals": ("signals", _own),
    "signal_outcomes": ("signal_outcomes", _own),
}


# name -> the append-only table of the home: the whole past, not what one version holds
LEDGERS = {"prediction_ledger": open_ledger, "drift": open_drift}


def export_asset(settings: Settings, name: str, out: Path, as_of: str | None) -> dict[str, Any]:
    """Write one table; returns asset, as_of, rows and path. Raises `BadInputError` for an unknown name or file kind."""
    if name not in (*EXPORTS, *LEDGERS):
        raise BadInputError(f"there is no table {name!r}; there are {', '.join((*EXPORTS, *LEDGERS))}")
    if out.suffix not in (".parquet", ".csv"):
        raise BadInputError(f"--out {out}: write a .parquet or a .csv file")
    if name in LEDGERS:
        return _export_ledger(settings, name, out, as_of)
    asset, table_of = EXPORTS[name]
    store = ArtifactStore(settings.artifacts_dir)
    partition = _partition(store, asset, as_of)
    ref = store.current(asset, partition)
    ref.verify()
    if name == "sequences":
        rows = _export_sequences(store, ref, out)
    else:
        table = table_of(store, ref)
        rows = len(table)
        _write(table, out)
    return {"asset": name, "as_of": partition, "rows": rows, "path": str(out.absolute())}


def _export_ledger(settings: Settings, name: str, out: Path, as_of: str | None) -> dict[str, Any]:
    if as_of:
        raise BadInputError(f"{name} has no as-of partitions; leave --as-of out")
    ledger = LEDGERS[name](settings.home)
    rows = ledger.verify()
    if not rows:
        raise BadInputError(f"{name} is empty in {settings.home}; `k4 run` or `k4 nightly` writes the first night")
    _write(ledger.read(), out)
    return {"asset": name, "as_of": None, "rows": rows, "path": str(out.absolute())}


def export_bundle(settings: Settings, out: Path, as_of: str | None) -> dict[str, Any]:
    """Write the training of one as_of as a job folder; returns as_of, path and the command that runs it."""
    from k4_pipeline.defs.training_place import INPUTS, as_split, bundle_of

    store = ArtifactStore(settings.artifacts_dir)
    partition = str(_partition(store, "dataset_split", as_of))
    inputs = open_inputs(store, INPUTS, partition)
    bundle_of(out, inputs, as_split(inputs["dataset_split"], settings.config), partition)
    command = f"python -m k4_pipeline.training {out.absolute()}"
    return {"asset": "bundle", "as_of": partition, "path": str(out.absolute()), "command": command}


def _partition(store: ArtifactStore, asset: str, as_of: str | None) -> str | None:
    if asset not in PARTITIONED_ASSETS:
        if as_of:
            raise BadInputError(f"{asset} has no as-of partitions; leave --as-of out")
        return None
    known = store.partitions(asset)
    if not known:
        raise StaleArtifactError(f"{asset} has no partition below {store.root} yet; run `k4 run` first")
    if as_of and as_of not in known:
        raise BadInputError(f"{asset} has no as-of {as_of}; there are {', '.join(known)}")
    return as_of or known[-1]


def _write(table: pd.DataFrame, out: Path) -> None:
    if out.suffix == ".parquet":
        write_parquet(table, out)
        return
    with atomic_path(out) as temporary:
        inert(table).to_csv(temporary, index=False, date_format="%Y-%m-%d")


def inert(table: pd.DataFrame) -> pd.DataFrame:
    """Texts that a spreadsheet would run as a formula get an apostrophe before them; numbers stay numbers."""

    def cell(value: Any) -> Any:
        return "'" + value if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value

    texts = [c for c in table.columns if not pd.api.types.is_numeric_dtype(table[c])]
    return table.assign(**{c: table[c].map(cell) for c in texts if pd.api.types.infer_dtype(table[c]) in TEXTS})


def _export_sequences(store: ArtifactStore, ref: ArtifactRef, out: Path) -> int:
    """The original sequence table, with the classes known by now; CSV holds the nested columns as JSON."""
    from k4_pipeline.sequences.export import export_sequences

    sequences, bars = load_table(ref), load_bars(store.current("daily_bars"))
    panel, labeled = load_panel(store.current("market_features")), store.current("labeled_snapshots")
    store.verify_chain([ref, labeled, store.current("market_features")])
    outcomes = align(sequences[KEYS], load_table(labeled), ["outcome_class"])["outcome_class"]
    parquet = out if out.suffix == ".parquet" else out.with_suffix(".tmp.parquet")
    try:
        rows = export_sequences(parquet, panel.values, bars.date, sequences, outcomes, close=bars.close)
        if out.suffix == ".csv":
            _nested_csv(parquet, out)
    finally:
        if parquet != out:
            parquet.unlink(missing_ok=True)
    return rows


def _nested_csv(parquet: Path, out: Path, batch_rows: int = 256) -> None:
    import pyarrow.parquet as pq

    nested = ("sequence", "attention_mask", "sequence_dates")
    with atomic_path(out) as temporary, pq.ParquetFile(parquet) as file:
        for i, batch in enumerate(file.iter_batches(batch_rows)):
            rows = batch.to_pylist()
            for row in rows:
                row.update({name: json.dumps(row[name], default=_day) for name in nested})
            table = pd.DataFrame(rows)
            inert(table).to_csv(temporary, mode="a", header=i == 0, index=False, date_format="%Y-%m-%d")


def _day(value: Any) -> str:
    return str(value.date())
