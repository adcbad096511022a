"""`market_features`: the 55 channels of every bar in one float32 panel."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table


@k4_asset(
    deps=("daily_bars",),
    kinds={"numba", "safetensors"},
    description="The 55 channels that depend on (ticker, date) alone, computed once per bar: a float32 panel.",
)
def market_features(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Compute the panel ticker chunk by ticker chunk, from disk to disk: memory does not grow with the universe."""
    from k4_pipeline.features.panel import read_panel, write_panel_stream
    from k4_pipeline.features.spec import FEATURE_NAMES, MARKET_CHANNELS, feature_list_hash
    from k4_pipeline.pipeline.sharded import features as sharded

    with produce(context, k4, "market_features", inputs=("daily_bars",)) as work:
        n_bars = work.inputs["daily_bars"].meta["rows"]
        progress = work.progress("computing features")
        if work.sharded:
            sharded.write_panel(work.shards(), work.dir, progress)
        else:
            write_panel_stream(work.bar_chunks(), work.dir, n_bars=n_bars, progress=progress)
        panel = read_panel(work.dir)
        shape, n_tickers = panel.values.shape, len(panel.tickers)
        work.write_text("features.txt", "\n".join(FEATURE_NAMES[i] for i in MARKET_CHANNELS) + "\n")
        work.meta = {"rows": int(shape[0]), "channels": int(shape[1]), "feature_list_hash": feature_list_hash()}
        del panel
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": shape[0],
            "channels": shape[1],
            "tickers": n_tickers,
            "feature_list_hash": feature_list_hash(),
            "names": dg.MetadataValue.md(
                markdown_table(["channel", "name"], [[int(i) + 1, FEATURE_NAMES[i]] for i in MARKET_CHANNELS])
            ),
            **version_metadata(work.ref),
        }
    )
