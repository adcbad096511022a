"""What the default audit fits again, and what it says of what it left out."""

from __future__ import annotations

import json

import pytest

from k4_pipeline.config import PipelineConfig, ProofConfig
from k4_pipeline.errors import ConfigError
from k4_pipeline.leakage.engine import audit_run
from k4_pipeline.leakage.engine.audit import load_checks
from k4_pipeline.leakage.engine.audit_run import why_not_refitted
from k4_pipeline.storage import ArtifactStore

AS_OF = "2024-01-01"


def _store(tmp_path, device: str = "cpu") -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    with store.stage("trained_model", AS_OF) as staged:
        (staged.dir / "facts.json").write_text(json.dumps({"device": device}))
        # What it says of its own training decides nothing.
        ref = staged.commit(kind="trained_model", meta={"training_seconds": 9_000.0})
    store.promote("trained_model", AS_OF, ref.fingerprint)
    return store


def _why(store, seconds: float | None, limit: float = 300.0) -> str:
    return why_not_refitted(store, PipelineConfig(proof=ProofConfig(refit_max_seconds=limit)), AS_OF, seconds)


@pytest.mark.parametrize("seconds", [20.0, None])
def test_weights_are_fitted_again_whatever_the_artifact_says_of_its_own_training(tmp_path, seconds):
    assert _why(_store(tmp_path), seconds) == ""


def test_a_long_training_by_the_event_log_is_left_to_the_thorough_audit(tmp_path):
    why = _why(_store(tmp_path), 900.0)
    assert "took 900 s, proof.refit_max_seconds is 300" in why
    assert "--sample thorough" in why


def test_weights_of_another_device_are_not_fitted_again_and_that_is_said(tmp_path):
    assert "trained on cuda:0" in _why(_store(tmp_path, "cuda:0"), 1.0)


def test_where_some_checks_are_asked_the_others_are_not_proved():
    name = "nothing_lies_in_two_members"
    result = audit_run.run(config=PipelineConfig(), store_root=None, isolated=False, names=[name])
    assert [v["name"] for v in result["verdicts"] if v["passed"]] == [name]
    assert result["status"] == "not proved"
    assert set(result["not_proved"]) == set(load_checks()) - {name}
    with pytest.raises(ConfigError, match="no such check: nothing"):
        audit_run.names_of_the_others(["nothing"])


def test_a_model_whose_tables_a_full_run_replaced_is_not_proved_and_nothing_is_called_a_leak(tmp_path):
    store = ArtifactStore(tmp_path)

    def made(asset, partition=None, text="", inputs=None, meta=None):
        with store.stage(asset, partition) as staged:
            (staged.dir / "table.txt").write_text(text)
            ref = staged.commit(kind=asset, inputs=inputs or {}, meta=meta or {})
        store.promote(asset, partition, ref.fingerprint)
        return ref

    made("daily_bars", meta={"last_date": "2024-01-02"})
    labeled = made("labeled_snapshots", text="then")
    made("dataset_split", "2023-01-01", inputs={"labeled_snapshots": labeled.fingerprint})
    made("predictions", "2023-01-01")
    assert audit_run.bars_made_again_since(store, "2023-01-01") == ""
    made("labeled_snapshots", text="a week later")
    result = audit_run.run(config=PipelineConfig(), store_root=tmp_path)
    assert (result["status"], result["verdicts"]) == ("not proved", [])
    assert "2024-01-02" in "".join(result["not_proved"].values())
