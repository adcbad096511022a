"""What the default audit fits again, and what it says of what it left out."""

from __future__ import annotations

import json

import pytest

from k4_pipeline.config import PipelineConfig, ProofConfig
from k4_pipeline.leakage.engine.audit_run import SECOND_REFIT, _explained, refit_decision
from k4_pipeline.storage import ArtifactStore

AS_OF = "2024-01-01"


def _store(tmp_path, *, device: str = "cpu", meta: dict | None = None) -> ArtifactStore:
    store = ArtifactStore(tmp_path)
    with store.stage("trained_model", AS_OF) as staged:
        (staged.dir / "facts.json").write_text(json.dumps({"device": device}))
        ref = staged.commit(kind="trained_model", meta=meta)
    store.promote("trained_model", AS_OF, ref.fingerprint)
    return store


def _decide(store, limit: float = 300.0) -> tuple[bool, str]:
    return refit_decision(store, PipelineConfig(proof=ProofConfig(refit_max_seconds=limit)), AS_OF)


def test_weights_that_were_trained_quickly_are_fitted_again(tmp_path):
    assert _decide(_store(tmp_path, meta={"training_seconds": 20.0})) == (True, "")


@pytest.mark.parametrize(
    "device, meta, reason",
    [
        ("cpu", {"training_seconds": 900.0}, "took 900 s, proof.refit_max_seconds is 300"),
        ("cpu", {}, "not on record"),
        ("cuda:0", {"training_seconds": 1.0}, "trained on cuda:0"),
    ],
)
def test_weights_that_are_not_fitted_again_say_why_and_how(tmp_path, device, meta, reason):
    refit, why = _decide(_store(tmp_path, device=device, meta=meta))
    assert not refit
    assert reason in why
    assert device != "cpu" or "--sample thorough" in why


def test_what_was_not_asked_carries_its_reason():
    reasons = {"raw": "the source has changed", "refit": "", "second refit": SECOND_REFIT}
    assert _explained("needs raw, split", reasons) == "needs raw, split (the source has changed)"
    assert SECOND_REFIT in _explained("needs second refit", reasons)
    assert _explained("needs refit", reasons) == "needs refit"
