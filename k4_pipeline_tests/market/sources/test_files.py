"""CSV and Parquet files of every usual make, and damaged ones: read as sent, or refused by name."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.dialect.headings import match_columns
from k4_pipeline.market.files.opening import Entry
from k4_pipeline.market.sources.base import RAW_COLUMNS
from k4_pipeline.market.sources.folder import read_folder
from k4_pipeline.market.sources.names import tickers_of
from k4_pipeline.market.sources.table import read_table
from k4_pipeline_tests.market.crafted import raw_frame

VALUES = ["date", "open", "high", "low", "close", "volume"]
CONFIG = CleaningConfig()


def _one(ticker: str = "AAA", n: int = 25) -> pd.DataFrame:
    return raw_frame(ticker, n)[VALUES]


def _csv(frame: pd.DataFrame, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False, **options)
    return path


def _fingerprint(raw) -> str:
    return clean_bars(raw, CONFIG).bars.fingerprint()


@pytest.fixture
def reference(tmp_path: Path) -> str:
    return _fingerprint(read_folder(_csv(_one(), tmp_path / "reference" / "AAA.csv").parent))


class TestSpellings:
    @pytest.mark.parametrize(
        "names",
        [
            ["Date", "Open", "High", "Low", "Close", "Volume"],
            ["<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"],
            ["Date/Time", "open", "HIGH", "low_", "Close Price", "vol"],
            ["timestamp", "o", "h", "l", "c", "v"],
            [" trade_date", "Open Price", "px_high", "Low Price", "Close/Last", "Total Volume"],
        ],
    )
    def test_every_usual_spelling_and_case_is_recognised(self, tmp_path, reference, names):
        frame = _one()
        frame.columns = names
        assert _fingerprint(read_folder(_csv(frame, tmp_path / "in" / "AAA.csv").parent)) == reference
        frame.to_parquet(tmp_path / "in" / "AAA.parquet")
        (tmp_path / "in" / "AAA.csv").unlink()
        assert _fingerprint(read_folder(tmp_path / "in")) == reference

    def test_the_plain_close_wins_over_the_adjusted_one_which_serves_alone(self):
        names = ["Date", "Open", "High", "Low", "Adj Close", "Close", "Volume"]
        assert match_columns(names, where="f", need_ticker=False)["close"] == "Close"
        names.remove("Close")
        assert match_columns(names, where="f", need_ticker=False)["close"] == "Adj Close"

    def test_missing_columns_are_named_with_those_there(self, tmp_path):
        path = _csv(_one().drop(columns=["low", "volume"]), tmp_path / "in" / "AAA.csv")
        with pytest.raises(BadInputError, match=r"AAA\.csv: no column for low, volume; it has date, open, high, close"):
            read_folder(path.parent)

    def test_a_date_index_saved_with_or_without_a_name_is_the_date(self, tmp_path, reference):
        for name in ("Date", None):
            frame = _one().set_index("date")
            frame.index.name = name
            frame.to_csv(tmp_path / "AAA.csv")
            assert _fingerprint(read_folder_of(tmp_path / "AAA.csv")) == reference
            frame.to_parquet(tmp_path / "AAA.parquet")
            assert _fingerprint(read_folder_of(tmp_path / "AAA.parquet")) == reference


def read_folder_of(path: Path):
    """The one file, alone in a folder."""
    folder = path.parent / f"only_{path.name}_{path.stat().st_mtime_ns}"
    folder.mkdir()
    path.replace(folder / path.name)
    return read_folder(folder)


class TestMakes:
    @pytest.mark.parametrize("suffix", [".csv", ".txt", ".tsv", ".csv.gz", ".CSV", ".parquet", ".pq"])
    def test_every_kind_of_file_gives_the_same_bars(self, tmp_path, reference, suffix):
        path = tmp_path / f"AAA{suffix}"
        if suffix in (".parquet", ".pq"):
            _one().to_parquet(path)
        else:
            _csv(_one(), path, sep="\t" if suffix == ".tsv" else ",", compression="infer")
        assert _fingerprint(read_folder(tmp_path, tickers=["AAA"])) == reference

    def test_semicolons_with_decimal_commas(self, tmp_path, reference):
        _csv(_one(), tmp_path / "in" / "AAA.csv", sep=";", decimal=",", date_format="%d.%m.%Y")
        assert _fingerprint(read_folder(tmp_path / "in")) == reference

    def test_a_byte_order_mark_and_latin_letters(self, tmp_path, reference):
        _csv(_one(), tmp_path / "bom" / "AAA.csv", encoding="utf-8-sig")
        assert _fingerprint(read_folder(tmp_path / "bom")) == reference
        _csv(_one().assign(**{"Währung": "£"}), tmp_path / "latin" / "AAA.csv", encoding="latin-1")
        assert _fingerprint(read_folder(tmp_path / "latin")) == reference

    def test_the_three_header_lines_of_a_saved_yfinance_frame(self, tmp_path, reference):
        frame = _one()[["date", "close", "high", "low", "open", "volume"]]
        text = "Price,Close,High,Low,Open,Volume\nTicker,AAA,AAA,AAA,AAA,AAA\nDate,,,,,\n"
        path = tmp_path / "in" / "AAA.csv"
        path.parent.mkdir()
        path.write_text(text + frame.to_csv(index=False, header=False))
        assert _fingerprint(read_folder(path.parent)) == reference

    def test_the_style_of_stooq(self, tmp_path, reference):
        frame = _one()
        frame.columns = ["<DATE>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"]
        frame.insert(0, "<TICKER>", "AAA.US")
        frame.insert(1, "<PER>", "D")
        frame.insert(3, "<TIME>", "000000")
        path = _csv(
            frame.assign(**{"<OPENINT>": 0}), tmp_path / "in" / "nyse" / "1" / "aaa.us.txt", date_format="%Y%m%d"
        )
        raw = read_folder(path.parents[2])
        assert raw.problems == []
        assert _fingerprint(raw) == reference

    def test_a_long_table_gives_the_same_bars_as_a_folder(self, tmp_path):
        frames = [raw_frame(t, 25) for t in ("AAA", "BBB")]
        for frame in frames:
            _csv(frame[VALUES], tmp_path / "in" / f"{frame['ticker'].iloc[0]}.csv")
        long = pd.concat(frames)[["ticker", *VALUES]]
        long.to_parquet(tmp_path / "long.parquet")
        _csv(long.rename(columns={"ticker": "Symbol"}), tmp_path / "long.csv")
        prints = {_fingerprint(read_table(tmp_path / f"long.{s}")) for s in ("parquet", "csv")}
        assert prints == {_fingerprint(read_folder(tmp_path / "in"))}


@pytest.mark.parametrize(
    ("name", "ticker"),
    [
        ("AAPL.csv", "AAPL"), ("VOD.L.parquet", "VOD.L"), ("0005.HK.csv.gz", "0005.HK"), ("brk-b.csv", "brk-b"),
        ("aapl.us.txt", "AAPL"), ("vod.uk.txt", "VOD.UK"), ("AAPL.txt", "AAPL"), ("NA.csv", "NA"), ("T.pq", "T"),
    ],
)  # fmt: skip
def test_the_file_name_is_the_ticker(name, ticker):
    assert [n.ticker for n in tickers_of([Entry(Path("x") / name, Path(name))])[0]] == [ticker]


@pytest.mark.parametrize("names", [("2013", "2014"), ("201311", "201402")])
def test_files_of_years_or_months_below_a_folder_are_parts_of_its_ticker(tmp_path, names):
    frame = raw_frame("AAA", 60)
    whole = _csv(frame[VALUES], tmp_path / "whole" / "AAA.csv").parent
    for name, part in zip(names, (frame[:30], frame[30:])):
        _csv(part[VALUES], tmp_path / "in" / "AAA" / f"{name}.csv")
    assert _fingerprint(read_folder(tmp_path / "in")) == _fingerprint(read_folder(whole))


def test_a_number_like_a_year_among_others_is_a_ticker():
    paths = [Path("twse") / f"{name}.csv" for name in ("1101", "2002", "2330")]
    found, _ = tickers_of([Entry(Path("x") / p, p) for p in paths])
    assert [(n.ticker, n.is_part) for n in found] == [("1101", False), ("2002", False), ("2330", False)]


def test_a_file_without_rows_is_named(tmp_path):
    _csv(raw_frame("AAA", 30)[VALUES], tmp_path / "AAA.csv")
    _csv(raw_frame("BBB", 30)[VALUES][:0], tmp_path / "BBB.csv")
    raw = read_folder(tmp_path)
    assert [text.split("/")[-1] for text in raw.skipped] == ["BBB.csv holds no rows; get it again or remove it"]
    assert raw.skipped == raw.problems


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Kiritimati"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_stamps_with_a_time_zone_keep_their_own_date(tmp_path, reference, zone, suffix):
    frame = _one()
    frame["date"] = frame["date"].dt.tz_localize(zone)
    path = tmp_path / "in" / f"AAA{suffix}"
    path.parent.mkdir()
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    assert _fingerprint(read_folder(path.parent)) == reference


class TestTickers:
    def test_na_nan_null_and_leading_zeros_are_tickers(self, tmp_path):
        names = ["0005", "NA", "NAN", "NULL", "TRUE", "1E5"]
        long = pd.concat([raw_frame(t, 25) for t in names])[["ticker", *VALUES]]
        bars = clean_bars(read_table(_csv(long, tmp_path / "long.csv")), CONFIG).bars
        assert bars.tickers.tolist() == sorted(names)

    def test_tickers_can_be_chosen_and_absent_ones_are_named(self, tmp_path):
        long = pd.concat([raw_frame(t, 25) for t in ("AAA", "BBB")])[["ticker", *VALUES]]
        path = _csv(long, tmp_path / "long.csv")
        raw = read_table(path, tickers=["BBB", "CCC"])
        assert raw.frame["ticker"].unique().tolist() == ["BBB"]
        assert raw.problems == [f"{path} holds no bars of CCC"]
        with pytest.raises(BadInputError, match="none of the 1 tickers"):
            read_table(path, tickers=["CCC"])
        _csv(_one(), tmp_path / "in" / "AAA.csv")
        raw = read_folder(tmp_path / "in", tickers=["AAA", "CCC"])
        assert raw.problems == [f"{tmp_path / 'in'} holds no file for CCC"]

    def test_two_files_of_one_ticker_are_not_mixed(self, tmp_path):
        _csv(_one(), tmp_path / "AAA.csv")
        _csv(_one(n=30), tmp_path / "b" / "AAA.csv.gz")
        raw = read_folder(tmp_path)
        assert len(raw.frame) == 25
        assert "is ignored" in raw.problems[0]

    def test_a_long_table_among_the_files_is_left_out_by_name(self, tmp_path):
        _csv(_one(), tmp_path / "AAA.csv")
        _csv(pd.concat([raw_frame(t, 25) for t in ("X", "Y")])[["ticker", *VALUES]], tmp_path / "all.csv")
        raw = read_folder(tmp_path)
        assert raw.frame["ticker"].unique().tolist() == ["AAA"]
        assert any("holds 2 tickers (X, Y, ...)" in p for p in [*raw.problems, *raw.skipped])

    def test_a_file_that_names_another_ticker_inside_is_told(self, tmp_path):
        _csv(_one().assign(ticker="BBB"), tmp_path / "AAA.csv")
        raw = read_folder(tmp_path)
        assert "names its ticker BBB inside" in raw.problems[0]
        assert raw.frame["ticker"].unique().tolist() == ["AAA"]


class TestDamage:
    def _with_good(self, tmp_path: Path, name: str, content: bytes):
        _csv(_one(), tmp_path / "AAA.csv")
        (tmp_path / name).write_bytes(content)
        raw = read_folder(tmp_path)
        assert raw.frame["ticker"].astype(str).eq("AAA").sum() == 25
        return raw

    @pytest.mark.parametrize(
        ("name", "content", "part"),
        [
            ("BAD.csv", b"", "is empty"),
            ("BAD.csv", b"\n \n", "is empty"),
            ("BAD.csv", b"\x00\x01\x02" * 50, "is no text file"),
            ("BAD.csv", b"hello world\n", "no column for date"),
            ("BAD.csv", b"2015-01-02,1,1,1,1,5\n" * 9, "no column for date, open"),
            ("BAD.csv.gz", b"not gzip at all", "cannot be read"),
            ("BAD.csv.gz", gzip.compress(b"Date,Open\n" + b"2015-01-02,1\n" * 9, mtime=0)[:30], "cut short"),
            ("BAD.parquet", b"PAR1 and nothing else", "no Parquet file"),
            ("BAD.parquet", b"", "no Parquet file"),
        ],
    )  # fmt: skip
    def test_an_unreadable_file_is_named_and_the_others_are_used(self, tmp_path, name, content, part):
        raw = self._with_good(tmp_path, name, content)
        assert len(raw.problems) == 1
        assert str(tmp_path / name) in raw.problems[0]
        assert part in raw.problems[0]

    def test_a_truncated_or_flipped_parquet_table_is_refused_by_name(self, tmp_path):
        path = tmp_path / "long.parquet"
        frame = pd.concat([raw_frame(t, 200) for t in ("AAA", "BBB")])[["ticker", *VALUES]]
        frame.to_parquet(path, write_page_checksum=True)
        good = path.read_bytes()
        for bad in (good[:-20], good[: len(good) // 2], good[:200] + bytes([good[200] ^ 1]) + good[201:]):
            path.write_bytes(bad)
            with pytest.raises(BadInputError, match=r"long\.parquet cannot be read"):
                read_table(path)

    def test_a_row_cut_short_is_rejected_and_told(self, tmp_path):
        path = _csv(_one(), tmp_path / "AAA.csv")
        text = path.read_text()
        path.write_text(text[: text.rindex(",") - 3])
        raw = read_folder(tmp_path)
        assert "may lack its end: it is refused" in raw.problems[0]
        result = clean_bars(raw, CONFIG)
        assert result.rejects["reason"].tolist() == ["the file ends inside this row"]
        assert result.counts["kept"] == 24

    @pytest.mark.parametrize("row", [1, 12])
    def test_a_row_with_too_many_cells_is_never_shifted_into_place(self, tmp_path, row):
        path = _csv(_one(), tmp_path / "AAA.csv")
        lines = path.read_text().splitlines()
        lines[row] += ",234,567"  # 1,234,567 without quotes
        path.write_text("\n".join(lines) + "\n")
        raw = read_folder(tmp_path)
        assert "more cells than the header" in raw.problems[0]
        result = clean_bars(raw, CONFIG)
        assert result.rejects["date"].tolist() == [lines[row]]  # the line as sent
        assert result.counts["kept"] == 24

    def test_a_much_too_long_row_far_down_is_skipped_and_told(self, tmp_path):
        path = _csv(_one(n=3000), tmp_path / "AAA.csv")
        lines = path.read_text().splitlines()
        lines[2900] += ",1,2,3,4,5,6"
        path.write_text("\n".join(lines) + "\n")
        raw = read_folder(tmp_path)
        assert "1 rows have more cells than the header" in raw.problems[0]
        assert lines[2900].split(",")[0] in raw.problems[0]
        assert clean_bars(raw, CONFIG).counts["kept"] == 2999

    def test_trailing_separators_are_no_surplus(self, tmp_path, reference):
        path = _csv(_one(), tmp_path / "in" / "AAA.csv")
        path.write_text("".join(f"{line},\n" for line in path.read_text().splitlines()))
        raw = read_folder(path.parent)
        assert raw.problems == []
        assert _fingerprint(raw) == reference

    def test_cells_that_are_no_numbers_are_rejected_with_their_row(self, tmp_path):
        frame = _one().astype({"high": object, "volume": object})
        frame.loc[3, "high"] = "n.a."
        frame.loc[4, "volume"] = "much"
        frame.loc[5, "high"] = np.nan
        result = clean_bars(read_folder(_csv(frame, tmp_path / "AAA.csv").parent), CONFIG)
        assert result.rejects["reason"].tolist() == [
            "high is missing or no number", "volume is missing or no number", "high is missing or no number",
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("path", "part"),
        [
            ("absent", "does not exist"),
            ("file.csv", "use source 'table'"),
            ("empty", "holds no .csv"),
        ],
    )
    def test_a_wrong_folder_says_what_to_give(self, tmp_path, path, part):
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / ".hidden.csv").write_text("x")
        _csv(_one(), tmp_path / "file.csv")
        with pytest.raises(BadInputError, match=part):
            read_folder(tmp_path / path)

    def test_when_no_file_can_be_read_the_first_problem_is_told(self, tmp_path):
        (tmp_path / "BAD.csv").write_text("")
        with pytest.raises(BadInputError, match=r"none of the 1 files .*BAD\.csv is empty"):
            read_folder(tmp_path)

    @pytest.mark.parametrize(
        ("path", "part"),
        [("absent.csv", "does not exist"), (".", "use source 'folder'"), ("a.xlsx", "unknown extension")],
    )
    def test_a_wrong_table_says_what_to_give(self, tmp_path, path, part):
        (tmp_path / "a.xlsx").write_text("x")
        with pytest.raises(BadInputError, match=part):
            read_table(tmp_path / path)

    def test_a_table_without_rows_or_without_tickers_is_refused(self, tmp_path):
        _csv(raw_frame(n=0)[["ticker", *VALUES]], tmp_path / "none.csv")
        with pytest.raises(BadInputError, match="holds no rows"):
            read_table(tmp_path / "none.csv")
        with pytest.raises(BadInputError, match="no column for ticker"):
            read_table(_csv(_one(), tmp_path / "one.csv"))


def test_progress_counts_files_and_columns_are_the_agreed_ones(tmp_path):
    for ticker in ("AAA", "BBB", "CCC"):
        _csv(_one(ticker), tmp_path / f"{ticker}.csv")
    seen: list[tuple[int, int]] = []
    raw = read_folder(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert tuple(raw.frame.columns) == RAW_COLUMNS
    assert raw.frame["source"].astype(str).iloc[-1] == str(tmp_path / "CCC.csv")
