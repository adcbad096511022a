"""Two markets from YAML files live in one code location, each with a graph, a home and a lock of its own."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from k4_pipeline.defs.build import build_defs
from k4_pipeline.defs.graph import ASSET_ORDER
from k4_pipeline.defs.jobs import SELECTIONS
from k4_pipeline.defs.market import K4Market, stored_markets
from k4_pipeline.defs.market_homes import homes_written
from k4_pipeline.defs.partitions import UI_VARIABLE
from k4_pipeline.errors import ConfigError
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore

FILE = """
type: k4_pipeline.defs.market.K4Market
attributes:
  name: {name}
  source: simulated
  labels: {labels}
  settings: [simulation.n_tickers={tickers}, simulation.n_bars=300]
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("markets") / "home"
    (home / "markets").mkdir(parents=True)
    for name, labels, tickers in (("us", "race_100", 3), ("tokyo", "rare_30", 2)):
        (home / "markets" / f"{name}.yaml").write_text(FILE.format(name=name, labels=labels, tickers=tickers))
    return home


@pytest.fixture(scope="module")
def defs(home) -> dg.Definitions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K4_HOME", str(home))
        return dg.Definitions.merge(build_defs(), *stored_markets())


def test_the_graph_is_there_once_for_the_home_and_once_for_each_market(defs):
    repository = defs.get_repository_def()
    keys = {key.to_user_string() for key in repository.assets_defs_by_key}
    for prefix in ("", "us/", "tokyo/"):
        assert {f"{prefix}{name}" for name in ASSET_ORDER} <= keys
    jobs = {job.name for job in repository.get_all_jobs()}
    assert {f"{market}_{job}" for market in ("us", "tokyo") for job in SELECTIONS} <= jobs
    assert {"nightly_signals", "us_nightly_signals", "tokyo_weekly_full_run"} <= {
        s.name for s in repository.schedule_defs
    }
    graph = repository.asset_graph
    for key in repository.assets_defs_by_key:
        assert {parent.path[:-1] == key.path[:-1] for parent in graph.get(key).parent_keys} <= {True}


def test_a_market_is_made_in_its_own_home_and_checked_under_its_own_key(defs, home):
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("us_full_pipeline")
        done = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["us", "daily_bars"])])
    assert done.success
    seen = done.get_asset_check_evaluations()
    assert {evaluation.asset_key.to_user_string() for evaluation in seen} == {"us/daily_bars"}
    assert all(evaluation.passed for evaluation in seen)
    own = home / "markets" / "us"
    assert ArtifactStore(own / "artifacts").current("daily_bars").meta["tickers"] == 3
    assert not (home / "artifacts").exists()
    assert load_settings(own, {}).config.simulation.n_tickers == 3


def test_a_run_holds_the_locks_of_the_homes_it_writes_into(defs, home):
    own = home / "markets" / "us"
    assert homes_written(["us__daily_bars", "us__daily_bars_checks"], home) == [own]
    assert homes_written(["us__daily_bars", "daily_bars"], home) == [home, own]
    assert homes_written([], home) == [home]


def test_in_the_ui_a_market_has_the_quarters_of_its_own_bars(tmp_path, monkeypatch):
    monkeypatch.setenv(UI_VARIABLE, "1")
    monkeypatch.setenv("K4_HOME", str(tmp_path / "home"))
    offered = []
    for year in (2010, 2024):
        text = f"name: eu\nsource: simulated\nsettings: [simulation.n_bars=1500, simulation.end_date={year}-12-31]\n"
        made = K4Market.resolve_from_yaml(text).definitions(tmp_path).resolve_asset_graph()
        offered.append(made.get(dg.AssetKey(["eu", "predictions"])).partitions_def.get_partition_keys())
        checks = {
            made.get(key).partitions_def for key in made.asset_check_keys if key.asset_key.path[-1] == "predictions"
        }
        assert checks == {made.get(dg.AssetKey(["eu", "predictions"])).partitions_def}
    assert [(keys[0], keys[-1]) for keys in offered] == [("2009-04-01", "2010-04-01"), ("2023-04-01", "2024-04-01")]


def test_the_file_is_a_component_of_any_dagster_project():
    market = K4Market.resolve_from_yaml("name: eu\npath: bars\nuniverse: [SAP.DE, AIR.PA]\n")
    resource = market.definitions(Path("/data")).resources["k4_eu"]
    config = resource.settings().config
    assert config.source.path == "/data/bars"
    assert config.source.tickers == ("SAP.DE", "AIR.PA")


@pytest.mark.parametrize(
    "text, said",
    [
        ("attributes: {name: US, source: simulated}", "use lower-case letters"),
        ("attributes: {name: us}", "source folder needs a path"),
        ("attributes: {name: us, source: simulated, labels: nope}", "label preset 'nope' is unknown"),
        ("attributes: {name: us, sauce: simulated}", "sauce"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(tmp_path, text, said):
    (tmp_path / "markets").mkdir()
    (tmp_path / "markets" / "bad.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml cannot be used") as raised:
        stored_markets(tmp_path)
    assert said in str(raised.value)
