"""A file that ends inside its last row: the row is read right or refused, never as another number."""

import numpy as np
import pytest

from k4_pipeline.market.dialect.headings import FIELDS
from k4_pipeline.market.dialect.structure import find_structure
from k4_pipeline.market.files.last_row import split_cut_row

HEADER = "date,open,high,low,close,volume"


def used_of(text: str) -> tuple[bytes, str]:
    structure = find_structure(text.splitlines(), where="t", need_ticker=False)
    wanted = [structure.names.index(name) for field, name in structure.columns.items() if field in FIELDS]
    return split_cut_row(text.encode(), structure, wanted)


def file_of(volumes: list[int], header: str = HEADER, tail: str = "") -> str:
    rows = [f"2013-01-{i + 2:02d},20.10,21.30,19.50,20.25,{v}{tail}" for i, v in enumerate(volumes)]
    return "\n".join([header, *rows])


@pytest.mark.parametrize("seed", range(8))
def test_no_cut_of_a_last_volume_is_kept(seed):
    rng = np.random.default_rng(seed)
    usual = [int(v) for v in np.exp(rng.normal(12, 0.6, 25))]
    text = file_of([*usual, int(rng.uniform(0.4, 2.5) * np.median(usual))])
    assert used_of(text) == (text.encode(), "")  # whole: kept though no line break follows
    last = text.splitlines()[-1]
    for lost in range(1, len(last)):
        kept, cut = used_of(text[:-lost])
        assert kept.decode().splitlines() == text.splitlines()[:-1]
        assert cut == last[:-lost]


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_last_price_without_its_last_digits_is_refused(lost):
    lines = [HEADER.replace("close,volume", "volume,close")]
    lines += [f"2013-01-{i + 2:02d},20.10,21.30,19.50,5000,20.25" for i in range(20)]
    assert used_of("\n".join(lines))[1] == ""
    assert used_of("\n".join(lines)[:-lost])[1] == lines[-1][:-lost]


def test_a_cut_in_a_column_that_is_not_read_costs_nothing():
    text = file_of([500_000 + i for i in range(20)], HEADER + ",exchange", ",NASDAQ")
    assert used_of(text[:-4]) == (text[:-4].encode(), "")
    assert used_of(text[:-8])[1] == text.splitlines()[-1][:-8]


def test_a_ticker_that_is_the_beginning_of_another_is_refused():
    rows = [f"2013-01-{i + 2:02d},20.1,21.3,19.5,20.2,500,{t}" for i in range(4) for t in ("A", "AAPL", "AA")]
    text = "\n".join(["date,open,high,low,close,volume,ticker", *rows])
    assert used_of(text[:-1])[1].endswith("500,A")
    assert used_of(text[: text.rindex("AAPL") + 3])[1].endswith("AAP")
