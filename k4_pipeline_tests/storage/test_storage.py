"""Atomic files and checksummed Parquet: killed writers, flipped bits, concurrent writers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.storage import (
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    parquet_writer,
    read_parquet,
    read_parquet_metadata,
    sha256_file,
    write_parquet,
)

REPO = Path(__file__).parents[2]


def _frame(n: int = 500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "ticker": pd.Series([f"T{i % 7}" for i in range(n)], dtype="str"),
            "date": pd.date_range("2015-01-01", periods=n).as_unit("us"),
            "close": rng.normal(size=n),
            "outcome_class": pd.array([None if i % 3 else i % 6 for i in range(n)], dtype="Int8"),
            "flag": rng.random(n) < 0.5,
        }
    )


def test_a_table_comes_back_with_its_dtypes_and_metadata(tmp_path: Path):
    frame = _frame()
    path = write_parquet(frame, tmp_path / "new" / "t.parquet", {"rows": 500})
    pd.testing.assert_frame_equal(read_parquet(path), frame)
    assert read_parquet_metadata(path) == {"rows": 500}
    assert list(read_parquet(path, columns=["close"]).columns) == ["close"]


def test_equal_tables_give_equal_bytes(tmp_path: Path):
    one = write_parquet(_frame(), tmp_path / "a.parquet", {"k": 1})
    two = write_parquet(_frame(), tmp_path / "b.parquet", {"k": 1})
    assert sha256_file(one) == sha256_file(two)


def test_a_flipped_bit_is_never_read_as_a_value(tmp_path: Path):
    frame = _frame(300)
    path = write_parquet(frame, tmp_path / "t.parquet")
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    caught = 0
    for position in rng.integers(0, len(good), 600):
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        try:
            again = read_parquet(path)
        except StaleArtifactError:
            caught += 1
        else:  # a bit no reader looks at
            pd.testing.assert_frame_equal(again, frame)
    assert caught > 540


def test_a_file_of_another_writer_is_read_too_and_other_readers_read_ours(tmp_path: Path):
    frame = _frame()
    frame.to_parquet(tmp_path / "theirs.parquet")
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "theirs.parquet"), frame)
    ours = write_parquet(frame, tmp_path / "ours.parquet")
    assert pl.read_parquet(ours).height == len(frame)
    pd.testing.assert_frame_equal(pd.read_parquet(ours), frame)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not a table at all" * 100])
def test_a_file_that_is_no_parquet_names_itself(tmp_path: Path, content: bytes):
    path = tmp_path / "broken.parquet"
    path.write_bytes(content)
    with pytest.raises(StaleArtifactError, match=r"broken\.parquet"):
        read_parquet(path)


def test_a_truncated_file_names_itself_and_the_caller_chooses_the_error(tmp_path: Path):
    path = write_parquet(_frame(), tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BadInputError, match=r"t\.parquet"):
        read_parquet(path, error=BadInputError)
    with pytest.raises(StaleArtifactError, match="does not exist"):
        read_parquet(tmp_path / "absent.parquet")


def test_an_error_while_writing_leaves_the_old_file_and_no_temporary_one(tmp_path: Path):
    path = atomic_write_text(tmp_path / "a.txt", "old")

    def fail_midway() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_nan_is_no_json(tmp_path: Path):
    with pytest.raises(ValueError):
        atomic_write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_stream_of_row_groups_appears_only_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "s.parquet"
    table = pa.table({"x": [1, 2]})
    with parquet_writer(path, table.schema, {"k": 2}) as writer:
        writer.write_table(table)
        assert not path.exists()
        writer.write_table(table)
    assert read_parquet(path)["x"].tolist() == [1, 2, 1, 2]
    assert read_parquet_metadata(path) == {"k": 2}


_SLOW_WRITER = """
import sys, time
from k4_pipeline.storage import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    with temporary.open("wb") as handle:
        handle.write(b"x" * 1_000_000)
        handle.flush()
        print("half", flush=True)
        time.sleep(60)
"""


def test_a_writer_killed_midway_leaves_the_old_version_and_its_remains_are_removed(tmp_path: Path):
    path = write_parquet(_frame(), tmp_path / "t.parquet")
    process = subprocess.Popen([sys.executable, "-c", _SLOW_WRITER, str(path)], stdout=subprocess.PIPE, cwd=REPO)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    pd.testing.assert_frame_equal(read_parquet(path), _frame())
    assert len(list(tmp_path.iterdir())) == 2  # the remains, under a temporary name
    write_parquet(_frame(10), path)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    assert len(read_parquet(path)) == 10


def test_many_writers_of_one_file_never_mix_their_bytes(tmp_path: Path):
    path = tmp_path / "a.json"
    stop = time.monotonic() + 1.0

    def write(number: int) -> None:
        while time.monotonic() < stop:
            atomic_write_json(path, {"writer": number, "values": [number] * 1000})

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(t.is_alive() for t in threads):
        if path.exists():
            value = json.loads(path.read_text())
            assert value["values"] == [value["writer"]] * 1000
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
