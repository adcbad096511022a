"""`context_features`: what the 69 channels cannot see, one float32 row per (ticker, date)."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table


@k4_asset(
    deps=("daily_bars",),
    kinds={"numba", "safetensors"},
    description="Long volatility and returns, distance to the high and low of a year, liquidity, and comparisons with "
    "the other tickers of the same date: read by the heads of the models, beside the sequence.",
)
def context_features(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Compute the context of every bar."""
    from k4_pipeline.features.context import CONTEXT_FEATURES, context_list_hash
    from k4_pipeline.features.context_table import write_context
    from k4_pipeline.pipeline.sharded import context as sharded

    with produce(context, k4, "context_features", inputs=("daily_bars",)) as work:
        n_bars = work.inputs["daily_bars"].meta["rows"]
        if work.sharded:
            sharded.write_context(work.shards(), work.dir, work.progress("comparing tickers"))
        else:
            write_context(work.bars(), work.dir)
        work.meta = {"rows": n_bars, "features": len(CONTEXT_FEATURES), "context_list_hash": context_list_hash()}
    names = [[s.name, s.formula, s.lookback_bars, s.scope] for s in CONTEXT_FEATURES]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": n_bars,
            "features": len(CONTEXT_FEATURES),
            "context_list_hash": context_list_hash(),
            "names": dg.MetadataValue.md(markdown_table(["name", "formula at t", "look-back", "scope"], names)),
            **version_metadata(work.ref),
        }
    )
