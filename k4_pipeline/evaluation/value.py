"""What the predictions of one as-of date were worth: the trading section and the best-ranked rows of a report."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import CLASS_NAMES, K4, K5, KEYS, PipelineConfig
from k4_pipeline.evaluation import charts
from k4_pipeline.evaluation.trading import section
from k4_pipeline.evaluation.validation import volatility_at_snapshot
from k4_pipeline.market.bars import Bars
from k4_pipeline.progress import Progress

SHOWN = 6


def test_rows(
    predictions: pd.DataFrame, labeled: pd.DataFrame, sequences: pd.DataFrame, panel_values: np.ndarray
) -> pd.DataFrame:
    """Predictions of the test span with `volatility`, boundaries and `outcome_class` (missing where not known yet)."""
    test = predictions[predictions["split"] == "test"]
    columns = [*KEYS, "upper", "lower", "power", "outcome_class"]
    joined = test.merge(labeled[columns], on=KEYS, how="left", validate="1:1")
    return joined.merge(volatility_at_snapshot(sequences, panel_values), on=KEYS, how="left", validate="1:1")


def top_rows(rows: pd.DataFrame, bars: Bars, config: PipelineConfig, most: int = SHOWN) -> list[dict[str, Any]]:
    """The rows with the highest P(K4), the best of each pattern, each with its chart and what followed."""
    order = rows.sort_values([f"p_{K4}", *KEYS], ascending=[False, True, True, True], kind="stable")
    best = order.drop_duplicates(["ticker", "start_date"]).head(most)
    return [
        {
            "ticker": row["ticker"],
            "start_date": str(row["start_date"].date()),
            "snapshot_date": str(row["snapshot_date"].date()),
            "signal": row["signal"],
            "p_4": float(row[f"p_{K4}"]),
            "p_5": float(row[f"p_{K5}"]),
            "ev": float(row["ev"]),
            "outcome": "" if pd.isna(row["outcome_class"]) else CLASS_NAMES[int(row["outcome_class"])],
            "chart": charts.pattern_chart(bars, dict(row), config.labels),
        }
        for _, row in best.iterrows()
    ]


def value_sections(
    rows: pd.DataFrame, bars: Bars, config: PipelineConfig, *, progress: Progress | None = None
) -> dict[str, Any]:
    """`trading` and `top_signals` of a report from `test_rows`."""
    return {
        "trading": section.backtest(rows, bars, config, progress=progress),
        "top_signals": top_rows(rows, bars, config),
    }
