"""The vendor source against a local client: increments, retries, resume, partial bars, revised history. No network."""

from __future__ import annotations

import datetime as dt
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig, SimulationConfig, SourceConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import to_dates
from k4_pipeline.market.calendar import sessions
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.revisions import as_known, compare_history
from k4_pipeline.market.sources import read_bars
from k4_pipeline.market.sources.raw_store import RawStore
from k4_pipeline.market.sources.yfinance_source import (
    FetchSettings,
    UnknownTicker,
    VendorUnavailable,
    YahooClient,
    fetch,
)

FRIDAY_EVENING = dt.datetime(2015, 6, 12, 22, 0, tzinfo=dt.UTC)
TUESDAY_NOON = dt.datetime(2015, 6, 16, 16, 0, tzinfo=dt.UTC)


def _answer(last: str, factor: float = 1.0) -> pd.DataFrame:
    """What yfinance returns: local midnights in the index, its own column names; XNYS sessions of 2015 to `last`."""
    index = pd.DatetimeIndex(to_dates(sessions("XNYS", "2015-01-01", last)), name="Date").tz_localize(
        "America/New_York"
    )
    close = (50.0 + np.sin(np.arange(len(index)))) * factor
    return pd.DataFrame(
        {
            "Open": close * 0.999, "High": close * 1.01, "Low": close * 0.99, "Close": close, "Adj Close": close * 0.9,
            "Volume": np.arange(len(index)) * 10 + 1000, "Dividends": 0.0, "Stock Splits": 0.0,
        },
        index=index,
    )  # fmt: skip


class Recorded:
    """A client with recorded answers; counts requests and fails on demand."""

    def __init__(self, **answers: pd.DataFrame) -> None:
        self.answers = answers
        self.requests: list[tuple[str, str]] = []
        self.failures = 0

    def history(self, ticker: str, start: str) -> pd.DataFrame:
        self.requests.append((ticker, start))
        if self.failures > 0:
            self.failures -= 1
            raise VendorUnavailable("429 Too Many Requests")
        if ticker not in self.answers:
            raise UnknownTicker("no timezone found")
        answer = self.answers[ticker]
        return answer[answer.index >= pd.Timestamp(start, tz=answer.index.tz)]


class Clock:
    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


def _fetch(client: Recorded, raw_dir: Path, tickers=("AAPL",), now=FRIDAY_EVENING, sleep=None, **more):
    return fetch(tickers, raw_dir, start="2015-01-01", client=client, now=now, sleep=sleep or Clock(), **more)


def test_the_first_fetch_asks_for_everything_and_stores_what_was_sent(tmp_path):
    sent = _answer("2015-06-12")
    raw = _fetch(Recorded(AAPL=sent), tmp_path)
    assert raw.problems == []
    np.testing.assert_array_equal(raw.frame["close"], sent["Close"])
    versions = RawStore(tmp_path).versions("AAPL")
    assert versions["stamp"].iloc[0] == "2015-01-02 00:00:00-05:00"
    assert versions["date"].iloc[0] == pd.Timestamp("2015-01-02")
    np.testing.assert_array_equal(versions["adj_close"], sent["Adj Close"])
    assert versions["ingested_at"].unique().tolist() == [pd.Timestamp("2015-06-12 22:00")]
    bars = clean_bars(raw, CleaningConfig(), today=dt.date(2015, 6, 13)).bars
    assert len(bars) == len(sent)


def test_a_later_fetch_asks_only_for_what_is_missing(tmp_path):
    client = Recorded(AAPL=_answer("2015-06-12"))
    _fetch(client, tmp_path)
    client.answers["AAPL"] = _answer("2015-06-15")
    raw = _fetch(client, tmp_path, now=TUESDAY_NOON)
    assert client.requests == [("AAPL", "2015-01-01"), ("AAPL", "2015-06-02")]
    assert raw.frame["date"].max() == pd.Timestamp("2015-06-15")
    assert len(raw.frame) == len(_answer("2015-06-15"))
    assert len(RawStore(tmp_path).versions("AAPL")) == len(raw.frame)


def test_nothing_is_asked_when_the_last_closed_session_is_stored(tmp_path):
    client = Recorded(AAPL=_answer("2015-06-12"))
    for now in (
        FRIDAY_EVENING,
        dt.datetime(2015, 6, 14, 12, 0, tzinfo=dt.UTC),
        dt.datetime(2015, 6, 15, 19, 59, tzinfo=dt.UTC),
    ):
        assert len(_fetch(client, tmp_path, now=now).frame) == len(_answer("2015-06-12"))
    assert len(client.requests) == 1
    _fetch(client, tmp_path, now=dt.datetime(2015, 6, 15, 20, 0, tzinfo=dt.UTC))  # Monday's close
    assert len(client.requests) == 2


def test_an_earlier_start_fetches_the_older_bars_too(tmp_path):
    client = Recorded(AAPL=_answer("2015-06-12"))
    fetch(["AAPL"], tmp_path, start="2015-03-01", client=client, now=FRIDAY_EVENING, sleep=Clock())
    raw = _fetch(client, tmp_path)
    assert raw.frame["date"].min() == pd.Timestamp("2015-01-02")
    assert len(raw.frame) == len(_answer("2015-06-12"))
    later = fetch(["AAPL"], tmp_path, start="2015-06-01", client=client, now=FRIDAY_EVENING, sleep=Clock())
    assert later.frame["date"].min() == pd.Timestamp("2015-06-01")
    assert len(client.requests) == 2


def test_the_partial_bar_of_today_is_never_stored(tmp_path):
    client = Recorded(AAPL=_answer("2015-06-16"))
    raw = _fetch(client, tmp_path, now=TUESDAY_NOON)
    assert raw.frame["date"].max() == pd.Timestamp("2015-06-15")
    raw = _fetch(client, tmp_path, now=TUESDAY_NOON.replace(hour=20))
    assert raw.frame["date"].max() == pd.Timestamp("2015-06-16")


def test_a_readjusted_history_is_fetched_anew_and_both_versions_are_kept(tmp_path):
    client = Recorded(AAPL=_answer("2015-06-12"))
    _fetch(client, tmp_path)
    client.answers["AAPL"] = _answer("2015-06-15", factor=0.5)  # a 2:1 split
    raw = _fetch(client, tmp_path, now=TUESDAY_NOON)
    assert [start for _, start in client.requests] == ["2015-01-01", "2015-06-02", "2015-01-01"]
    np.testing.assert_allclose(raw.frame["close"], _answer("2015-06-15", 0.5)["Close"])
    versions = RawStore(tmp_path).versions("AAPL")
    n = len(_answer("2015-06-12"))
    assert len(versions) == 2 * n + 1
    report = compare_history(as_known(versions, FRIDAY_EVENING), as_known(versions))["changed"]
    assert set(report["column"]) == {"open", "high", "low", "close"}
    np.testing.assert_allclose(report["ratio"], 0.5)
    first = as_known(versions, FRIDAY_EVENING)
    np.testing.assert_array_equal(first["close"], _answer("2015-06-12")["Close"])


def test_a_corrected_volume_is_recorded_without_fetching_everything(tmp_path):
    client = Recorded(AAPL=_answer("2015-06-12"))
    _fetch(client, tmp_path)
    corrected = _answer("2015-06-15")
    corrected.iloc[-2, corrected.columns.get_loc("Volume")] += 7
    client.answers["AAPL"] = corrected
    raw = _fetch(client, tmp_path, now=TUESDAY_NOON)
    assert len(client.requests) == 2
    assert raw.frame["volume"].iloc[-2] == corrected["Volume"].iloc[-2]
    versions = RawStore(tmp_path).versions("AAPL")
    report = compare_history(as_known(versions, FRIDAY_EVENING), as_known(versions))["changed"]
    assert report[["column", "new"]].values.tolist() == [["volume", float(corrected["Volume"].iloc[-2])]]


class TestTrouble:
    def test_requests_are_spaced_and_retried_with_growing_waits(self, tmp_path):
        client, clock = Recorded(AAPL=_answer("2015-06-12"), MSFT=_answer("2015-06-12")), Clock()
        client.failures = 2
        raw = _fetch(client, tmp_path, ["AAPL", "MSFT"], sleep=clock)
        assert raw.problems == []
        assert len(client.requests) == 4
        assert clock.waits == [2.0, 0.5, 4.0, 0.5, 0.5]

    def test_a_run_that_was_cut_off_continues_where_it_stopped(self, tmp_path):
        client = Recorded(AAPL=_answer("2015-06-12"), MSFT=_answer("2015-06-12"), IBM=_answer("2015-06-12"))
        done = []

        def cut_off(i: int, n: int) -> None:
            done.append(i)
            if i == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _fetch(client, tmp_path, ["AAPL", "MSFT", "IBM"], progress=cut_off)
        raw = _fetch(client, tmp_path, ["AAPL", "MSFT", "IBM"])
        assert [t for t, _ in client.requests] == ["AAPL", "MSFT", "IBM"]
        assert raw.frame["ticker"].unique().tolist() == ["AAPL", "MSFT", "IBM"]

    def test_an_unknown_ticker_is_named_and_the_others_come(self, tmp_path):
        raw = _fetch(Recorded(AAPL=_answer("2015-06-12")), tmp_path, ["NOPE", "AAPL", "AAPL", " "])
        assert raw.problems == ["NOPE is unknown to the vendor: no timezone found"]
        assert raw.frame["ticker"].unique().tolist() == ["AAPL"]

    def test_a_vendor_that_is_down_is_not_asked_for_ever_and_stored_bars_still_serve(self, tmp_path):
        client = Recorded(AAPL=_answer("2015-06-12"))
        _fetch(client, tmp_path)
        client.failures = 10_000
        names = ["AAPL", *(f"T{i}" for i in range(50))]
        raw = _fetch(client, tmp_path, names, now=TUESDAY_NOON, settings=FetchSettings(attempts=2, give_up_after=3))
        assert len(client.requests) == 1 + 3 * 2
        assert "3 times in a row; 48 tickers were not asked for" in raw.problems[-1]
        assert len(raw.frame) == len(_answer("2015-06-12"))

    def test_without_any_bar_the_first_problem_is_told(self, tmp_path):
        with pytest.raises(BadInputError, match=r"no bars of 1 tickers .*NOPE is unknown"):
            _fetch(Recorded(), tmp_path, ["NOPE"])
        with pytest.raises(BadInputError, match="needs tickers"):
            _fetch(Recorded(), tmp_path, [])

    def test_a_ticker_with_a_slash_stays_inside_the_folder(self, tmp_path):
        path = RawStore(tmp_path).path("../../X/Y")
        assert path.parent == tmp_path


class TestYahooClient:
    """The real adapter on a stand-in for the package, with the exceptions and frames yfinance 1.x has."""

    @pytest.fixture
    def package(self, monkeypatch):
        package = types.ModuleType("yfinance")

        class YFException(Exception): ...

        class YFRateLimitError(YFException): ...

        class YFTzMissingError(YFException): ...

        class YFPricesMissingError(YFException): ...

        names = {c.__name__: c for c in (YFException, YFRateLimitError, YFTzMissingError, YFPricesMissingError)}
        package.exceptions = types.SimpleNamespace(**names)
        package.config = types.SimpleNamespace(debug=types.SimpleNamespace(hide_exceptions=True))
        package.raises = None
        package.calls = []

        class Ticker:
            def __init__(self, name: str) -> None:
                self.name = name

            def history(self, **options):
                package.calls.append((self.name, options))
                if package.raises is not None:
                    raise package.raises
                return _answer("2015-06-12")

        package.Ticker = Ticker
        monkeypatch.setitem(sys.modules, "yfinance", package)
        return package

    def test_bars_are_asked_for_unadjusted_and_unrepaired(self, package, tmp_path):
        raw = fetch(["AAPL"], tmp_path, start="2015-01-01", now=FRIDAY_EVENING)
        ((name, options),) = package.calls
        assert name == "AAPL"
        assert (options["auto_adjust"], options["back_adjust"], options["repair"]) == (False, False, False)
        assert options["start"] == "2015-01-01"
        assert package.config.debug.hide_exceptions is False
        np.testing.assert_array_equal(raw.frame["close"], _answer("2015-06-12")["Close"])

    def test_its_errors_are_told_apart(self, package):
        errors = package.exceptions
        client = YahooClient()
        package.raises = errors.YFTzMissingError("no timezone")
        with pytest.raises(UnknownTicker):
            client.history("X", "2015-01-01")
        package.raises = errors.YFPricesMissingError("none")
        assert len(client.history("X", "2015-01-01")) == 0
        for error in (
            errors.YFRateLimitError("429"),
            ConnectionError("reset"),
            TimeoutError("slow"),
            ValueError("no JSON"),
        ):
            package.raises = error
            with pytest.raises(VendorUnavailable, match=type(error).__name__):
                client.history("X", "2015-01-01")

    def test_a_missing_package_names_the_remedy(self, monkeypatch, tmp_path):
        monkeypatch.setitem(sys.modules, "yfinance", None)
        with pytest.raises(BadInputError, match=r"pip install 'k4-pipeline\[yfinance\]'"):
            fetch(["AAPL"], tmp_path)

    def test_the_dispatch_reaches_it(self, package, tmp_path):
        source = SourceConfig(source="yfinance", tickers=("AAPL",), start="2015-01-01")
        assert len(read_bars(source, SimulationConfig(), raw_dir=tmp_path).frame) == len(_answer("2015-06-12"))
        with pytest.raises(BadInputError, match="needs raw_dir"):
            read_bars(source, SimulationConfig())
