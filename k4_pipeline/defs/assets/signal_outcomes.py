"""`signal_outcomes`: the ledger rows whose label has become known, and whether the signals were right."""

from typing import Any

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.remedies import page_path
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage.json_values import json_safe


@k4_asset(
    deps=("prediction_ledger", "drift", "daily_bars", "night_bars", "champion_model"),
    kinds={"parquet"},
    description="Hit rate by tier against its certificate, calibration, recall in the budget, expected value claimed "
    "and realised, by month and with intervals, of every signal whose label is known by now.",
)
def signal_outcomes(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Join the ledger with the labels that are known."""
    from k4_pipeline.evaluation.drift_log import by_month
    from k4_pipeline.evaluation.ledger import open_drift, open_ledger
    from k4_pipeline.evaluation.monitoring import certified_precision, summary
    from k4_pipeline.pipeline.outcomes import matured_ledger
    from k4_pipeline.report.monitor import write_monitor_page

    inputs = ("prediction_ledger", "drift", "daily_bars", "champion_model")
    sections = ("patterns", "labels")
    with produce(context, k4, "signal_outcomes", inputs=inputs, tonight=True, sections=sections) as work:
        ledger = open_ledger(work.settings.home).read()
        matured = matured_ledger(work.bars_tonight(), ledger, work.config)
        work.write_table("signal_outcomes", matured)
        drift, certified = by_month(open_drift(work.settings.home).read()), work.inputs["champion_model"].dir
        model = work.json("champion_model", "champion.json")["model_fingerprint"]
        shown = summary(ledger, matured, certified_precision(certified), drift, model)
        work.write_json("monitor.json", json_safe(shown))
        page = write_monitor_page(shown, work.settings.reports_dir)
        work.meta = {"rows": len(matured), "ledger_rows": len(ledger)}
    tiers = [[t["tier"], t["n"], t["hits"], t["hit_rate"], t["low"], t["high"], t["certified"]] for t in shown["tiers"]]
    months = [[m["month"], m["n"], m["n_k4"], m["ev_claimed"], m["ev_realised"]] for m in shown["months"]]
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(matured),
            "signals_in_the_ledger": len(ledger),
            "page": dg.MetadataValue.url(page_path(page, work.settings.home)),
            **_plots(shown),
            "tiers": dg.MetadataValue.md(
                markdown_table(["tier", "patterns", "K4", "hit rate", "low", "high", "certified"], tiers)
                if tiers
                else "no signal has a known label yet"
            ),
            "months": dg.MetadataValue.md(
                markdown_table(["month", "signals", "K4", "EV claimed", "EV realised"], months)
                if months
                else "no signal has a known label yet"
            ),
            **version_metadata(work.ref),
        }
    )


def _plots(shown: dict[str, Any]) -> dict[str, Any]:
    """Small pictures of what the page shows with its intervals."""
    months, tiers = shown["months"][-24:], [t for t in shown["tiers"] if t["n"]]
    names = [m["month"] for m in months]
    made = {
        "hit_rate_plot": ("hit rate by tier", [t["tier"] for t in tiers], [t["hit_rate"] for t in tiers]),
        "calibration_plot": (
            "K4 realised, by claimed P(K4)",
            [f"{r['claimed']:.1%}" for r in shown["calibration"]],
            [r["realised"] for r in shown["calibration"]],
        ),
        "recall_plot": ("recall of K4 in the best tenth", names, [m["k4_recall_top_10pct"] for m in months]),
        "k4_plot": ("K4 realised by month", names, [m["k4_realised"] for m in months]),
    }
    return {
        key: dg.MetadataValue.md(bar_image(title, labels, [float("nan") if v is None else v for v in values]))
        for key, (title, labels, values) in made.items()
        if values
    }
