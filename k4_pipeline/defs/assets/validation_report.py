"""`validation_report`: metrics and integrity tests of one as-of date, rendered as HTML, Markdown and JSON."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from k4_pipeline.defs.assets.common import k4_asset
from k4_pipeline.defs.metadata import version_metadata
from k4_pipeline.defs.remedies import page_path
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import AssetRun, produce
from k4_pipeline.defs.verdicts import stored_verdicts
from k4_pipeline.storage import atomic_write_bytes
from k4_pipeline.storage.code_version import described

if TYPE_CHECKING:
    from k4_pipeline.pipeline.tables import Stored

INPUTS = (
    "predictions",
    "trained_model",
    "dataset_split",
    "labeled_snapshots",
    "sequences",
    "market_features",
    "context_features",
    "daily_bars",
)
SECTIONS = ("integrity", "proof", "trading")


@k4_asset(
    deps=INPUTS,
    kinds={"plotly", "markdown"},
    description="The five integrity tests and every metric with its interval and base rate, on test snapshots whose "
    "label is known by now.",
)
def validation_report(context: dg.AssetExecutionContext, k4: K4Resource) -> dg.MaterializeResult:
    """Evaluate the predictions against the labels and render the report."""
    from k4_pipeline.evaluation import value
    from k4_pipeline.evaluation.validation import build_validation, score_labelled
    from k4_pipeline.leakage.engine.audit_stamp import audited, proofs_in_words, read_stamp
    from k4_pipeline.pipeline.reference import Reference
    from k4_pipeline.pipeline.report_reasons import with_reasons
    from k4_pipeline.report.render import render_report, share_plotly, with_proofs
    from k4_pipeline.report.summary import headline
    from k4_pipeline.report.text import render_markdown
    from k4_pipeline.sequences.standardisation import Scaler
    from k4_pipeline.training.checkpoint import load_checkpoint

    with produce(context, k4, "validation_report", inputs=INPUTS, sections=SECTIONS) as work:
        beside = baselines_of(work)
        work.write_table("baselines", beside)
        folder = work.settings.reports_dir / context.partition_key
        tables = {
            "predictions": work.table("predictions"),
            "labeled": work.table("labeled_snapshots"),
            "sequences": work.table("sequences"),
            "panel_values": work.panel().values,
        }
        report = build_validation(
            as_of=context.partition_key,
            split=work.table("dataset_split"),
            **tables,
            config=work.config,
            verdicts=stored_verdicts(work.store, work.inputs.values()),
            audit_passed=audited(
                work.settings.reports_dir, context.partition_key, work.inputs["predictions"].fingerprint
            ),
            model=work.json("trained_model", "facts.json"),
            data=data_facts(work.inputs["daily_bars"].meta),
            provenance={ref.key: ref.fingerprint for ref in work.inputs.values()},
            code={ref.key: described(ref.code) for ref in work.inputs.values()},
            beside=beside,
            leak_demo=leak_demo(work, folder),
            sections=value.value_sections(
                value.test_rows(**tables), work.bars(), work.config, progress=work.progress("trading the lists")
            ),
        )
        folder_of_model = work.inputs["trained_model"].dir
        model, meta = load_checkpoint(folder_of_model)
        report["top_signals"] = with_reasons(
            report["top_signals"],
            model,
            Scaler.from_json(meta["scaler_json"]),
            Reference.read(folder_of_model),
            stored_tables(work),
            work.progress("finding reasons"),
        )
        work.write_table("scored", score_labelled(**tables))
        files = render_report(report, work.dir)
        share_plotly(folder.parent)
        for file in (files.html, files.markdown, files.json):
            atomic_write_bytes(folder / file.name, file.read_bytes())
        stamp = read_stamp(work.settings.reports_dir, context.partition_key, work.inputs["predictions"].fingerprint)
        if stamp is not None:  # of these very predictions
            page = with_proofs(files.html.read_text(), proofs_in_words(stamp))
            atomic_write_bytes(folder / files.html.name, page.encode())
        work.meta = {"passed": report["passed"], "metrics": _core_metrics(report), "headline": headline(report)}
    return dg.MaterializeResult(
        metadata={
            "headline": headline(report),
            "report": dg.MetadataValue.url(page_path(folder / "report.html", work.settings.home)),
            "report_path": dg.MetadataValue.path(str(folder / "report.html")),
            "whole_report": dg.MetadataValue.md(render_markdown(report)),
            **{k: v for k, v in _core_metrics(report).items() if v == v},
            **version_metadata(work.ref),
        }
    )


def baselines_of(work: AssetRun) -> pd.DataFrame:
    """What every baseline, and on a simulated market the truth, says of the test rows."""
    from k4_pipeline.leakage.engine.artifacts import recorded_config
    from k4_pipeline.pipeline.baselines import baseline_table
    from k4_pipeline.sequences.standardisation import Scaler

    return baseline_table(
        dataclasses.replace(stored_tables(work), context=None),
        Scaler.from_json(work.inputs["dataset_split"].path("scaler.json").read_text()),
        recorded_config(work.config, work.inputs),
        work.bars(),
        work.table("labeled_snapshots"),
        context=work.bar_context(),
        progress=work.progress("fitting the baselines"),
    )


def stored_tables(work: AssetRun) -> "Stored":
    """What a fit reads, from the inputs of the report."""
    from k4_pipeline.pipeline.tables import Stored
    from k4_pipeline.sequences.assemble import SequenceIndex

    sequences, panel = work.table("sequences"), work.panel()
    index = SequenceIndex.from_frame(sequences, panel.close)
    return Stored(work.table("dataset_split"), sequences, panel.values, index, work.bar_context())


def leak_demo(work: AssetRun, folder: Path) -> dict[str, Any]:
    """The section that shows what leakage looks like on these rows."""
    from k4_pipeline.leakage.controls.report_demo import demo_of_report
    from k4_pipeline.leakage.engine.artifacts import path_of, recorded_config

    data = {name: work.inputs[name] for name in ("daily_bars", "labeled_snapshots", "market_features", "sequences")}
    config = recorded_config(work.config, data)
    return demo_of_report(
        folder,
        {name: ref.fingerprint for name, ref in data.items()},
        str(work.partition),
        config,
        lambda: path_of(data, config, work.partition),
        progress=work.progress("showing what leakage looks like"),
    )


def data_facts(meta: dict[str, Any]) -> dict[str, Any]:
    """What the report says of the bars."""
    return {
        "bars": meta["rows"],
        "tickers": meta["tickers"],
        "bars_from": meta["first_date"],
        "bars_to": meta["last_date"],
        "rejected_rows": meta["counts"]["rejected"],
    }


def _core_metrics(report: dict[str, Any]) -> dict[str, float]:
    model = report["metrics"]["model"]
    return {name: float(model[name]["value"]) for name in ("k4_auc", "k4_average_precision", "ev_correlation_pearson")}
