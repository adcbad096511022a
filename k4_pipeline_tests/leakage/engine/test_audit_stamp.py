"""The stamp of an audit counts for the predictions it was made of, and for no others."""

from __future__ import annotations

import pytest

from k4_pipeline.leakage.engine.audit_stamp import audited, proofs_in_words, read_stamp, write_stamp

SAMPLE = {"name": "normal", "tickers": 24, "cut_dates": 2, "refit": True}


def _result(status: str) -> dict:
    verdicts = [{"name": "replay", "passed": status != "failed"}]
    open_ = {"refit": "needs refit"} if status == "not proved" else {}
    return {"status": status, "verdicts": verdicts, "sample": SAMPLE, "not_applicable": {}, "not_proved": open_}


@pytest.mark.parametrize("status, stamp", [("passed", True), ("failed", False), ("not proved", None)])
def test_a_stamp_speaks_for_its_own_predictions_only(tmp_path, status, stamp):
    assert audited(tmp_path, "2020-01-01", "abc") is None
    write_stamp(tmp_path, "2020-01-01", "abc", _result(status))
    assert audited(tmp_path, "2020-01-01", "abc") is stamp
    assert audited(tmp_path, "2020-01-01", "retrained") is None
    assert audited(tmp_path, "2020-04-01", "abc") is None


def test_the_banner_says_which_proofs_were_made_on_which_sample(tmp_path):
    write_stamp(tmp_path, "2020-01-01", "abc", _result("not proved"))
    text = proofs_in_words(read_stamp(tmp_path, "2020-01-01", "abc"))
    assert "1 of 1 checks hold (sample normal: 24 tickers" in text
    assert "not proved: refit" in text
    assert "not audited yet" in proofs_in_words(None)
