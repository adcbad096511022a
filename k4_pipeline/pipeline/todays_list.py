"""Today's list: the best open patterns that a person would want to see, with reasons, similar patterns and a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import KEYS, SIGNAL_NAMES, PipelineConfig
from k4_pipeline.evaluation.charts import pattern_chart
from k4_pipeline.features.panel import FeaturePanel
from k4_pipeline.features.spec import FEATURE_NAMES
from k4_pipeline.market.bars import Bars
from k4_pipeline.patterns.snapshots import active_snapshots
from k4_pipeline.pipeline.reference import Reference
from k4_pipeline.pipeline.second_process import apart
from k4_pipeline.pipeline.tabular import TABULAR_NAMES
from k4_pipeline.progress import Progress
from k4_pipeline.sequences.assemble import SequenceIndex
from k4_pipeline.sequences.standardisation import Scaler
from k4_pipeline.sequences.windows import index_sequences

CHART_BARS = 40  # before the pattern


def best(signals: pd.DataFrame, most: int, *, left_out: bool = False) -> pd.DataFrame:
    """The first `most` rows that are listed: by certified tier, then expected value; with `left_out` the others,
    too."""
    rows = signals if left_out else signals[(signals["left_out"] == "") & (signals["refused"] == "")]
    rank = rows["tier"].map({name: place for place, name in enumerate(SIGNAL_NAMES)})
    order = pd.DataFrame({"rank": rank, "ev": -rows["ev"], "ticker": rows["ticker"]}).sort_values(
        ["rank", "ev", "ticker"]
    )
    return rows.loc[order.index[:most]].reset_index(drop=True)


def todays_list(
    signals: pd.DataFrame,
    inputs: pd.DataFrame,
    bars: Bars,
    model_folder: Path,
    config: PipelineConfig,
    *,
    most: int,
    left_out: bool = False,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """One JSON-safe dict per row of `best`: levels, probabilities, `reasons`, `similar`, `chart`.

    `signals` and `inputs` are the tables of one version of the asset signals, `bars` those of its night. Similar
    patterns are train rows whose outcome was known before the snapshot's day.
    """
    rows = best(signals, most, left_out=left_out)
    if rows.empty:
        return []
    return apart(explained, rows, inputs, bars.subset(rows["ticker"]), model_folder, config, progress=progress)


def explained(
    rows: pd.DataFrame,
    inputs: pd.DataFrame,
    part: Bars,
    model_folder: Path,
    config: PipelineConfig,
    *,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """`todays_list` of these rows; `part`: the bars of their tickers."""
    import torch

    from k4_pipeline.pipeline.reasons import reasons
    from k4_pipeline.sequences.dataset import SequenceDataset
    from k4_pipeline.training.checkpoint import load_checkpoint

    reference = Reference.read(model_folder)
    panel, sequences = FeaturePanel.from_bars(part), index_sequences(part, active_snapshots(part, config.patterns))
    model, meta = load_checkpoint(model_folder)
    data = SequenceDataset(
        panel.values,
        SequenceIndex.from_frame(sequences, panel.close),
        np.arange(len(sequences)),
        Scaler.from_json(meta["scaler_json"]),
    )
    place = {key: i for i, key in enumerate(sequences[KEYS].itertuples(index=False, name=None))}
    own = rows[KEYS].merge(inputs, on=KEYS, how="left", validate="1:1")[list(TABULAR_NAMES)].to_numpy(dtype=np.float32)
    out = []
    for i, row in enumerate(rows.to_dict("records")):
        found = _levels(row)
        found["chart"] = pattern_chart(part, row, config.labels, before=CHART_BARS, after=0)
        if reference is not None:
            batch = data.batch(np.array([place[tuple(row[k] for k in KEYS)]]))
            read = own[i, [TABULAR_NAMES.index(name) for name in reference.names]]
            context = torch.from_numpy(own[i : i + 1, len(FEATURE_NAMES) :].copy())
            found |= reasons(model, batch.x, batch.mask, context, reference, TABULAR_NAMES, read)
            found["similar"] = reference.similar(read, row["snapshot_date"])
        out.append(found)
        if progress is not None:
            progress(i + 1, len(rows))
    return out


def _levels(row: dict[str, Any]) -> dict[str, Any]:
    day = str(row["snapshot_date"].date())
    return {
        "ticker": row["ticker"],
        "snapshot_date": day,
        "start_date": str(row["start_date"].date()),
        "tier": row["tier"],
        "signal": row["signal"],
        "p_k4": row["p_4"],
        "p_k5": row["p_5"],
        **{f"p_{i}": row[f"p_{i}"] for i in range(6)},
        "ev": row["ev"],
        "entry": row["power"],
        "stop": row["stop"],
        "box": {"lower": row["lower"], "upper": row["upper"]},
        **{name: row[name] for name in ("upper", "lower", "power", "dollar_volume", "price", "champion_as_of")},
        "left_out": row["left_out"],
        "refused": row["refused"],
    }
