"""Exported tables."""

from __future__ import annotations

import pandas as pd

from k4_pipeline.defs.export import inert


def test_texts_that_a_spreadsheet_would_run_are_made_inert():
    table = pd.DataFrame({"a": ["=1+1", "+x", "-x", "@x", "x=1", None], "n": [-1.0, 2.0, 3.0, 4.0, 5.0, 6.0]})
    made = inert(table)
    assert made["a"].tolist()[:5] == ["'=1+1", "'+x", "'-x", "'@x", "x=1"]
    assert made["n"].tolist() == table["n"].tolist()
