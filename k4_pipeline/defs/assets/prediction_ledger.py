"""`prediction_ledger`: every signal that was ever given, appended night by night and never changed."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce


@k4_asset(
    deps=("signals", "champion_model"),
    kinds={"parquet"},
    description="Append-only: one immutable row per signal and night, with model, probabilities and boundaries. What a "
    "later run would say of the same night with other bars is counted and not written.",
)
def prediction_ledger(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Append tonight's signals."""
    from k4_pipeline.evaluation.ledger import ledger_rows, open_inputs, open_ledger, record_night

    with produce(context, k4, "prediction_ledger", inputs=("signals", "champion_model")) as work:
        model = work.json("champion_model", "champion.json")["model_fingerprint"]
        bars = work.inputs["signals"].meta["bars_fingerprint"]
        given, inputs = (
            ledger_rows(work.table("signals", name), model=model, data_fingerprint=bars) for name in ("", "inputs")
        )
        ledger = open_ledger(work.settings.home)
        record_night(open_inputs(work.settings.home), inputs)
        night = record_night(ledger, given)
        # A run that was killed after its append adds nothing when it is done again: not what was added is hashed.
        work.write_json("ledger.json", {name: value for name, value in night.items() if name != "added"})
        work.meta = night
    return dg.MaterializeResult(metadata={**night, "folder": str(ledger.folder), **version_metadata(work.ref)})
