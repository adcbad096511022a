"""`todays_list`: the best open patterns with reasons, similar patterns of the past and a chart each."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.plots import candle_image
from k4_pipeline.defs.remedies import page_path
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage.json_values import json_safe

PICTURES = 10


@k4_asset(
    deps=("signals", "daily_bars", "night_bars", "champion_model"),
    kinds={"pytorch"},
    description="The list a person reads: filtered by dollar volume, price, name and kind; per row the levels, the "
    "strongest channels, the most similar patterns whose outcome was known, and candlesticks.",
)
def todays_list(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Explain and draw the best rows of signals."""
    from k4_pipeline.pipeline.todays_list import todays_list as listed
    from k4_pipeline.report.todays_list import write_list_page

    inputs, sections = ("signals", "daily_bars", "champion_model"), ("serving", "labels")
    with produce(context, k4, "todays_list", inputs=inputs, tonight=True, sections=sections) as work:
        signals, meta = work.table("signals"), work.inputs["signals"].meta
        folder, most = work.inputs["champion_model"].dir, work.config.serving.list_rows
        rows = listed(
            signals,
            work.table("signals", "inputs"),
            work.bars_tonight(),
            folder,
            work.config,
            most=most,
            progress=work.progress("giving reasons"),
        )
        found = {"night": meta["night"], "none_because": meta["none_because"], "open": len(signals), "rows": rows}
        found |= {name: int((signals[name] != "").sum()) for name in ("left_out", "refused")}
        work.write_json("list.json", json_safe(found))
        page = write_list_page(found, work.settings.reports_dir)
        work.meta = {"rows": len(rows), "night": meta["night"]}
    table = [[r["ticker"], r["tier"], f"{r['p_k4']:.1%}", f"{r['ev']:+.2f}", r["entry"], r["stop"]] for r in rows]
    pictures = {f"{i:02d} {r['ticker']}": candle_image(r["chart"]) for i, r in enumerate(rows[:PICTURES], 1)}
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "page": dg.MetadataValue.url(page_path(page, work.settings.home)),
            **({"no_signals": found["none_because"]} if found["none_because"] else {}),
            "rows": dg.MetadataValue.md(markdown_table(["ticker", "tier", "P(K4)", "EV", "entry", "stop"], table)),
            **{name: dg.MetadataValue.md(picture) for name, picture in pictures.items()},
            **version_metadata(work.ref),
        }
    )
