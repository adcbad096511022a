"""Partitioned folders on this machine and in an S3-like store, and bulk archives, through `k4 data check`."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pandas as pd
import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.market.files.partitions import partitions_of

boto3 = pytest.importorskip("boto3")
server = pytest.importorskip("moto.server")

DAYS = pd.bdate_range("2024-01-02", periods=24)
DAYS = DAYS[~DAYS.isin(pd.to_datetime(["2024-01-15"]))]
TICKERS = {"CAR": 20.0, "LTS": 30.0, "A B": 40.0}


def bars_of(tickers: dict[str, float] = TICKERS) -> pd.DataFrame:
    parts = []
    for i, (ticker, price) in enumerate(tickers.items()):
        close = price + 0.25 * (pd.Series(range(len(DAYS))) % 5)
        parts.append(
            pd.DataFrame(
                dict(
                    ticker=ticker, date=DAYS, open=close, high=close + 1, low=close - 1, close=close, volume=5000.0 + i
                )
            )
        )
    return pd.concat(parts, ignore_index=True)


def check(path: str | Path, tmp: Path, *more: str, code: int = 0) -> tuple[dict, pd.DataFrame]:
    out = tmp / "out.parquet"
    unset = {name: None for name in os.environ if name.startswith("K4_")}
    arguments = ["data", "check", "--path", str(path), "--json", "--out", str(out), *more]
    done = CliRunner().invoke(app, arguments, env={**unset, "K4_HOME": str(tmp / "home")})
    assert done.exit_code == code, done.output[-2000:]
    return json.loads(done.stdout), pd.read_parquet(out) if out.exists() else pd.DataFrame()


LAYOUTS = {
    "date=": (["date"], ".parquet"),
    "ticker=": (["ticker"], ".parquet"),
    "ticker=, date=": (["ticker", "date"], ".parquet"),
    "dt=, symbol=": (["dt", "symbol"], ".parquet"),
    "year=, month=, day=": (["year", "month", "day"], ".parquet"),
    "year=, beside dates": (["year"], ".parquet"),
    "date= of CSV": (["date"], ".csv"),
    "ticker= of Feather": (["ticker"], ".feather"),
}


def write_partitions(root: Path, table: pd.DataFrame, keys: list[str], suffix: str) -> None:
    from urllib.parse import quote

    names = {"dt": "date", "symbol": "ticker"}
    values = {
        "year": table["date"].dt.year.astype(str),
        "month": table["date"].dt.month.astype(str),
        "day": table["date"].dt.day.astype(str),
    }
    columns = [values[k] if k in values else table[names.get(k, k)] for k in keys]
    texts = [c.dt.strftime("%Y-%m-%d") if c.dtype.kind == "M" else c.astype(str) for c in columns]
    gone = {"date"} if {"date", "dt", "day"} & set(keys) else set()
    gone |= {"ticker"} if {"ticker", "symbol"} & set(keys) else set()
    for values_here, part in table.groupby([t.to_numpy() for t in texts]):
        folder = root.joinpath(*(f"{k}={quote(v)}" for k, v in zip(keys, values_here)))
        folder.mkdir(parents=True, exist_ok=True)
        part, file = part.drop(columns=list(gone)), folder / f"part-0{suffix}"
        if suffix == ".csv":
            part.to_csv(file, index=False)
        else:
            write = part.to_parquet if suffix == ".parquet" else part.reset_index(drop=True).to_feather
            write(file)


def assert_same(bars: pd.DataFrame, wanted: pd.DataFrame) -> None:
    columns = ["ticker", "date", "open", "high", "low", "close", "volume"]
    ordered = [f[columns].sort_values(["ticker", "date"], ignore_index=True) for f in (bars, wanted)]
    pd.testing.assert_frame_equal(*ordered, check_dtype=False)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folders_name_columns(tmp_path, layout):
    keys, suffix = LAYOUTS[layout]
    write_partitions(tmp_path / "in", bars_of(), keys, suffix)
    found, bars = check(tmp_path / "in", tmp_path)
    assert_same(bars, bars_of())
    assert found["files_skipped"] == []


def test_values_of_folders_are_decoded_and_parts_of_a_date_joined():
    path = Path("asset=equity/year=2024/month=1/day=2/symbol=BRK%2FB/part-0.parquet")
    assert partitions_of(path) == {"date": "2024-01-02", "asset": "equity", "symbol": "BRK/B"}
    assert partitions_of(Path("ticker=__HIVE_DEFAULT_PARTITION__/x.csv")) == {"ticker": ""}


def test_days_with_one_ticker_each_keep_its_name(tmp_path):
    one = bars_of({"CAR": 20.0})
    write_partitions(tmp_path / "in", one, ["date"], ".parquet")
    assert_same(check(tmp_path / "in", tmp_path)[1], one)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an S3 server of this machine with a bucket `bars`."""
    running = server.ThreadedMotoServer(port=0, verbose=False)
    running.start()
    _, port = running.get_host_and_port()
    address = f"http://127.0.0.1:{port}"
    given = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    patch = pytest.MonkeyPatch()
    for name, value in {**given, "AWS_ENDPOINT_URL": address}.items():
        patch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bars")
    yield address
    patch.undo()
    running.stop()


def upload(folder: Path, prefix: str) -> str:
    client = boto3.client("s3")
    for file in folder.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), "bars", f"{prefix}/{file.relative_to(folder)}")
    return f"s3://bars/{prefix}"


@pytest.mark.parametrize("layout", ["ticker=, date=", "date= of CSV"])
def test_partitions_in_a_store(tmp_path, store, layout):
    keys, suffix = LAYOUTS[layout]
    table = bars_of({"A B": 20.0})
    write_partitions(tmp_path / "in", table, keys, suffix)
    path = upload(tmp_path / "in", layout.replace("=", "").replace(", ", "-"))
    found, bars = check(path, tmp_path)
    assert_same(bars, table)
    assert all(name.startswith("s3://bars/") for name in found["by_file"])


def test_one_table_of_a_store_and_what_is_missing_there(tmp_path, store):
    (tmp_path / "in").mkdir()
    bars_of().to_parquet(tmp_path / "in" / "all.parquet")
    bars_of().to_csv(tmp_path / "in" / "all.csv.gz", index=False)
    path = upload(tmp_path / "in", "tables")
    for name in ("all.parquet", "all.csv.gz"):
        assert_same(check(f"{path}/{name}", tmp_path)[1], bars_of())
    (tmp_path / "out.parquet").unlink()
    for missing in (f"{path}/none.parquet", "s3://bars/nothing", "s3://nowhere/x.csv"):
        found, _ = check(missing, tmp_path, code=1)
        assert missing.split("/")[2] in found["error"]


def test_a_store_that_does_not_answer_is_named(tmp_path, monkeypatch):
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    found, _ = check("s3://elsewhere/bars", tmp_path, code=1)
    assert "s3://elsewhere/bars cannot be read" in found["error"]


def test_one_table_of_a_database_in_whatever_schema(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "bars.duckdb"
    with duckdb.connect(str(path)) as base:
        base.register("sent", bars_of())
        base.execute("create schema market")
        base.execute("create table market.daily as select * from sent")
        base.execute("create table notes as select ticker, date from sent")
    assert_same(check(path, tmp_path)[1], bars_of())
    with duckdb.connect(str(path)) as base:
        base.execute("create table copied as select * from market.daily")
    (tmp_path / "out.parquet").unlink()
    found, _ = check(path, tmp_path, code=1)
    assert "2 tables of bars" in found["error"]


def test_a_bulk_archive_of_stooq(tmp_path):
    header = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>"
    table = bars_of({"CAR": 20.0, "BRK-B": 30.0})
    with zipfile.ZipFile(tmp_path / "d_us_txt.zip", "w") as archive:
        for ticker, part in table.groupby("ticker"):
            rows = [
                f"{ticker}.US,D,{r.date:%Y%m%d},000000,{r.open},{r.high},{r.low},{r.close},{r.volume},0"
                for r in part.itertuples()
            ]
            place = f"data/daily/us/nyse stocks/1/{ticker.lower()}.us.txt"
            archive.writestr(place, "\r\n".join([header, *rows]) + "\r\n")
            hours = [rows[0].replace(",D,", ",60,").replace("000000", f"{h}0000") for h in (15, 16, 17)]
            archive.writestr(place.replace("daily", "hourly"), "\r\n".join([header, *hours]) + "\r\n")
        for name in ("aaa", "bbb"):
            archive.writestr(f"data/daily/us/nyse etfs/{name}.us.txt", "")
    for more in (["--source", "stooq"], ["--set", "source.max_file_mb=5"]):
        found, bars = check(tmp_path / "d_us_txt.zip", tmp_path, *more)
        assert_same(bars, table)
        assert any("empty" in text for text in found["files_skipped"])
    found, bars = check(tmp_path / "d_us_txt.zip", tmp_path, "--source", "stooq", "--universe", "BRK-B")
    assert_same(bars, table[table["ticker"] == "BRK-B"])
