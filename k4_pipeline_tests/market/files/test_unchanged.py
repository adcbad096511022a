"""Files that have not changed are not read again; what is known of them is what reading them would give."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import CleaningConfig, SourceConfig
from k4_pipeline.market.cleaning import CleanResult, clean_bars
from k4_pipeline.market.files import unchanged
from k4_pipeline.market.sources import folder
from k4_pipeline.market.sources.base import RawBars

DAYS = pd.bdate_range("2013-01-22", periods=30)
HEADER = "Date;Open;High;Low;Close;Volume"
STAMPS = {
    "CAR": lambda d: f"{d:%d/%m/%Y}",  # day and month decided with the other files
    "LTS": lambda d: f"{d:%Y-%m-%d}T21:00:00Z",
    "ABC.DE": lambda d: f"{d:%d.%m.%Y}",
}


def write(path: Path, stamp, price: float = 10.5, bad: int = 4) -> None:  # type: ignore[no-untyped-def]
    rows = [f"{stamp(d)};{price};{price + 1};{price - 1};{price};1 000" for d in DAYS]
    rows[bad] = rows[bad].replace(f"{price + 1}", "n/a")
    rows += [rows[7], f"{stamp(pd.Timestamp('2013-02-02'))};{price};{price + 1};{price - 1};{price};1 000"]
    path.write_text("\n".join([HEADER, *rows]) + "\n")


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for ticker, stamp in STAMPS.items():
        write(tmp_path / "in" / f"{ticker}.csv", stamp)
    return tmp_path / "in"


def read(bars: Path, **more) -> RawBars:  # type: ignore[no-untyped-def]
    return folder.read_folder(bars, kept=bars.parent / "kept", **more)


def cleaned(raw: RawBars) -> CleanResult:
    return clean_bars(raw, CleaningConfig())


def test_what_is_known_is_what_reading_gives(bars, monkeypatch):
    fresh = folder.read_folder(bars)
    first = read(bars)
    with monkeypatch.context() as patch:
        patch.setattr(folder, "read_entry", None)  # nothing may be read
        again = read(bars)
    assert (first.files_unchanged, again.files_unchanged) == (0, 3)
    for raw in (first, again):
        assert (raw.problems, raw.skipped, raw.dialects) == (fresh.problems, fresh.skipped, fresh.dialects)
        pd.testing.assert_frame_equal(raw.frame, fresh.frame)
        pd.testing.assert_frame_equal(cleaned(raw).rejects, cleaned(fresh).rejects)


def test_only_files_that_changed_are_read(bars):
    read(bars)
    write(bars / "CAR.csv", STAMPS["CAR"], price=20.5)
    write(bars / "NEW.csv", STAMPS["LTS"])
    (bars / "LTS.csv").unlink()
    os.utime(bars / "ABC.DE.csv", (1, 1))  # other times, the same content
    raw = read(bars)
    assert raw.files_unchanged == 1
    assert sorted(raw.frame["ticker"].unique()) == ["ABC.DE", "CAR", "NEW"]
    assert set(raw.frame.loc[raw.frame["ticker"] == "CAR", "close"]) == {20.5}
    assert read(bars).files_unchanged == 3


def test_an_edit_of_the_same_size_and_date_is_seen(bars):
    read(bars)
    file = bars / "CAR.csv"
    about = file.stat()
    file.write_text(file.read_text().replace("10.5", "10.4"))
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    raw = read(bars)
    assert set(raw.frame.loc[raw.frame["ticker"] == "CAR", "close"]) == {10.4}


def test_another_dialect_or_code_and_a_damaged_store_start_anew(bars, monkeypatch):
    read(bars)
    assert read(bars, config=SourceConfig(dialect="date_order=day")).files_unchanged == 0
    with monkeypatch.context() as patch:
        patch.setattr(unchanged, "_code", lambda: "another version")
        assert read(bars).files_unchanged == 0
    for store in (bars.parent / "kept").iterdir():
        store.write_bytes(store.read_bytes()[:-100])
    assert read(bars).files_unchanged == 0
    assert read(bars).files_unchanged == 3


def test_refused_rows_stand_as_sent_whenever_they_are_refused(bars):
    rejects = cleaned(read(bars)).rejects
    of_car = rejects[rejects["ticker"] == "CAR"].set_index("reason")["row"].to_dict()
    assert of_car == {
        "high is missing or no number": "CAR; 28/01/2013; 10.5; n/a; 9.5; 10.5; 1 000",
        "repeats another row of the same ticker and date": "CAR; 31/01/2013; 10.5; 11.5; 9.5; 10.5; 1 000",
        "repeats the last bar on a day without a session": "CAR; 02/02/2013; 10.5; 11.5; 9.5; 10.5; 1 000",
    }


def test_a_folder_that_takes_no_more_bytes_costs_only_the_next_reading(bars, monkeypatch):
    batches = []

    def full(batch, **more):  # type: ignore[no-untyped-def]
        batches.append(batch)
        raise OSError(28, "No space left on device")

    class Full:
        write_batch = staticmethod(full)

        def __enter__(self):  # type: ignore[no-untyped-def]
            return self

        def __exit__(self, *error):  # type: ignore[no-untyped-def]
            return None

    fresh = folder.read_folder(bars)
    with monkeypatch.context() as patch:
        patch.setattr(unchanged.pa.ipc, "new_file", lambda *_: Full())
        raw = read(bars)
    pd.testing.assert_frame_equal(raw.frame, fresh.frame)
    assert len(batches) == 1
    assert list((bars.parent / "kept").iterdir()) == []
    assert read(bars).files_unchanged == 0
    write(bars / "CAR.csv", STAMPS["CAR"], price=20.5)
    with monkeypatch.context() as patch:
        patch.setattr(unchanged.pa.ipc, "new_file", lambda *_: Full())
        assert read(bars).files_unchanged == 2  # what was known serves on
    assert read(bars).files_unchanged == 2


def test_a_reading_that_fails_leaves_what_was_known(bars):
    read(bars)
    write(bars / "NEW.csv", STAMPS["LTS"])

    def stopped(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read(bars, progress=stopped)
    assert [p.name for p in (bars.parent / "kept").iterdir() if p.name.startswith(".")] == []
    assert read(bars).files_unchanged == 3


def test_no_flipped_bit_of_what_is_kept_is_taken_for_a_bar(bars):
    rng = np.random.default_rng(0)
    fresh = folder.read_folder(bars).frame
    read(bars)
    (store,) = (bars.parent / "kept").iterdir()
    whole = store.read_bytes()
    for at in rng.integers(0, len(whole), 120):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        store.write_bytes(damaged)
        pd.testing.assert_frame_equal(read(bars, keep=False).frame, fresh)
