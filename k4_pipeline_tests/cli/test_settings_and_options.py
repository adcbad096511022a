"""Precedence and conversion of settings: options, environment, stored file, defaults."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.cli.run import resolve
from k4_pipeline.config import LabelConfig, LossConfig, ModelConfig, PipelineConfig, RecipeConfig, TrainConfig, to_dict
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.options import OPTIONS, apply_assignments, apply_options, options_from_environment, set_field
from k4_pipeline.settings import Settings, home_dir, load_settings, save_settings
from k4_pipeline.storage.sealed import write_sealed


def test_the_home_folder_is_the_variable_or_dot_k4_in_the_working_folder_and_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert home_dir({}) == tmp_path / ".k4"
    assert home_dir({"K4_HOME": "here"}) == tmp_path / "here"
    assert home_dir({"K4_HOME": "/somewhere"}) == Path("/somewhere")


def test_stored_settings_come_back_the_same_and_only_their_owner_reads_them(tmp_path):
    config = apply_options(PipelineConfig(), {"tickers": 12, "preset": "tiny", "labels": "rare_30"})
    path = save_settings(Settings(tmp_path, config))
    assert load_settings(tmp_path, {}) == Settings(tmp_path, config)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_environment_overrides_what_is_stored_and_defaults_ignore_it(tmp_path):
    save_settings(Settings(tmp_path, apply_options(PipelineConfig(), {"tickers": 12, "world": "null"})))
    settings = load_settings(tmp_path, {"K4_TICKERS": "30"})
    assert settings.config.simulation.n_tickers == 30
    assert settings.config.simulation.world == "null"
    fresh = load_settings(tmp_path, {"K4_TICKERS": "30"}, stored=False)
    assert fresh.config.simulation.world == "squeeze"


def test_secrets_come_from_the_environment_or_a_private_file_and_are_never_stored_or_shown(tmp_path):
    secret = tmp_path / "alert_urls"
    secret.write_text("json://token-one\njson://token-two\n")
    secret.chmod(0o600)
    settings = load_settings(tmp_path, {})
    assert settings.alert_urls == ("json://token-one", "json://token-two")
    assert load_settings(tmp_path, {"K4_ALERT_URLS": "json://a  json://b"}).alert_urls == ("json://a", "json://b")
    assert "token" not in repr(settings)
    assert "token" not in save_settings(settings).read_text()
    secret.chmod(0o644)
    with pytest.raises(ConfigError, match="others may read it; run: chmod 600"):
        load_settings(tmp_path, {})


def test_no_flipped_bit_of_the_stored_settings_is_read_in_silence(tmp_path):
    path = save_settings(Settings(tmp_path))
    data = path.read_bytes()
    for bit in range(0, len(data) * 8, 11):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        with pytest.raises(ConfigError, match=r"settings\.json cannot be used"):
            load_settings(tmp_path, {})


def test_a_hand_written_file_without_the_hash_is_accepted(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({"config": {"simulation": {"n_tickers": 7}}}))
    assert load_settings(tmp_path, {}).config.simulation.n_tickers == 7


@pytest.mark.parametrize(
    "config",
    [
        {"training": {"epochs": "many"}},
        {"training": {"epochs": 2.5}},
        {"training": {"epochs": True}},
        {"training": {"epochs": 0}},
        {"training": {"epochs": None}},
        {"training": {"epochs": [3]}},
        {"training": {"learning_rate": float("nan")}},
        {"training": {"learning_rate": float("inf")}},
        {"training": {"learning_rate": "0.1"}},
        {"training": {"nosuch": 1}},
        {"training": []},
        {"training": "x"},
        {"simulation": {"n_tickers": -3}},
        {"simulation": {"dirty": "yes"}},
        {"model": {"preset": "huge"}},
        {"source": {"tickers": "A B"}},
        {"source": {"tickers": [1, 2]}},
        {"source": {"path": 7}},
        {"labels": {"gain_thresholds": [0.1, 0.2]}},
    ],
)
def test_stored_settings_pass_the_same_schema_as_set(tmp_path, config):
    (tmp_path / "settings.json").write_text(json.dumps({"config": config}))
    with pytest.raises(ConfigError, match=r"settings\.json cannot be used"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize(
    "content", ["{", "[]", "[" * 100_000, '{"config": {"nosuch": 1}}', '{"config": {"source": {"nosuch": 1}}}']
)
def test_a_damaged_settings_file_is_named_with_a_remedy(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ConfigError, match=r"settings\.json cannot be used.*delete it"):
        load_settings(tmp_path, {})


def test_every_option_reaches_a_field_and_has_a_variable_of_its_name():
    examples = {"labels": "rare_30", "patterns": "strict", "world": "null", "source": "table", "preset": "tiny"}
    examples |= {
        "model_preset": "fast",
        "missing_tickers": "filter",
        "labeling": "first_breach",
        "architecture": "bilstm",
        "backend": "naive",
        "device": "cpu",
    }
    for name, option in OPTIONS.items():
        value = examples.get(name, "7" if not option.is_path else "x.csv")
        changed = apply_options(PipelineConfig(), options_from_environment({f"K4_{name.upper()}": value}))
        assert changed != PipelineConfig(), name


def test_paths_become_absolute_so_that_the_ui_finds_them_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert apply_options(PipelineConfig(), {"path": "bars.parquet"}).source.path == str(tmp_path / "bars.parquet")


def test_a_preset_is_refined_by_single_options_whatever_their_order():
    for options in (
        {"labeling": "first_breach", "labels": "rare_30"},
        {"labels": "rare_30", "labeling": "first_breach"},
    ):
        labels = apply_options(PipelineConfig(), options).labels
        assert (labels.horizon_bars, labels.labeling) == (30, "first_breach")


@pytest.mark.parametrize(
    "dotted, value, message",
    [
        ("model.preset", "huge", r"'huge'; use one of micro, tiny, compact, small"),
        ("model.nosuch", "1", "model has no setting 'nosuch'"),
        ("nosuch.x", "1", "there is no section 'nosuch'"),
        ("training.epochs", "many", "expected int"),
        ("training.epochs", "0", "at least 1"),
        ("training.learning_rate", "nan", "finite"),
        ("simulation.n_tickers", "0", "at least 1"),
        ("simulation.dirty", "maybe", "use true or false"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_name_and_what_is_allowed(dotted, value, message):
    with pytest.raises(ConfigError, match=message):
        set_field(PipelineConfig(), dotted, value)


def test_assignments_convert_to_the_declared_types():
    config = apply_assignments(
        PipelineConfig(),
        [
            "training.batch_size=128",
            "simulation.dirty=false",
            "labels.gain_thresholds=0.1,0.2,0.3,0.4",
            "source.tickers=A B",
        ],
    )
    assert config.training.batch_size == 128
    assert config.simulation.dirty is False
    assert config.labels.gain_thresholds == (0.1, 0.2, 0.3, 0.4)
    assert config.source.tickers == ("A", "B")
    for text in ("training.batch_size", "nosuch=1"):
        with pytest.raises(ConfigError, match=r"section\.field=value"):
            apply_assignments(config, [text])


def test_label_rules_and_sample_weights_are_chosen_in_the_shell_the_environment_and_the_launchpad(tmp_path):
    texts = ["labels=rare_30", "labeling=first_breach", "split.weight_by_uniqueness=true"]
    in_the_shell = resolve(tmp_path, {"labels": "rare_30", "labeling": "first_breach"}, [texts[2]], again=False)[
        0
    ].config
    variables = {"K4_LABELS": "rare_30", "K4_LABELING": "first_breach"}
    in_the_environment = load_settings(tmp_path, variables, stored=False).config
    in_the_launchpad = K4Resource(home=str(tmp_path / "new"), set_fields=texts).settings().config
    for config in (in_the_shell, in_the_environment, in_the_launchpad):
        assert config.labels == LabelConfig.preset("rare_30", labeling="first_breach")
    assert in_the_shell.split.weight_by_uniqueness
    assert in_the_launchpad.split.weight_by_uniqueness


def test_settings_that_an_upgrade_removed_are_dropped_with_a_note_and_the_rest_is_used(tmp_path):
    config = to_dict(apply_options(PipelineConfig(), {"tickers": 12}))
    config["training"]["was_removed"] = 3
    config["gone"] = {"x": 1}
    config["labels"]["labeling"] = "a rule of the past"
    write_sealed(tmp_path / "settings.json", {"config": config, "an_entry": 1})
    settings = load_settings(tmp_path, {})
    assert settings.config == apply_options(PipelineConfig(), {"tickers": 12})
    done = CliRunner().invoke(app, ["status", "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for name in ("training.was_removed", "gone", "labels.labeling"):
        assert name in done.stderr
    looked = CliRunner().invoke(app, ["doctor", "--json", "--home", str(tmp_path)])
    (found,) = [f for f in json.loads(looked.stdout) if f["name"] == "settings"]
    assert found["state"] == "warning"
    assert "training.was_removed is no setting any more" in found["found"]
    save_settings(settings)
    assert load_settings(tmp_path, {}).dropped == ()


def test_the_stored_file_is_plain_json(tmp_path):
    stored = json.loads(save_settings(Settings(tmp_path)).read_text())
    assert set(stored) == {"version", "config", "sha256"}


def test_no_open_pattern_is_said_in_one_kind_sentence():
    from k4_pipeline.cli.results import _today

    text = _today({"signals": [], "data": {"bars_to": "2024-12-31"}})
    assert "no pattern was open on 2024-12-31" in text
    assert "nothing is wrong" in text


def test_a_model_preset_sets_recipe_loss_and_training_and_single_fields_refine_it():
    fast = apply_options(PipelineConfig(), {"model_preset": "fast", "epochs": "3", "seed": "5"})
    assert fast.recipe.members == ("tabm", "no_sequence", "extra_trees", "logit")
    assert (fast.training.epochs, fast.training.seed, fast.training.monitor) == (3, 5, "log_loss")
    original = apply_options(fast, {"model_preset": "original"})
    assert original.recipe == RecipeConfig()
    assert original.loss == LossConfig()
    assert original.model == ModelConfig()
    assert original.training == TrainConfig(seed=5)
    assert apply_options(original, {"model_preset": "default", "seed": 0}) == PipelineConfig()
    with pytest.raises(ConfigError, match="original"):
        apply_options(PipelineConfig(), {"model_preset": "best"})


def test_members_are_checked_by_name():
    found = apply_assignments(PipelineConfig(), ["recipe.members=logit,bilstm", "recipe.seeds=2"])
    assert found.recipe.members == ("logit", "bilstm")
    with pytest.raises(ConfigError, match="gradient_boosting"):
        apply_assignments(PipelineConfig(), ["recipe.members=forest"])


def test_addresses_of_stores_keep_their_slashes_and_names_of_plug_ins_stay_names(tmp_path, monkeypatch):
    from k4_pipeline.cli.common import places_given

    monkeypatch.chdir(tmp_path)
    (tmp_path / "bars.csv").touch()
    assert places_given(None, ["s3://bucket/prefix"]) == ("folder", ["s3://bucket/prefix"])
    assert places_given(None, ["./bars.csv", "s3://b/t.parquet"]) == (
        "table", [str(tmp_path / "bars.csv"), "s3://b/t.parquet"],
    )  # fmt: skip
    assert places_given("plugin", ["mine"]) == ("plugin", ["mine"])
    assert places_given(None, []) == (None, [])
    assert apply_options(PipelineConfig(), {"source": "plugin", "path": "mine"}).source.path == "mine"
    with pytest.raises(BadInputError, match=r"near it: bars\.csv"):
        places_given(None, ["bar.csv"])
