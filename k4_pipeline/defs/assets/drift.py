"""`drift`: whether what was scored lately still looks like what the champion was trained on."""

import dagster as dg
import pandas as pd

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table
from k4_pipeline.storage.json_values import json_safe


@k4_asset(
    deps=("signals", "prediction_ledger", "champion_model"),
    kinds={"parquet"},
    description="Before any label is known: PSI and Kolmogorov-Smirnov per input, a domain classifier's AUC, the share "
    "outside the train rows, drift of P(K4), and what the probabilities themselves promise; each against its range in "
    "training.",
)
def drift(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Measure the last nights and write them down, once."""
    from k4_pipeline.pipeline.night_drift import measure_night

    inputs = ("signals", "prediction_ledger", "champion_model")
    with produce(context, k4, "drift", inputs=inputs, sections=("serving",)) as work:
        model = work.json("champion_model", "champion.json")["model_fingerprint"]
        night = pd.Timestamp(work.inputs["signals"].meta["night"])
        folder = work.inputs["champion_model"].dir
        found = measure_night(work.settings.home, folder, model, night, work.config.serving)
        work.write_json("drift.json", json_safe(found))
        work.meta = {name: found[name] for name in ("night", "patterns", "why", "too_few", "in_a_row")}
    judged = [[name, found.get(name), limit] for name, limit in found["limits"].items()]
    worst = found.get("inputs", [])[:8]
    return dg.MaterializeResult(
        metadata={
            "drift": "; ".join(found["why"]) or found["too_few"] or "none",
            "nights_in_a_row": found["in_a_row"],
            "patterns": found["patterns"],
            "measures": dg.MetadataValue.md(markdown_table(["measure", "value", "limit"], judged)),
            "inputs": dg.MetadataValue.md(
                markdown_table(["input", "PSI", "KS p-value"], [[r["input"], r["psi"], r["ks_p"]] for r in worst])
            ),
            "psi_plot": dg.MetadataValue.md(
                bar_image("PSI, largest inputs", [r["input"] for r in worst], [r["psi"] for r in worst])
            ),
            **version_metadata(work.ref),
        }
    )
