"""Shapes of files that vendors really send, with the right reading of each; through `k4 data check` as a user would."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app

DAYS = pd.bdate_range("2013-01-02", periods=30)
DAYS = DAYS[~DAYS.isin(pd.to_datetime(["2013-01-21"]))]  # a holiday of the exchange


def check(path: Path, *more: str, code: int = 0) -> tuple[dict, pd.DataFrame]:
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    out = path.parent / "out.parquet"
    arguments = ["data", "check", "--path", str(path), "--json", "--out", str(out), *more]
    done = CliRunner().invoke(app, arguments, env={**unset, "K4_HOME": str(path.parent / "home")})
    assert done.exit_code == code, done.output[-2000:]
    found = json.loads(done.stdout)
    return found, pd.read_parquet(out) if out.exists() else pd.DataFrame()


def write(path: Path, header: str, rows: list[str], encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join([header, *rows]) + "\n").encode(encoding))
    return path


def test_an_instant_is_the_session_of_its_exchange(tmp_path):
    stamps = [f"{d - pd.Timedelta(days=1):%Y-%m-%d} 23:00:00+00:00" for d in DAYS]
    rows = [f"RDNT.DE,{stamp},2.5,2.6,2.4,2.5,1000" for stamp in stamps]
    _, bars = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume", rows))
    assert bars["date"].iloc[0] == pd.Timestamp("2013-01-02")
    assert (bars["date"].dt.dayofweek < 5).all()


def test_a_thousands_sign_of_one_column_is_known_from_the_file(tmp_path):
    rows = [f"{d:%d.%m.%Y};10,5;11,2;10,1;10,9;{'950' if i == 0 else '1.200'}" for i, d in enumerate(DAYS)]
    _, bars = check(write(tmp_path / "in" / "CAR.csv", "Date;Open;High;Low;Close;Volume", rows).parent)
    assert bars["volume"].tolist() == [950.0] + [1200.0] * (len(DAYS) - 1)
    assert bars["close"].tolist() == [10.9] * len(DAYS)


def test_quoted_thousands_far_down_are_read(tmp_path):
    rows = [f"{d:%Y-%m-%d},900.5,905,899,901,1234" for d in DAYS[:-1]]
    rows.append(f'{DAYS[-1]:%Y-%m-%d},"1,002.50","1,010.00","999.00","1,001.00",1234')
    _, bars = check(write(tmp_path / "in" / "CAR.csv", "date,open,high,low,close,volume", rows).parent)
    last = bars.iloc[-1]
    assert (last["open"], last["high"], last["low"], last["close"]) == (1002.5, 1010.0, 999.0, 1001.0)


def test_unquoted_thousands_are_refused_with_the_row_as_sent(tmp_path):
    rows = [f"{d:%Y-%m-%d},900,905,899,901,1234" for d in DAYS[:-1]]
    rows.append(f"{DAYS[-1]:%Y-%m-%d},1,200.00,1,212.00,1,188.00,1,200.00,12345")
    found, bars = check(write(tmp_path / "in" / "CAR.csv", "date,open,high,low,close,volume", rows).parent)
    assert len(bars) == len(DAYS) - 1
    assert found["rows_refused"] == 1
    (refused,) = found["refusals"].values()
    assert "1,200.00" in refused["example"]


def test_a_header_is_parsed_by_the_rules_of_csv(tmp_path):
    header = '"Date","Open","High","Low","Close","Turnover, EUR","Volume","Trades"'
    rows = [f"{d:%Y-%m-%d},20,21,19,20,60000000,2991943,9974" for d in DAYS]
    _, bars = check(write(tmp_path / "in" / "CAR.csv", header, rows).parent)
    assert set(bars["volume"]) == {2991943.0}


def test_exact_names_win_over_lookalikes(tmp_path):
    header = "Date,High52,Low52,Open,High,Low,Close,Volume20,Volume"
    rows = [f"{d:%Y-%m-%d},99,1,20,21,19,20.5,777,1000" for d in DAYS]
    _, bars = check(write(tmp_path / "in" / "CAR.csv", header, rows).parent)
    row = bars.iloc[0]
    assert (row["high"], row["low"], row["volume"]) == (21.0, 19.0, 1000.0)


def test_a_wide_file_of_two_tickers_gives_two_tickers(tmp_path):
    lines = [
        "Price,Close,Close,High,High,Low,Low,Open,Open,Volume,Volume",
        "Ticker,CAR,LTS,CAR,LTS,CAR,LTS,CAR,LTS,CAR,LTS",
        "Date,,,,,,,,,,",
        *(f"{d:%Y-%m-%d},20.7,1.45,21.1,1.49,20.3,1.35,20.4,1.43,2991943,741181" for d in DAYS),
    ]
    _, bars = check(write(tmp_path / "in" / "download.csv", lines[0], lines[1:]).parent)
    assert bars.groupby("ticker")["volume"].first().to_dict() == {"CAR": 2991943.0, "LTS": 741181.0}
    assert bars.groupby("ticker")["close"].first().to_dict() == {"CAR": 20.7, "LTS": 1.45}


@pytest.mark.parametrize("place", ["ticker=CAR/data_0.parquet", "CAR/daily.csv"])
def test_the_ticker_may_be_the_folder(tmp_path, place):
    file = tmp_path / "in" / place
    file.parent.mkdir(parents=True)
    frame = pd.DataFrame({"date": DAYS, "open": 20.0, "high": 21.0, "low": 19.0, "close": 20.0, "volume": 5.0})
    frame.to_parquet(file, index=False) if file.suffix == ".parquet" else frame.to_csv(file, index=False)
    _, bars = check(tmp_path / "in")
    assert bars["ticker"].unique().tolist() == ["CAR"]


def test_months_in_other_languages_are_read(tmp_path):
    months = ["Jan", "Feb", "Mrz", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]
    days = pd.bdate_range("2015-02-17", periods=25)
    rows = [f"{d.day:02d}. {months[d.month - 1]} {d.year};20;21;19;20;500" for d in days]
    _, bars = check(write(tmp_path / "in" / "CAR.DE.csv", "Datum;Open;High;Low;Close;Volume", rows).parent)
    assert pd.Timestamp("2015-03-02") in set(bars["date"])
    assert len(bars) == len(days)


def test_each_ticker_of_a_table_has_its_own_order_of_day_and_month(tmp_path):
    rows = [f"LTS,{d:%d/%m/%Y},20,21,19,20,5" for d in DAYS] + [f"CAR,{d:%m/%d/%Y},20,21,19,20,5" for d in DAYS]
    _, bars = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume", rows))
    for _, one in bars.groupby("ticker"):
        assert one["date"].tolist() == DAYS.tolist()


def test_a_ticker_used_again_years_later_begins_a_new_history(tmp_path):
    later = pd.bdate_range("2016-02-16", periods=28)
    rows = [f"CAR,{d:%Y-%m-%d},20,21,19,20,5" for d in [*DAYS, *later]]
    found, bars = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume", rows))
    assert bars.groupby("ticker")["date"].min().to_dict() == {"CAR": DAYS[0], "CAR#2": later[0]}
    assert any("new history" in text for text in found["warnings"])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "latin-1"])
def test_encodings_are_found_out(tmp_path, encoding):
    rows = [f"CAR,{d:%Y-%m-%d},20,21,19,20,5,Zürich" for d in DAYS]
    _, bars = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume,Börse", rows, encoding))
    assert len(bars) == len(DAYS)


def test_tickers_stored_as_bytes_are_texts(tmp_path):
    n = len(DAYS)
    columns = {"ticker": pa.array([b"CAR"] * n, pa.binary()), "date": pa.array(DAYS.date)}
    columns |= {c: pa.array([v] * n) for c, v in dict(open=20.0, high=21.0, low=19.0, close=20.0, volume=5.0).items()}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    _, bars = check(tmp_path / "t.parquet")
    assert bars["ticker"].unique().tolist() == ["CAR"]


@pytest.mark.parametrize("ticker", ["NA", "NAN", "TRUE", "NULL", "1E5", "000001.SZ"])
def test_tickers_that_look_like_something_else_stay_tickers(tmp_path, ticker):
    days = DAYS if "." not in ticker else pd.bdate_range("2013-02-18", periods=28)
    rows = [f"{ticker},{d:%Y-%m-%d},20,21,19,20,5" for d in days]
    _, bars = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume", rows))
    assert bars["ticker"].unique().tolist() == [ticker]


def test_the_summary_has_the_names_programs_rely_on_and_nothing_usable_is_status_1(tmp_path):
    rows = [f"CAR,{d:%Y-%m-%d},20,21,19,-5,5" for d in DAYS]
    found, bars = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume", rows), code=1)
    names = ["rows_read", "rows_kept", "rows_refused", "tickers", "files_skipped", "refusals", "warnings", "dialects"]
    assert [name for name in names if name not in found] == []
    assert (found["rows_read"], found["rows_kept"], found["rows_refused"]) == (len(DAYS), 0, len(DAYS))
    assert bars.empty
    (refused,) = found["refusals"].values()
    assert (refused["count"], refused["ticker"], float(refused["example"])) == (len(DAYS), "CAR", -5.0)


def test_bars_of_long_ago_are_said_to_be_old(tmp_path):
    rows = [f"CAR,{d:%Y-%m-%d},20,21,19,20,5" for d in DAYS]
    found, _ = check(write(tmp_path / "t.csv", "ticker,date,open,high,low,close,volume", rows))
    assert any("sessions of XNYS ago" in text for text in found["warnings"])
