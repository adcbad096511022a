"""Snapshot files made elsewhere: spellings, classes, computed boundaries, and every refusal by row."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.patterns.external import read_snapshot_file
from k4_pipeline.patterns.external_file import parse_outcomes, read_snapshot_tickers
from k4_pipeline.patterns.external_labels import label_external
from k4_pipeline.patterns.snapshots import make_snapshots
from k4_pipeline.schemas.base import validate
from k4_pipeline.schemas.labeled_snapshots import labeled_snapshots_schema
from k4_pipeline.schemas.snapshots import snapshots_schema
from k4_pipeline_tests.patterns.snapshot_files import LABELS, original_form, problems, read
from k4_pipeline_tests.patterns.worlds import SMALL, random_bars


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_original_format_gives_back_the_scanned_table_and_all_its_classes(tmp_path, bars, labeled, suffix):
    found = read(tmp_path, original_form(labeled), bars, suffix)
    known = labeled[labeled["outcome_class"].notna()].reset_index(drop=True)
    assert_frame_equal(found.snapshots, known[list(found.snapshots.columns)], check_exact=True)
    assert found.outcomes.tolist() == known["outcome_class"].tolist()
    assert len(found.problems) == 0
    assert found.counts["boundaries_differ_from_bars"] == 0
    assert found.counts["activation_reconstructed"] == len(known)
    result = label_external(bars, found, LABELS)
    assert_frame_equal(result.labeled, known, check_exact=True)
    assert result.agreement == 1.0
    assert validate(snapshots_schema(external=True), found.snapshots) == []
    assert result.counts["given"] == result.counts["agree"] == len(known)


def test_three_columns_are_enough_and_boundaries_come_from_the_qualifying_bars_alone(tmp_path, bars, labeled):
    frame = original_form(labeled)[["ticker", "start_date", "snapshot_date"]]
    found = read(tmp_path, frame, bars)
    known = labeled[labeled["outcome_class"].notna()].reset_index(drop=True)
    assert found.outcomes is None
    assert_frame_equal(found.snapshots, known[list(found.snapshots.columns)], check_exact=True)
    assert found.counts["boundaries_computed"] == len(known)
    result = label_external(bars, found, LABELS)
    assert result.counts["computed"] == len(known)
    assert_frame_equal(result.labeled, known, check_exact=True)


def test_boundaries_computed_from_bars_never_see_a_bar_after_activation(tmp_path, bars, labeled):
    frame = original_form(labeled)[["ticker", "start_date", "snapshot_date"]].iloc[[5]]
    found = read(tmp_path, frame, bars).snapshots
    ticker, activation = found["ticker"].iloc[0], found["activation_date"].iloc[0]
    corrupted = bars.to_frame()
    later = (corrupted["ticker"] == ticker) & (corrupted["date"] > activation)
    corrupted.loc[later, ["open", "high", "low", "close"]] *= 1e6
    again = read(tmp_path, frame, Bars.from_frame(corrupted)).snapshots
    assert_frame_equal(found, again, check_exact=True)


def test_given_boundaries_are_kept_and_a_difference_from_the_bars_is_counted(tmp_path, bars, labeled):
    frame = original_form(labeled).iloc[:4].copy()
    frame.loc[1, "upper_boundary"] *= 1.2
    frame.loc[2, ["lower_boundary"]] = np.nan
    found = read(tmp_path, frame, bars)
    assert found.snapshots["upper"].iloc[1] == frame["upper_boundary"].iloc[1]
    assert found.snapshots["lower"].iloc[2] == labeled[labeled["outcome_class"].notna()]["lower"].iloc[2]
    assert found.counts["boundaries_differ_from_bars"] == 1
    assert found.counts["boundaries_computed"] == 1


def test_columns_in_any_usual_spelling_and_order_are_found_and_others_ignored(tmp_path, bars, labeled):
    frame = original_form(labeled).iloc[:3]
    other = frame.rename(columns={"ticker": " Symbol", "start_date": "Start Date", "snapshot_date": "Snapshot-Date"})
    other = other[other.columns[::-1]].assign(end_date="2099-01-01", note="x")
    assert_frame_equal(read(tmp_path, other, bars).snapshots, read(tmp_path, frame, bars).snapshots)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_byte_order_mark_are_read(tmp_path, bars, labeled, separator):
    frame = original_form(labeled).iloc[:3]
    path = tmp_path / "s.csv"
    frame.to_csv(path, index=False, sep=separator, encoding="utf-8-sig")
    assert_frame_equal(read_snapshot_file(path, bars, SMALL).snapshots, read(tmp_path, frame, bars).snapshots)


def test_a_ticker_called_na_stays_a_ticker(tmp_path):
    frame = random_bars(30, n_tickers=1, n_bars=60, ragged=False).to_frame()
    bars = Bars.from_frame(frame.assign(ticker=pd.Series(["NA"] * len(frame), dtype="str")))
    days = frame["date"].dt.strftime("%Y-%m-%d")
    found = read(
        tmp_path, pd.DataFrame({"ticker": ["NA"], "start_date": [days[30]], "snapshot_date": [days[40]]}), bars
    )
    assert found.snapshots["ticker"].tolist() == ["NA"]
    assert read_snapshot_tickers(tmp_path / "snapshots.csv") == ["NA"]


def test_each_unusable_row_is_named_and_the_others_are_kept(tmp_path, bars, labeled):
    frame = original_form(labeled).iloc[:24].reset_index(drop=True).astype(object)
    frame["activation_date"] = ""
    good = read(tmp_path, frame, bars)
    assert len(good.problems) == 0
    first_day = str(bars.to_frame().groupby("ticker")["date"].min()[frame["ticker"][12]].date())
    changes = {
        0: ("ticker", "", "ticker is empty"),
        1: ("ticker", "NOPE", "ticker NOPE has no bars"),
        2: ("start_date", "", "start_date is missing"),
        3: ("snapshot_date", "soon", "snapshot_date: date 'soon' is not understood"),
        4: ("snapshot_date", "2010-02-30", "snapshot_date: date '2010-02-30' does not exist"),
        5: ("snapshot_date", "2010-01-09", "snapshot_date 2010-01-09 is no bar of"),
        6: ("start_date", "2019-01-04", "start_date 2019-01-04 is no bar of"),
        7: ("snapshot_date", "02/03/11", "has a year of two digits"),
        8: ("outcome_class", "K6", "outcome_class 'K6' is unknown"),
        9: ("outcome_class", "K4_FAILED", "outcome_class 'K4_FAILED' is unknown"),
        10: ("upper_boundary", "n.m.", "upper_boundary 'n.m.' is not a number"),
        11: ("lower_boundary", "-3", "lower boundary is not positive"),
        12: ("snapshot_date", first_day, "start_date lies after snapshot_date"),
        13: ("snapshot_date", frame["start_date"][13], "the snapshot lies before the activation bar"),
        14: ("upper_boundary", frame["lower_boundary"][14], "lower boundary is not below the upper one"),
        15: ("power_boundary", "inf", "power boundary is not a finite number"),
        16: ("activation_date", frame["start_date"][0], "activation_date"),
    }
    for row, (column, value, _) in changes.items():
        frame.loc[row, column] = value
    frame = pd.concat([frame, frame.iloc[[20, 21]]], ignore_index=True)
    frame.loc[25, "outcome_class"] = "K4" if frame["outcome_class"][21] != "K4_EXCEPTIONAL" else "K0"
    found = read(tmp_path, frame, bars)
    named = problems(found)
    assert sorted(named) == [row + 1 for row in changes] + [22, 25, 26]
    for row, (_, _, text) in changes.items():
        assert text in named[row + 1]
    assert named[25] == "repeats row 21"
    assert "contradicts row 22" in named[26]
    assert found.counts["rows"] == 26
    assert found.counts["refused"] == len(named) == 26 - found.counts["used"]
    kept = good.snapshots.merge(found.snapshots[["pattern_id", "snapshot_date"]], validate="one_to_one")
    assert_frame_equal(found.snapshots, kept)


def test_a_snapshot_with_too_little_history_is_named(tmp_path):
    bars = random_bars(30, n_tickers=1, n_bars=60, ragged=False)
    days = bars.to_frame()["date"].dt.strftime("%Y-%m-%d")
    frame = pd.DataFrame({"ticker": "T00", "start_date": [days[5], days[5]], "snapshot_date": [days[18], days[19]]})
    assert problems(read(tmp_path, frame, bars)) == {1: "the snapshot is bar 19 of T00; a sequence needs 20"}


def test_a_given_activation_date_sets_the_window_of_the_boundaries(tmp_path, bars, labeled):
    row = original_form(labeled)[["ticker", "start_date", "snapshot_date"]]
    far = labeled[labeled["outcome_class"].notna()].reset_index(drop=True)["bars_active"] >= 3
    row = row[far].iloc[[0]]
    rows = bars.ticker_slice(row["ticker"].iloc[0])
    mine = bars.to_frame().iloc[rows].reset_index(drop=True)
    start = int(np.flatnonzero(mine["date"] == row["start_date"].iloc[0])[0])
    row["activation_date"] = mine["date"][start + 7].strftime("%Y-%m-%d")
    found = read(tmp_path, row, bars).snapshots
    assert found["upper"].iloc[0] == mine["high"][start : start + 8].max()
    assert found["lower"].iloc[0] == mine["low"][start : start + 8].min()
    assert found["qualifying_bars"].iloc[0] == 8
    assert found["power"].iloc[0] == found["upper"].iloc[0] * SMALL.power_factor


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path, bars, labeled):
    frame = original_form(labeled).iloc[:5]
    frame.to_parquet(tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("ticker,start_date,snapshot_date\n")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00ticker")
    (tmp_path / "ragged.csv").write_text("ticker,start_date,snapshot_date\nA,2010-01-04,2010-02-01,7\n")
    (tmp_path / "columns.csv").write_text("ticker,start_date\nA,2010-01-04\n")
    (tmp_path / "double.csv").write_text("ticker,symbol,start_date,snapshot_date\nA,A,2010-01-04,2010-02-01\n")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    for name, text in {
        "cut.parquet": "cannot be read",
        "empty.csv": "cannot be read",
        "header.csv": "holds no rows",
        "binary.csv": "cannot be read",
        "ragged.csv": "cannot be read",
        "columns.csv": "no column snapshot_date",
        "double.csv": "more than one column for ticker",
        "table.xlsx": "neither .csv nor .parquet",
        "nothing.csv": "does not exist",
    }.items():
        with pytest.raises(BadInputError, match=text) as caught:
            read_snapshot_file(tmp_path / name, bars, SMALL)
        assert name in str(caught.value)


def test_a_file_without_a_usable_row_is_refused_with_the_first_reasons(tmp_path, bars):
    frame = pd.DataFrame({"ticker": ["X"], "start_date": ["2010-01-04"], "snapshot_date": ["2010-02-01"]})
    with pytest.raises(BadInputError, match=r"none of its 1 rows can be used. row 1 \(X\): ticker X has no bars"):
        read(tmp_path, frame, bars)


def test_every_way_to_write_a_class_is_understood():
    values = [
        "K4_EXCEPTIONAL",
        "k4",
        "K4",
        4,
        4.0,
        "4",
        "4.0",
        " K5_FAILED ",
        np.int64(0),
        None,
        float("nan"),
        "",
        "NaN",
    ]
    outcomes, refused = parse_outcomes(pd.Series(values, dtype=object))
    assert outcomes.dtype == "Int8"
    assert outcomes.iloc[:9].tolist() == [4, 4, 4, 4, 4, 4, 4, 5, 0]
    assert outcomes.iloc[9:].isna().all()
    assert (refused == "").all()
    for value in ("K9", "K", -1, 6, 4.5, "explosive", True):
        outcomes, refused = parse_outcomes(pd.Series([value], dtype=object))
        assert "is unknown" in refused[0]
        assert outcomes.isna().all()


def test_classes_of_the_file_win_where_given_and_are_compared_with_the_bars(tmp_path, bars, labeled):
    frame = original_form(labeled).astype(object)
    computed = [int(name[1]) for name in frame["outcome_class"]]
    frame.loc[0, "outcome_class"] = f"K{(computed[0] + 1) % 6}"
    frame.loc[1, "outcome_class"] = ""
    result = label_external(bars, read(tmp_path, frame, bars), LABELS)
    n = len(frame)
    assert result.counts == {
        "rows": n,
        "given": n - 1,
        "computed": 1,
        "given_but_not_known": 0,
        "agree": n - 2,
        "disagree": 1,
    }
    assert result.labeled["outcome_class"].tolist() == [(computed[0] + 1) % 6, *computed[1:]]
    assert result.confusion[(computed[0] + 1) % 6, computed[0]] == 1
    assert result.confusion.sum() == n - 1
    assert validate(labeled_snapshots_schema(SMALL, LABELS, external=True), result.labeled) == []


def test_a_class_whose_window_the_bars_do_not_reach_is_not_known(tmp_path, bars, labeled):
    frame = original_form(labeled)
    full = label_external(bars, read(tmp_path, frame, bars), LABELS).labeled
    day = int(np.quantile(to_days(full["label_end_date"].to_numpy()), 0.5))
    cut = bars.until(day)
    found = read(tmp_path, frame, cut)
    result = label_external(cut, found, LABELS, data_end=day)
    known = full["label_end_date"] <= pd.Timestamp(np.datetime64(day, "D"))
    assert result.labeled["outcome_class"].notna().sum() == known.sum()
    assert result.counts["given_but_not_known"] == len(found.snapshots) - known.sum() > 0
    assert result.labeled["label_end_date"].isna().equals(result.labeled["outcome_class"].isna())


def test_a_hundred_thousand_rows_are_read_in_seconds(tmp_path, bars, labeled):
    frame = original_form(labeled)
    many = pd.concat([frame] * (1 + 100_000 // len(frame)), ignore_index=True)
    started = dt.datetime.now()
    found = read(tmp_path, many, bars)
    assert found.counts["used"] == len(frame)
    assert (dt.datetime.now() - started).total_seconds() < 30


def test_numbers_dates_and_encoding_are_read_as_in_files_of_bars(tmp_path, bars, labeled):
    frame = original_form(labeled).head(40)
    plain = read(tmp_path, frame, bars).snapshots
    months = ["Jan", "Feb", "Mrz", "Apr", "Mai", "Jun", "Jul", "Aug", "Sep", "Okt", "Nov", "Dez"]
    german = frame.copy()
    for column in ("start_date", "snapshot_date"):
        days = pd.to_datetime(frame[column])
        german[column] = [f"{d.day}. {months[d.month - 1]} {d.year}" for d in days]
    for column in ("upper_boundary", "lower_boundary", "power_boundary"):
        german[column] = [repr(float(v)).replace(".", ",") for v in frame[column]]
    path = tmp_path / "german.csv"
    german.assign(Börse="Zürich").to_csv(path, sep=";", index=False, encoding="latin-1")
    assert_frame_equal(read_snapshot_file(path, bars, SMALL).snapshots, plain)


def test_a_boundary_of_two_readings_is_refused(tmp_path, bars, labeled):
    frame = original_form(labeled).head(3)
    whole = frame.assign(upper_boundary="1.200", lower_boundary="1.100", power_boundary="1.300")
    whole.to_csv(tmp_path / "whole.csv", sep=";", index=False)
    with pytest.raises(BadInputError, match=r"upper_boundary '1.200' has two readings"):
        read_snapshot_file(tmp_path / "whole.csv", bars, SMALL)


def test_a_file_may_name_a_ticker_that_was_used_again_either_way(tmp_path):
    one, other = random_bars(31, n_tickers=1), random_bars(32, n_tickers=1)
    name = str(one.tickers[0])
    later = other.to_frame().assign(ticker=f"{name}#2", date=lambda f: f["date"] + pd.Timedelta(days=5000))
    bars = Bars.from_frame(pd.concat([one.to_frame(), later], ignore_index=True))
    scanned = make_snapshots(bars, SMALL)
    assert scanned["ticker"].nunique() == 2
    frame = scanned[["ticker", "start_date", "snapshot_date"]]
    assert_frame_equal(read(tmp_path, frame, bars).snapshots, scanned)
    assert_frame_equal(read(tmp_path, frame.assign(ticker=name), bars).snapshots, scanned)
