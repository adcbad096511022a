"""`signals`: every pattern that is open on the last day, scored by the champion."""

import dagster as dg
import numpy as np

from k4_pipeline.config import SIGNAL_NAMES
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, table_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import market_of_run, produce


@k4_asset(
    deps=("daily_bars", "market_features", "context_features", "champion_model"),
    kinds={"pytorch", "parquet"},
    description="Today's open consolidations, scored by the champion: probabilities, expected value, signal. The "
    "champion is taken frozen: its feature list and the sha256 of its weights must be those of its record.",
)
def signals(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Find the open patterns of the last day and score them."""
    from k4_pipeline.evaluation.champion import Record, require_market
    from k4_pipeline.evaluation.signal_table import signal_rows
    from k4_pipeline.patterns.snapshots import active_snapshots
    from k4_pipeline.pipeline.model_files import score_snapshots
    from k4_pipeline.sequences.windows import index_sequences

    inputs = ("daily_bars", "market_features", "context_features", "champion_model")
    with produce(context, k4, "signals", inputs=inputs, sections=("patterns", "signals")) as work:
        champion = Record.read(work.inputs["champion_model"])
        require_market(champion, market_of_run(work))
        bars = work.bars()
        open_now = active_snapshots(bars, work.config.patterns, progress=work.progress("finding open patterns"))
        scored = score_snapshots(
            work.inputs["champion_model"].dir,
            wanted=open_now.assign(split="open"),
            sequences=index_sequences(bars, open_now),
            panel=work.panel(),
            context=work.bar_context(),
            config=work.config,
            progress=work.progress("scoring"),
        )
        table = signal_rows(open_now, scored, champion.as_of)
        work.write_table("signals", table)
        counts = {name: int((table["signal"] == name).sum()) for name in SIGNAL_NAMES}
        night = str(np.datetime64(int(bars.last_day), "D"))
        work.meta = {"rows": len(table), "signals": counts, "champion": champion.as_of, "night": night}
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            champion_as_of=champion.as_of,
            night=night,
            signals=dg.MetadataValue.md(counts_table("signal", counts)),
            signal_plot=dg.MetadataValue.md(bar_image("signals", list(counts), list(counts.values()))),
        )
    )
