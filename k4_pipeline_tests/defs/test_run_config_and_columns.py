"""What the UI shows beside the graph: typed run config, partitions of the data, column schema and lineage, remedies."""

from __future__ import annotations

import dataclasses
import datetime as dt

import dagster as dg
import pandas as pd
import pytest

from k4_pipeline.config import PipelineConfig
from k4_pipeline.config.describe import field_comments
from k4_pipeline.definitions import defs
from k4_pipeline.defs.audit_facts import _of_the_home
from k4_pipeline.defs.checks.factory import Proposition, to_result
from k4_pipeline.defs.columns import column_lineage, column_metadata, schema_of
from k4_pipeline.defs.graph import ASSET_ORDER
from k4_pipeline.defs.partitions import quarters, quarters_of_data
from k4_pipeline.defs.remedies import ANSWERS
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.errors import ConfigError
from k4_pipeline.settings import Settings, save_settings
from k4_pipeline.verdict import Verdict

SECTIONS = {field.name: type(getattr(PipelineConfig(), field.name)) for field in dataclasses.fields(PipelineConfig)}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_described(section):
    assert [name for name, text in field_comments(SECTIONS[section]).items() if not text] == []


def test_the_launchpad_offers_every_setting_with_its_type_and_description():
    schema = defs.resolve_job_def("full_pipeline").run_config_schema.config_type.fields["resources"]
    options = schema.config_type.fields["k4"].config_type.fields["config"].config_type.fields
    assert set(options) == {"home", "set_fields", *SECTIONS}
    for section, cls in SECTIONS.items():
        fields = options[section].config_type.fields
        assert set(fields) == {field.name for field in dataclasses.fields(cls)}
        for field in fields.values():
            assert not field.is_required
            assert "Default: " in field.description


def test_what_is_chosen_in_the_launchpad_replaces_what_is_stored_and_nothing_else(tmp_path):
    stored = PipelineConfig()
    stored = dataclasses.replace(stored, simulation=dataclasses.replace(stored.simulation, n_bars=1500))
    save_settings(Settings(tmp_path, stored))
    chosen = {"simulation": {"n_tickers": 30}, "labels": {"labeling": "first_breach"}, "source": {"tickers": ["A"]}}
    config = K4Resource(home=str(tmp_path), **chosen).settings().config
    assert (config.simulation.n_tickers, config.simulation.n_bars) == (30, 1500)
    assert config.labels.labeling == "first_breach"
    assert config.source.tickers == ("A",)
    assert config.training == stored.training
    # The audit asks for the same settings, from the run config as Dagster keeps it.
    run = dg.DagsterRun(job_name="j", run_config={"resources": {"k4": {"config": chosen}}})
    assert _of_the_home(Settings(tmp_path), run) == config
    with pytest.raises(ConfigError, match="at least 1"):
        K4Resource(home=str(tmp_path), simulation={"n_tickers": 0}).settings()


def test_only_quarters_that_the_bars_can_be_split_at_and_tested_are_listed():
    first, last = quarters_of_data("2019-01-16", "2024-12-31", PipelineConfig(), dt.date(2026, 11, 28))
    assert (first, last) == ("2023-04-01", "2024-04-01")
    keys = quarters(first, last).get_partition_keys()
    assert keys == [str(d.date()) for d in pd.date_range(first, last, freq="QS-JAN")]
    _, last = quarters_of_data("2019-01-16", "2026-11-20", PipelineConfig(), dt.date(2026, 11, 28))
    assert last is None  # the bars still grow


def test_a_history_too_short_for_a_split_lists_one_quarter_and_not_none():
    first, last = quarters_of_data("2023-01-02", "2024-12-31", PipelineConfig(), dt.date(2026, 11, 28))
    assert quarters(first, last).get_partition_keys() == [last]


def test_column_schema_and_lineage_are_those_of_the_pandera_schemas():
    made = column_metadata("labeled_snapshots", ["daily_bars", "snapshots"])
    columns = {c.name: c for c in made["dagster/column_schema"].columns}
    assert list(columns) == list(schema_of("labeled_snapshots").columns)
    assert all(c.description and c.type for c in columns.values())
    lineage = made["dagster/column_lineage"].deps_by_column
    assert {(d.asset_key.to_user_string(), d.column_name) for d in lineage["upper"]} == {("snapshots", "upper")}
    assert ("daily_bars", "high") in {(d.asset_key.to_user_string(), d.column_name) for d in lineage["outcome_class"]}
    assert column_metadata("trained_model", ["dataset_split"]) == {}


def test_every_column_named_in_a_lineage_exists():
    for asset in ASSET_ORDER:
        schema = schema_of(asset)
        if schema is None:
            continue
        for deps in column_lineage(asset, list(schema.columns), {}).deps_by_column.values():
            for dep in deps:
                assert dep.column_name in schema_of(dep.asset_key.to_user_string()).columns


def test_a_failed_check_names_its_reason_the_next_command_and_the_docs():
    assert set(ANSWERS) == set(ASSET_ORDER)
    failed = to_result("daily_bars", Proposition("x", lambda e: None), Verdict("x", False, 3, ("AAPL is late",)))
    assert failed.description == "AAPL is late"
    assert failed.metadata["next_command"].value == "k4 data check"
    assert failed.metadata["docs"].value.endswith("docs/data-sources.md")
    assert (
        "next_command" not in to_result("daily_bars", Proposition("x", lambda e: None), Verdict.of("x", 3, [])).metadata
    )


def test_every_asset_links_to_its_source():
    graph = defs.resolve_asset_graph()
    for name in ASSET_ORDER:
        references = graph.get(dg.AssetKey(name)).metadata["dagster/code_references"].code_references
        assert references[0].file_path.endswith(f"defs/assets/{name}.py")
