"""The append-only table: rows are kept for ever, repeated appends add nothing, and a changed past is an error."""

from __future__ import annotations

import pandas as pd
import pytest

from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.storage.ledger import CHAIN, AppendOnlyTable


def rows(date: str, **tickers: float) -> pd.DataFrame:
    names = sorted(tickers)
    return pd.DataFrame({"night": pd.Timestamp(date), "ticker": names, "p_4": [tickers[n] for n in names]})


@pytest.fixture
def table(tmp_path) -> AppendOnlyTable:
    return AppendOnlyTable(tmp_path / "ledger", ("night", "ticker"))


def test_rows_come_back_as_written_and_a_repeated_append_adds_nothing(table):
    assert table.append(rows("2024-01-30", A=0.1, B=0.2), "m1") == 2
    assert table.append(rows("2024-02-01", A=0.3), "m1") == 1
    assert table.append(rows("2024-01-30", A=0.1, B=0.2), "m1") == 0
    assert table.append(rows("2024-01-30", A=0.1, C=0.5), "m1") == 1
    pd.testing.assert_frame_equal(
        table.read(),
        pd.concat([rows("2024-01-30", A=0.1, B=0.2), rows("2024-02-01", A=0.3), rows("2024-01-30", C=0.5)]).reset_index(
            drop=True
        ),
    )
    assert table.read(first="2024-02-01")["p_4"].tolist() == [0.3]
    assert table.read(last="2024-01-31")["ticker"].tolist() == ["A", "B", "C"]
    assert table.verify() == 4
    assert sorted(p.name for p in table.folder.glob("month=*")) == ["month=2024-01", "month=2024-02"]


def test_a_changed_past_is_refused_and_leaves_everything_as_it_was(table):
    table.append(rows("2024-01-30", A=0.1), "m1")
    before = (table.folder / CHAIN).read_bytes()
    with pytest.raises(
        BadInputError, match=r"p_4 of night 2024-01-30 .*ticker A was written as 0.1 and would now be 0.2"
    ):
        table.append(rows("2024-01-30", A=0.2, B=0.3), "m1")
    assert (table.folder / CHAIN).read_bytes() == before
    assert table.read()["p_4"].tolist() == [0.1]


@pytest.mark.parametrize("damage", ["edit", "remove", "swap", "unchain", "reorder"])
def test_damage_is_noticed_when_the_table_is_read(table, damage):
    for day in ("2024-01-30", "2024-01-31", "2024-02-01"):
        table.append(rows(day, A=0.1, B=0.2), "m1")
    first, second, _ = (table.folder / e["file"] for e in table.entries())
    chain = table.folder / CHAIN
    lines = chain.read_text().splitlines(keepends=True)
    if damage == "edit":
        first.write_bytes(first.read_bytes()[:-1] + b"X")
    elif damage == "remove":
        first.unlink()
    elif damage == "swap":
        first.write_bytes(second.read_bytes())
    elif damage == "unchain":
        chain.write_text("".join(lines[:1] + lines[2:]))
    else:
        chain.write_text("".join([lines[1], lines[0], lines[2]]))
    with pytest.raises(StaleArtifactError):
        table.read()


def test_a_file_without_its_line_is_written_again_by_the_same_append(table):
    table.append(rows("2024-01-30", A=0.1), "m1")
    chain = table.folder / CHAIN
    kept = chain.read_bytes()
    table.append(rows("2024-01-31", A=0.2), "m1")
    chain.write_bytes(kept)  # as if the process had died before the line was written
    with pytest.raises(StaleArtifactError, match="not in chain"):
        table.verify()
    assert table.append(rows("2024-01-31", A=0.2), "m1") == 1
    assert table.verify() == 2


def test_rows_named_twice_or_of_two_nights_are_refused(table):
    with pytest.raises(BadInputError, match="written once"):
        table.append(pd.concat([rows("2024-01-30", A=0.1)] * 2), "m1")
    with pytest.raises(BadInputError, match="holds one night"):
        table.append(pd.concat([rows("2024-01-30", A=0.1), rows("2024-01-31", A=0.1)]), "m1")
    with pytest.raises(BadInputError, match="file name"):
        table.append(rows("2024-01-30", A=0.1), "../x")
