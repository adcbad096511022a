"""Snapshots against bars: what is missing, by exchange, and the three ways out."""

from __future__ import annotations

import pandas as pd
import pytest

from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.market.coverage import resolve_missing, universe_coverage

LONDON = [f"{name}.L" for name in ("VOD", "BP", "HSBA", "GSK", "ULVR", "BARC", "RIO")]
KUALA_LUMPUR = [f"{number}.KL" for number in range(1000, 1009)]


def _snapshots(tickers: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"ticker": pd.Series(tickers, dtype="str"), "upper": 1.0})


def test_full_coverage_says_so():
    report = universe_coverage(["AAPL", "AAPL", "MSFT"], ["MSFT", "AAPL", "IBM"])
    assert (report.n_snapshot_tickers, report.n_covered, report.n_missing) == (2, 2, 0)
    assert "cover all 2 tickers" in report.message()
    snapshots = _snapshots(["AAPL", "MSFT"])
    assert resolve_missing(snapshots, report, "fail") is snapshots


def test_london_snapshots_on_kuala_lumpur_bars_are_recognised():
    report = universe_coverage([*LONDON, "AAPL"], [*KUALA_LUMPUR, "AAPL"])
    assert report.missing == {"L": sorted(LONDON)}
    assert report.snapshot_suffixes == {"L": 7, "": 1}
    assert report.bar_suffixes == {"KL": 9, "": 1}
    message = report.message()
    for part in (
        "missing for 7 of 8 tickers", ".L (London): 7 missing (BARC.L, BP.L, GSK.L, HSBA.L, RIO.L, ...)",
        "different exchanges: 7 snapshot tickers are .L (London) and no bar is",
        "9 tickers of the bars are .KL (Kuala Lumpur) and no snapshot is",
        "--missing-tickers fetch", "another bar or snapshot file", "--missing-tickers filter",
    ):  # fmt: skip
        assert part in message


def test_missing_tickers_of_several_exchanges_are_grouped_the_largest_first():
    report = universe_coverage([*LONDON, "BMW.DE", "BRK.B"], ["AAPL", "SAP.DE", "BARC.L"])
    assert set(report.missing) == {"L", "DE", ""}
    assert report.missing[""] == ["BRK.B"]
    message = report.message()
    assert message.index(".L (London): 6") < message.index(".DE (Xetra): 1")
    assert "no suffix: 1 missing (BRK.B)" in message
    assert report.mismatch == ""
    assert report.missing_tickers == sorted([*(set(LONDON) - {"BARC.L"}), "BMW.DE", "BRK.B"])


def test_fail_raises_with_the_counts():
    report = universe_coverage(["VOD.L", "AAPL"], ["AAPL"])
    with pytest.raises(BadInputError, match="missing for 1 of 2"):
        resolve_missing(_snapshots(["VOD.L", "AAPL"]), report, "fail")


def test_filter_leaves_the_others_in_order():
    snapshots = _snapshots(["VOD.L", "MSFT", "AAPL", "VOD.L", "MSFT"])
    kept = resolve_missing(snapshots, universe_coverage(snapshots["ticker"], ["AAPL", "MSFT"]), "filter")
    assert kept["ticker"].tolist() == ["MSFT", "AAPL", "MSFT"]
    assert kept.index.tolist() == [0, 1, 2]


def test_filter_that_leaves_nothing_fails():
    with pytest.raises(BadInputError, match="no snapshot is left"):
        resolve_missing(_snapshots(LONDON), universe_coverage(LONDON, KUALA_LUMPUR), "filter")


def test_fetch_asks_for_the_missing_tickers_and_fails_when_some_do_not_come():
    snapshots = _snapshots(["VOD.L", "AAPL", "BP.L"])
    report = universe_coverage(snapshots["ticker"], ["AAPL"])
    asked: list[str] = []

    def fetch(tickers: list[str]) -> list[str]:
        asked.extend(tickers)
        return tickers

    assert resolve_missing(snapshots, report, "fetch", fetch) is snapshots
    assert asked == ["BP.L", "VOD.L"]
    with pytest.raises(BadInputError, match=r"1 of 2 missing tickers could not be fetched \(VOD.L\)"):
        resolve_missing(snapshots, report, "fetch", lambda tickers: ["BP.L"])
    with pytest.raises(BadInputError, match="pip install yfinance"):
        resolve_missing(snapshots, report, "fetch")


def test_an_unknown_policy_is_refused():
    with pytest.raises(ConfigError, match="guess"):
        resolve_missing(_snapshots(["A"]), universe_coverage(["A"], []), "guess")  # type: ignore[arg-type]
