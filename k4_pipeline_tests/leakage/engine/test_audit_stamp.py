"""The stamp of an audit counts for the predictions it was made of, and for no others."""

from __future__ import annotations

import pytest

from k4_pipeline.leakage.engine.audit_stamp import audited, write_stamp


@pytest.mark.parametrize("passed", [True, False])
def test_a_stamp_speaks_for_its_own_predictions_only(tmp_path, passed):
    assert audited(tmp_path, "2020-01-01", "abc") is None
    write_stamp(tmp_path, "2020-01-01", "abc", {"passed": passed, "verdicts": [{"name": "replay", "passed": passed}]})
    assert audited(tmp_path, "2020-01-01", "abc") is passed
    assert audited(tmp_path, "2020-01-01", "retrained") is None
    assert audited(tmp_path, "2020-04-01", "abc") is None
