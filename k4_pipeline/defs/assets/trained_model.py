"""`trained_model`: weights, calibrator and the record of everything they were fitted on."""

import dagster as dg

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.plots import bar_image
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import produce
from k4_pipeline.markdown import markdown_table


@k4_asset(
    deps=("dataset_split", "sequences", "market_features", "context_features", "training_windows"),
    kinds={"pytorch", "safetensors"},
    pool="training",
    description="The models of an as-of date, averaged: safetensors weights, configuration, features, scaler and split "
    "hashes, history by epoch; and the calibrator fitted on validation rows.",
)
def trained_model(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Train on train, stop early and calibrate on validation."""
    from k4_pipeline.defs.training_place import train_elsewhere
    from k4_pipeline.pipeline.model_files import SECTIONS, train_candidate

    with produce(
        context,
        k4,
        "trained_model",
        inputs=("dataset_split", "sequences", "market_features", "context_features", "training_windows"),
        sections=SECTIONS,
    ) as work:
        if work.config.training.where != "here" or work.config.training.processes > 1:
            facts = train_elsewhere(context, work)
        else:
            facts = train_candidate(
                work.dir,
                split=work.table("dataset_split"),
                sequences=work.table("sequences"),
                panel=work.panel(),
                scaler_json=work.inputs["dataset_split"].path("scaler.json").read_text(),
                config=work.config,
                as_of=context.partition_key,
                context=work.bar_context(),
                windows=work.table("training_windows"),
                fingerprints={name: ref.fingerprint for name, ref in work.inputs.items()},
                progress=work.progress("training"),
                unfinished=work.unfinished_dir,
            )
        seconds = facts.pop("seconds")  # not among the files: the same training must have the same fingerprint
        work.write_json("facts.json", facts)
        work.meta = {key: facts[key] for key in ("best_epoch", "parameters", "feature_list_hash", "scaler_hash")}
        work.meta["training_seconds"] = seconds
    history = facts["history"]
    columns = [c for c in history[0] if isinstance(history[0][c], (int, float))] if history else []
    losses = [float(h.get("train_loss", float("nan"))) for h in history]
    return dg.MaterializeResult(
        metadata={
            "architecture": f"{', '.join(facts['kinds'])}; preset {facts['preset']}",
            "train_k4": facts["train_k4"],
            "too_few_k4": facts["too_few_k4"] or "no",
            "parameters": facts["parameters"],
            "train_rows": facts["train_rows"],
            "validation_rows": facts["validation_rows"],
            "best_epoch": facts["best_epoch"],
            "training_seconds": seconds,
            "monitor": facts["monitor"],
            "history": dg.MetadataValue.md(markdown_table(columns, [[h[c] for c in columns] for h in history])),
            "loss_plot": dg.MetadataValue.md(
                bar_image("train loss by epoch", [str(i + 1) for i in range(len(losses))], losses) if losses else "none"
            ),
            "sees": dg.MetadataValue.md(markdown_table(["fitted or chosen", "sees"], list(facts["sees"].items()))),
            "calibration": dg.MetadataValue.json(facts["calibration"]),
            **version_metadata(work.ref),
        }
    )
