"""`signals`: every pattern that is open on the last day, scored by the champion."""

import dagster as dg

from k4_pipeline.config import SIGNAL_NAMES
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, table_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import market_of_run, produce


@k4_asset(
    deps=("daily_bars", "night_bars", "champion_model"),
    kinds={"pytorch", "parquet"},
    description="Today's open consolidations, scored by the champion: probabilities, expected value, signal. The "
    "champion is taken frozen: its feature list and the sha256 of its weights must be those of its record.",
)
def signals(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Find the open patterns of the last day and score them."""
    from k4_pipeline.evaluation.champion import Record, require_market
    from k4_pipeline.evaluation.signal_table import signal_rows
    from k4_pipeline.pipeline.night import open_patterns, score_open
    from k4_pipeline.pipeline.stored_bars import night_of

    inputs = ("daily_bars", "champion_model")
    with produce(context, k4, "signals", inputs=inputs, tonight=True, sections=("patterns", "signals")) as work:
        champion = Record.read(work.inputs["champion_model"])
        require_market(champion, market_of_run(work))
        bars = work.bars_tonight()
        found = open_patterns(bars, work.config, progress=work.progress("finding open patterns"))
        folder = work.inputs["champion_model"].dir
        scored = score_open(found, folder, work.config, progress=work.progress("scoring"))
        table = signal_rows(found.snapshots, scored, champion.as_of)
        work.write_table("signals", table)
        counts = {name: int((table["signal"] == name).sum()) for name in SIGNAL_NAMES}
        night = night_of(bars)
        work.meta = {"rows": len(table), "signals": counts, "champion": champion.as_of, "night": night}
        work.meta["bars_fingerprint"] = bars.fingerprint()
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
