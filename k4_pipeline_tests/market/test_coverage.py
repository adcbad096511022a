"""Snapshots against bars: what is missing, by exchange."""

from __future__ import annotations

from k4_pipeline.market.coverage import universe_coverage

LONDON = [f"{name}.L" for name in ("VOD", "BP", "HSBA", "GSK", "ULVR", "BARC", "RIO")]
KUALA_LUMPUR = [f"{number}.KL" for number in range(1000, 1009)]


def test_full_coverage_says_so():
    report = universe_coverage(["AAPL", "AAPL", "MSFT"], ["MSFT", "AAPL", "IBM"])
    assert (report.n_snapshot_tickers, report.n_covered, report.n_missing) == (2, 2, 0)
    assert "cover all 2 tickers" in report.message()


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
