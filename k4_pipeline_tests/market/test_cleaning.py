"""Every kind of bad row is refused with its reason, everything else is kept as sent, and no row is lost."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from k4_pipeline.config import CleaningConfig
from k4_pipeline.errors import BadInputError
from k4_pipeline.market.cleaning import clean_bars
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.market.sources.table import read_table
from k4_pipeline.schemas import validate
from k4_pipeline.schemas.daily_bars import DAILY_BARS
from k4_pipeline.schemas.rejects import REJECTS
from k4_pipeline_tests.market.crafted import raw, raw_frame

TODAY = dt.date(2020, 1, 1)
CONFIG = CleaningConfig()


def _clean(frame: pd.DataFrame, config: CleaningConfig = CONFIG, **more):
    result = clean_bars(raw(frame), config, **{"today": TODAY, **more})
    assert validate(REJECTS, result.rejects) == []
    assert validate(DAILY_BARS, result.bars.to_frame()) == []
    assert len(result.bars) + len(result.rejects) == len(frame)
    return result


def _spoil(row: int, **cells) -> pd.DataFrame:
    frame = raw_frame()
    for column, value in cells.items():
        if isinstance(value, str) or value is None:
            frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
    return frame


def test_sane_bars_are_kept_to_the_last_bit():
    frame = raw_frame()
    result = _clean(frame)
    assert len(result.rejects) == 0
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(getattr(result.bars, column), frame[column].to_numpy())
    assert result.counts["read"] == result.counts["kept"] == 30


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"ticker": ""}, "ticker is empty"),
        ({"ticker": "   "}, "ticker is empty"),
        ({"ticker": None}, "ticker is empty"),
        ({"ticker": "../etc"}, "ticker contains a path separator or control character"),
        ({"ticker": "BRK/B"}, "ticker contains a path separator or control character"),
        ({"ticker": "A\\B"}, "ticker contains a path separator or control character"),
        ({"ticker": "A\x00B"}, "ticker contains a path separator or control character"),
        ({"ticker": ".."}, "ticker contains a path separator or control character"),
        ({"date": None}, "date is missing or cannot be read"),
        ({"date": "yesterday"}, "date is missing or cannot be read"),
        ({"date": "2015-02-30"}, "date is missing or cannot be read"),
        ({"date": pd.Timestamp("1800-01-01")}, "date lies before 1900"),
        ({"date": pd.Timestamp("2099-01-02")}, "date lies in the future"),
        ({"open": np.nan}, "open is missing or no number"),
        ({"high": "n/a"}, "high is missing or no number"),
        ({"volume": np.nan}, "volume is missing or no number"),
        ({"volume": "1,234,567"}, "volume is missing or no number"),
        ({"high": np.inf}, "high is infinite"),
        ({"close": -np.inf}, "close is infinite"),
        ({"volume": np.inf}, "volume is infinite"),
        ({"open": 0.0}, "open is zero or negative"),
        ({"low": -1.0}, "low is zero or negative"),
        ({"volume": -5.0}, "volume is negative"),
        ({"high": 9.0, "low": 11.0}, "high is below low"),
        ({"open": 20.0}, "open lies outside the range of the bar"),
        ({"close": 1.0}, "close lies outside the range of the bar"),
    ],
)
def test_a_bad_row_is_refused_with_its_reason_and_the_others_stay(cells, reason):
    result = _clean(_spoil(7, **cells))
    assert result.rejects["reason"].tolist() == [reason]
    assert result.counts[f"rejected: {reason}"] == 1
    assert len(result.bars) == 29
    assert result.rejects["source"].tolist() == ["crafted"]


def test_zero_volume_is_sane():
    frame = raw_frame()
    frame["volume"] = 0
    assert len(_clean(frame).rejects) == 0


def test_open_and_close_may_leave_the_range_by_the_tolerance_alone():
    frame = raw_frame()
    frame.loc[3, "close"] = frame.loc[3, "high"] * 1.004
    frame.loc[4, "open"] = frame.loc[4, "low"] * 0.996
    assert len(_clean(frame).rejects) == 0
    assert len(_clean(frame.assign(close=frame["close"].where(frame.index != 3, frame["high"] * 1.006))).rejects) == 1


def test_equal_repetitions_keep_the_first():
    frame = raw_frame()
    result = _clean(pd.concat([frame, frame.iloc[[5, 5, 9]]], ignore_index=True))
    assert set(result.rejects["reason"]) == {"repeats another row of the same ticker and date"}
    assert len(result.rejects) == 3
    assert len(result.bars) == 30


def test_rows_that_contradict_each_other_are_all_refused():
    frame = raw_frame()
    other = frame.iloc[[5, 5]].assign(close=[frame.loc[5, "close"], frame.loc[5, "close"] * 1.001])
    result = _clean(pd.concat([frame, other], ignore_index=True))
    assert result.rejects["reason"].tolist() == ["contradicts another row of the same ticker and date"] * 3
    assert len(result.bars) == 29


def test_a_bad_row_does_not_contradict_a_sane_one():
    frame = raw_frame()
    result = _clean(pd.concat([frame.iloc[[5]].assign(close=np.nan), frame], ignore_index=True))
    assert result.rejects["reason"].tolist() == ["close is missing or no number"]
    assert len(result.bars) == 30


def test_unsorted_rows_are_sorted():
    frame = pd.concat([raw_frame("BBB"), raw_frame("AAA")], ignore_index=True)
    shuffled = frame.sample(frac=1.0, random_state=0).reset_index(drop=True)
    result = _clean(shuffled)
    assert result.bars.fingerprint() == _clean(frame).bars.fingerprint()
    assert result.bars.tickers.tolist() == ["AAA", "BBB"]


def test_a_ticker_with_too_few_sane_bars_is_dropped_with_its_rows_in_the_rejects():
    result = _clean(pd.concat([raw_frame("AAA", 30), raw_frame("NEW", 19), raw_frame("OLD", 20)], ignore_index=True))
    assert result.bars.tickers.tolist() == ["AAA", "OLD"]
    assert set(result.rejects["reason"]) == {"ticker has too few sane bars"}
    assert result.counts["tickers_read"] == 3
    assert result.counts["tickers_kept"] == 2


class TestToday:
    """Bars dated 2015-01-05 .. 2015-02-13, cleaned on 2015-02-13."""

    today = dt.date(2015, 2, 13)

    def _last_reason(self, config: CleaningConfig, **more) -> str:
        rejects = _clean(raw_frame(), config, today=self.today, **more).rejects
        return rejects["reason"].iloc[-1] if len(rejects) else "kept"

    def test_the_bar_of_today_is_refused_by_default(self):
        assert self._last_reason(CONFIG) == "bar of today may be incomplete"
        assert len(_clean(raw_frame(), today=self.today + dt.timedelta(days=1)).rejects) == 0

    def test_a_nightly_run_may_accept_it(self):
        assert self._last_reason(CleaningConfig(todays_bar="accept")) == "kept"

    @pytest.mark.parametrize(
        ("utc", "kept"), [("20:59", False), ("21:00", False), ("21:14", False), ("21:15", True), ("23:00", True)]
    )
    def test_it_is_accepted_once_its_exchange_has_closed(self, utc, kept):
        now = dt.datetime.combine(self.today, dt.time.fromisoformat(utc), tzinfo=dt.UTC)  # New York closes at 21:00
        reason = self._last_reason(CleaningConfig(todays_bar="after_close"), now=now)
        assert (reason == "kept") == kept

    def test_each_ticker_waits_for_its_own_exchange(self):
        frames = pd.concat([raw_frame("AAA"), raw_frame("VOD.L")], ignore_index=True)
        now = dt.datetime.combine(self.today, dt.time(17, 0), tzinfo=dt.UTC)  # London closed at 16:30
        result = _clean(frames, CleaningConfig(todays_bar="after_close"), today=self.today, now=now)
        assert result.rejects["ticker"].tolist() == ["AAA"]

    def test_without_a_moment_after_close_is_as_safe_as_reject(self):
        assert self._last_reason(CleaningConfig(todays_bar="after_close")) == "bar of today may be incomplete"

    def test_without_today_the_machines_date_counts(self):
        frame = _spoil(7, date=pd.Timestamp.now().normalize().as_unit("us") + pd.Timedelta(days=1))
        assert _clean(frame, today=None).rejects["reason"].tolist() == ["date lies in the future"]


class TestRefusal:
    def test_an_empty_table_says_where_to_look(self):
        with pytest.raises(BadInputError, match=r"no bars were read .*a\.csv is empty"):
            clean_bars(RawBars(raw_frame(n=0), ["a.csv is empty"]), CONFIG)

    def test_a_missing_column_is_named(self):
        with pytest.raises(BadInputError, match="lack volume"):
            clean_bars(RawBars(raw_frame().drop(columns="volume")), CONFIG)

    def test_when_no_ticker_suffices_the_commonest_reason_is_named_with_a_row(self):
        with pytest.raises(BadInputError) as caught:
            clean_bars(raw(raw_frame().assign(close=-1.0)), CONFIG, today=TODAY)
        message = str(caught.value)
        for part in (
            "close is zero or negative: 30 rows",
            "'AAA'",
            "2015-01-05",
            "crafted",
            "0 kept",
            "Mend the input",
        ):
            assert part in message

    def test_more_than_half_bad_rows_refuse_the_whole_input(self):
        frame = raw_frame(n=60)
        frame.loc[:30, "high"] = 0.0
        with pytest.raises(BadInputError, match="31 of 60 rows are refused"):
            clean_bars(raw(frame), CONFIG, today=TODAY)
        assert len(_clean(frame, CleaningConfig(max_rejected_frac=0.9)).bars) == 29


def test_jumps_and_stale_runs_are_listed_and_kept():
    frame = pd.concat([raw_frame("AAA", 60), raw_frame("BBB", 60)], ignore_index=True)
    prices = ["open", "high", "low", "close"]
    frame.loc[40:59, prices] = frame.loc[40:59, prices] * 5.0
    frame.loc[70:89, prices] = 7.0
    result = _clean(frame)
    assert len(result.rejects) == 0
    jumps, stale = result.listings["suspicious_jumps"], result.listings["stale_runs"]
    assert jumps["ticker"].tolist() == ["AAA"]
    assert jumps["date"].tolist() == [frame.loc[40, "date"]]
    assert 4.0 < jumps["factor"].iloc[0] < 6.0
    assert stale[["ticker", "bars", "close"]].values.tolist() == [["BBB", 20, 7.0]]
    assert stale["first_date"].tolist() == [frame.loc[70, "date"]]
    assert stale["last_date"].tolist() == [frame.loc[89, "date"]]


def test_the_first_bar_of_a_ticker_is_no_jump_from_the_last_bar_of_another():
    frame = pd.concat([raw_frame("AAA", 30, price=1.0), raw_frame("BBB", 30, price=1000.0)], ignore_index=True)
    assert len(_clean(frame).listings["suspicious_jumps"]) == 0


_CELLS = st.sampled_from([None, "", "x", "12.5", 0, -1, 5, 10.0, 11, np.nan, np.inf, -np.inf, True, "1e3"])
_DATES = st.sampled_from(
    [
        *("2015-01-05", "2015/01/06", "20150107", 20150108, "01/02/2015", "13/01/2015", None, "soon", 3.5, pd.NaT),
        *(dt.date(2015, 1, 9), pd.Timestamp("2015-01-12"), np.datetime64("2015-01-15")),
        pd.Timestamp("2015-01-14", tz="Asia/Tokyo"),
    ]
)
_TICKERS = st.sampled_from(["AAA", " AAA ", "B/B", "", None, 5, "5", "NA", float("nan")])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(_TICKERS, _DATES, *[_CELLS] * 5), max_size=30), st.randoms(use_true_random=False))
def test_every_row_is_kept_or_rejected_whatever_is_sent(rows, random):
    junk = pd.DataFrame(rows, columns=["ticker", "date", "open", "high", "low", "close", "volume"], dtype=object)
    frame = pd.concat([raw_frame("ZZZ", 40).astype(object), junk.assign(source="junk")], ignore_index=True)
    order = list(range(len(frame)))
    random.shuffle(order)
    result = _clean(frame.iloc[order].reset_index(drop=True), CleaningConfig(max_rejected_frac=1.0))
    assert result.counts["kept"] == len(result.bars)
    assert result.counts["kept"] + result.counts["rejected"] == result.counts["read"] == len(frame)
    assert sum(n for name, n in result.counts.items() if name.startswith("rejected: ")) == result.counts["rejected"]
    assert result.bars.ticker_slice("ZZZ").stop - result.bars.ticker_slice("ZZZ").start == 40


def test_the_real_small_table_is_cleaned_and_every_reject_has_a_reason(real_data_dir):
    sent = read_table(real_data_dir / "us_daily_bars_small.parquet")
    result = clean_bars(sent, CONFIG, today=TODAY)
    assert result.counts["read"] == 141_462
    assert result.counts["kept"] + result.counts["rejected"] == 141_462
    assert 0 < len(result.rejects) < 300
    assert validate(DAILY_BARS, result.bars.to_frame()) == []
    assert validate(REJECTS, result.rejects) == []


def test_cleaning_clean_bars_again_changes_nothing(real_data_dir):
    bars = clean_bars(read_table(real_data_dir / "us_daily_bars_small.parquet"), CONFIG, today=TODAY).bars
    again = clean_bars(RawBars(bars.to_frame().assign(source="")), CONFIG, today=TODAY)
    assert len(again.rejects) == 0
    assert again.bars.fingerprint() == bars.fingerprint()
