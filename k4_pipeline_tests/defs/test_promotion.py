"""A version is published exactly when its blocking checks pass, and consumers refuse anything else."""

from __future__ import annotations

import dagster as dg
import pytest

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.checks.factory import Evidence, Proposition, judge, to_result
from k4_pipeline.defs.staging import open_inputs
from k4_pipeline.defs.verdicts import pack, stored_verdicts, unpack
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.verdict import Verdict


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path)


def _write(store, asset, text, inputs=None):
    with store.stage(asset) as staged:
        (staged.dir / "value.txt").write_text(text)
        return staged.commit(kind=asset, inputs=inputs or {})


def _evidence(store, ref):
    return Evidence(ref, store, PipelineConfig())


def _holds(name, passed=True, cases=3, blocking=True):
    return Proposition(name, lambda e: Verdict.of(name, cases, [] if passed else ["row 7 is wrong"]), blocking)


def _raises(evidence):
    raise KeyError("close")


def test_a_version_whose_checks_pass_is_published_with_its_verdicts(store):
    ref = _write(store, "daily_bars", "a")
    with pytest.raises(StaleArtifactError, match="has not passed its checks yet"):
        store.current("daily_bars")
    judge(_evidence(store, ref), [_holds("one"), _holds("two", passed=False, blocking=False)])
    assert store.current("daily_bars").fingerprint == ref.fingerprint
    assert [(v.name, v.passed) for v in stored_verdicts(store, [ref])] == [("one", True), ("two", False)]


@pytest.mark.parametrize(
    "proposition, reason",
    [
        (_holds("wrong", passed=False), "row 7 is wrong"),
        (_holds("nothing_to_look_at", cases=0), "no evidence"),
        (Proposition("raises", _raises), "could not be evaluated"),
    ],
)
def test_a_failed_an_empty_and_a_raising_blocking_check_all_reject_the_version(store, proposition, reason):
    good = _write(store, "daily_bars", "good")
    judge(_evidence(store, good), [_holds("one")])
    bad = _write(store, "daily_bars", "bad")
    verdicts = judge(_evidence(store, bad), [_holds("one"), proposition])
    assert [v.passed for v in verdicts] == [True, False]
    with pytest.raises(StaleArtifactError, match=reason):
        open_inputs(store, ("daily_bars",), None)
    assert store.last_good("daily_bars").fingerprint == good.fingerprint


def test_a_consumer_refuses_an_input_made_from_another_version(store):
    bars = _write(store, "daily_bars", "a")
    judge(_evidence(store, bars), [_holds("one")])
    snapshots = _write(store, "snapshots", "s", {"daily_bars": bars.fingerprint})
    judge(_evidence(store, snapshots), [_holds("one")])
    assert set(open_inputs(store, ("daily_bars", "snapshots"), None)) == {"daily_bars", "snapshots"}
    newer = _write(store, "daily_bars", "b")
    judge(_evidence(store, newer), [_holds("one")])
    with pytest.raises(StaleArtifactError, match=rf"{bars.fingerprint[:12]}.*{newer.fingerprint[:12]}"):
        open_inputs(store, ("snapshots",), None)


def test_a_consumer_refuses_a_damaged_input(store):
    ref = _write(store, "daily_bars", "abc")
    judge(_evidence(store, ref), [_holds("one")])
    (ref.dir / "value.txt").write_text("abd")
    with pytest.raises(StaleArtifactError, match=r"sha256"):
        open_inputs(store, ("daily_bars",), None)


def test_a_check_reads_the_very_input_its_version_was_made_from(store):
    bars = _write(store, "daily_bars", "a")
    judge(_evidence(store, bars), [_holds("one")])
    snapshots = _write(store, "snapshots", "s", {"daily_bars": bars.fingerprint})
    assert _evidence(store, snapshots).input("daily_bars").fingerprint == bars.fingerprint
    with pytest.raises(LookupError, match="names 0 inputs"):
        _evidence(store, snapshots).input("sequences")
    judge(_evidence(store, _write(store, "daily_bars", "b")), [_holds("one")])
    with pytest.raises(LookupError, match="was made from"):
        _evidence(store, snapshots).input("daily_bars")


def test_verdicts_come_back_as_they_were_stored():
    verdicts = [Verdict.of("a", 3, [], rows=3), Verdict.of("b", 2, ["x", "y"])]
    assert unpack(pack(verdicts)) == verdicts
    assert unpack(None) == []


def test_a_result_shows_cases_findings_and_severity():
    bad = to_result("daily_bars", _holds("p"), Verdict.of("p", 2, ["row 1", "row 2"], share=0.5))
    assert not bad.passed
    assert bad.severity == dg.AssetCheckSeverity.ERROR
    assert "row 1" in bad.metadata["findings"].value
    assert bad.metadata["cases"].value == 2
    soft = to_result("daily_bars", _holds("p", blocking=False), Verdict.of("p", 2, ["row 1"]))
    assert soft.severity == dg.AssetCheckSeverity.WARN


def _control(evidence_there: bool) -> Proposition:
    def holds(evidence):
        return Verdict("control", False, 7, ("the score lies above its base rate",), {"evidence": evidence_there})

    return Proposition("control", holds, objects=lambda verdict: verdict.detail["evidence"])


def test_a_proposition_may_say_which_of_its_failures_block(store):
    ref = _write(store, "daily_bars", "a")
    (warned,) = judge(_evidence(store, ref), [_control(False)])
    assert store.current("daily_bars").fingerprint == ref.fingerprint
    assert to_result("daily_bars", _control(False), warned).severity == dg.AssetCheckSeverity.WARN
    (alarm,) = judge(_evidence(store, ref), [_control(True)])
    assert to_result("daily_bars", _control(True), alarm).severity == dg.AssetCheckSeverity.ERROR
    with pytest.raises(StaleArtifactError, match="above its base rate"):
        store.current("daily_bars")


def test_negative_controls_that_are_switched_off_fail_as_a_warning(store):
    from k4_pipeline.config import ControlsConfig
    from k4_pipeline.defs.checks.controls import CONTROL_PROPOSITIONS, DESCRIPTIONS
    from k4_pipeline.leakage.controls.negative_controls import CONTROLS

    assert set(DESCRIPTIONS) == set(CONTROLS)
    off = PipelineConfig(controls=ControlsConfig(enabled=False))
    evidence = Evidence(_write(store, "trained_model", "w"), store, off)
    for proposition in CONTROL_PROPOSITIONS:
        verdict = proposition.holds(evidence)
        assert not verdict.passed
        assert "controls.enabled" in verdict.findings[-1]
        assert to_result("trained_model", proposition, verdict).severity == dg.AssetCheckSeverity.WARN
