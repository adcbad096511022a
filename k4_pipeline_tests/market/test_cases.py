"""Every shape of file in `cases.py` has the reading it must have (k4_pipeline.market), and the page shows the same."""

from pathlib import Path

import pytest

from k4_pipeline_tests.market.cases import CASES, Case, check, table

PAGE = Path(__file__).parents[2] / "docs" / "data-dialects.md"


@pytest.mark.parametrize("case", CASES, ids=[f"{c.kind}: {c.sent[:40]}" for c in CASES])
def test_the_reading_is_the_right_one(tmp_path: Path, case: Case) -> None:
    assert check(case, tmp_path) == case.reading


def test_the_page_shows_the_cases() -> None:
    assert table([case.reading for case in CASES]) in PAGE.read_text()
