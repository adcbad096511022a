"""The record of the rows handed to fits is compared with the split, by key and by date."""

from __future__ import annotations

import pandas as pd
import pytest

from k4_pipeline.config import KEYS
from k4_pipeline.leakage.checks.propositions import rows_seen_are_those_permitted
from k4_pipeline.leakage.engine.small import SMALL_AS_OF


def _seen(split: pd.DataFrame) -> pd.DataFrame:
    rows = split[split["split"].isin(["train", "validation"])].reset_index(drop=True)
    return rows[[*KEYS, "label_end_date"]].assign(member=rows["split"])


def _judge(context, seen: pd.DataFrame):
    return rows_seen_are_those_permitted(seen, context.full.split, pd.Timestamp(SMALL_AS_OF))


def test_the_rows_of_the_split_are_permitted(context):
    seen = _seen(context.full.split)
    verdict = _judge(context, seen)
    assert verdict.passed, verdict.findings
    assert verdict.cases == len(seen) > 0


@pytest.mark.parametrize(
    "corrupt, words",
    [
        (lambda s: s.iloc[1:], "was not seen"),
        (lambda s: pd.concat([s, s.head(1)]), "seen twice"),
        (lambda s: s.assign(member=s["member"].where(s.index != 0, "validation")), "was seen only"),
        (lambda s: s.assign(label_end_date=s["label_end_date"] + pd.Timedelta(days=400)), "not known before as_of"),
    ],
)
def test_a_row_more_less_twice_elsewhere_or_too_late_is_found(context, corrupt, words):
    verdict = _judge(context, corrupt(_seen(context.full.split)))
    assert not verdict.passed
    assert any(words in finding for finding in verdict.findings)
