"""`signals`: every pattern that is open on the last day, scored by the champion."""

import dagster as dg

from k4_pipeline.config import SIGNAL_NAMES
from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import counts_table, table_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce


@k4_asset(
    deps=("daily_bars", "night_bars", "champion_model"),
    kinds={"pytorch", "parquet"},
    description="Today's open consolidations, scored by the champion: probabilities, expected value, signal. The "
    "champion is taken frozen: its feature list and the sha256 of its weights must be those of its record. Past its "
    "age limit it gives none; rows too far outside its train rows are AVOID, with the reason.",
)
def signals(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Find the open patterns of the last day and score them."""
    from k4_pipeline.evaluation.champion import Record, market_of, require_market
    from k4_pipeline.pipeline.night import signals_of_night
    from k4_pipeline.pipeline.stored_bars import night_of

    inputs = ("daily_bars", "champion_model")
    with produce(
        context, k4, "signals", inputs=inputs, tonight=True, sections=("patterns", "labels", "signals", "serving")
    ) as work:
        champion = Record.read(work.inputs["champion_model"])
        bars = work.bars_tonight()
        require_market(champion, market_of(work.config, bars.tickers))
        folder, night = work.inputs["champion_model"].dir, night_of(bars)
        made = signals_of_night(bars, folder, champion.as_of, work.config, work.progress)
        table = made.table
        work.write_table("signals", table)
        work.write_table("inputs", made.inputs)
        counts = {name: int((table["signal"] == name).sum()) for name in SIGNAL_NAMES}
        work.meta = {"rows": len(table), "signals": counts, "champion": champion.as_of, "night": night}
        work.meta |= {"none_because": made.none_because, "bars_fingerprint": bars.fingerprint()}
    return dg.MaterializeResult(
        metadata=table_metadata(
            table,
            work.ref,
            champion_as_of=champion.as_of,
            night=night,
            **({"no_signals": made.none_because} if made.none_because else {}),
            refused=int((table["refused"] != "").sum()),
            left_out_of_the_list=int((table["left_out"] != "").sum()),
            signals=dg.MetadataValue.md(counts_table("signal", counts)),
            signal_plot=dg.MetadataValue.md(bar_image("signals", list(counts), list(counts.values()))),
        )
    )
