"""The panel file: what is written is what was computed, it maps back, and a damaged or stale one is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.features import panel as panel_module, stream as stream_module
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.panel import (
    PANEL_FILE,
    FeaturePanel,
    read_panel,
    ticker_chunks,
    write_panel,
    write_panel_stream as write_stream,
)
from k4_pipeline.features.stream import bars_in_chunks, bars_of_tickers
from k4_pipeline.market.bars import Bars, BarsFingerprint
from k4_pipeline.storage import write_parquet


def test_a_panel_reads_back_bit_for_bit_whatever_the_chunk(made_up_bars: Bars, tmp_path: Path) -> None:
    expected = compute_market_features(made_up_bars)
    seen = set()
    for chunk in (1, 3, 1000):
        calls: list[tuple[int, int]] = []
        write_panel(
            made_up_bars, tmp_path / str(chunk), chunk_tickers=chunk, progress=lambda *c, log=calls: log.append(c)
        )
        panel = read_panel(tmp_path / str(chunk))
        assert isinstance(panel.values, np.memmap)
        assert panel.values.tobytes() == expected.tobytes()
        assert panel.tickers.tolist() == made_up_bars.tickers.tolist()
        np.testing.assert_array_equal(panel.offsets, made_up_bars.offsets)
        np.testing.assert_array_equal(panel.date, made_up_bars.date)
        assert panel.bars_fingerprint == made_up_bars.fingerprint()
        assert calls[-1] == (len(made_up_bars), len(made_up_bars))
        assert [p.name for p in (tmp_path / str(chunk)).iterdir()] == [PANEL_FILE]
        seen.add(panel.fingerprint())
    assert seen == {FeaturePanel.from_bars(made_up_bars).fingerprint()}


def test_blocks_walk_a_mapped_panel_from_end_to_end(made_up_bars: Bars, tmp_path: Path) -> None:
    write_panel(made_up_bars, tmp_path)
    expected = compute_market_features(made_up_bars)
    for panel in (read_panel(tmp_path), FeaturePanel.from_bars(made_up_bars)):
        for rows in (1000, len(panel)):
            starts, blocks = zip(*panel.blocks(rows), strict=True)
            assert list(starts) == list(range(0, len(panel), rows))
            assert np.concatenate(blocks).tobytes() == expected.tobytes()
        # What was given back to the system is read again.
        assert panel.values.tobytes() == expected.tobytes()


def test_a_part_of_a_panel_is_the_panel_of_those_tickers(made_up_bars: Bars, tmp_path: Path) -> None:
    write_panel(made_up_bars, tmp_path / "panel")
    write_parquet(made_up_bars.to_frame(), tmp_path / "bars.parquet")
    chosen = np.array([0, 3, 5])
    part = read_panel(tmp_path / "panel").subset(chosen)
    bars = bars_of_tickers(tmp_path / "bars.parquet", part.tickers)
    assert bars.fingerprint() == made_up_bars.subset(made_up_bars.tickers[chosen]).fingerprint()
    assert part.values.tobytes() == compute_market_features(bars).tobytes()
    assert part.tickers.tolist() == bars.tickers.tolist()
    for name in ("offsets", "date", "close"):
        np.testing.assert_array_equal(getattr(part, name), getattr(bars, name))
    with pytest.raises(BadInputError, match="none of the 1 tickers"):
        bars_of_tickers(tmp_path / "bars.parquet", ["NOSUCH"])


def test_the_fingerprint_of_bars_does_not_depend_on_how_they_are_cut(made_up_bars: Bars) -> None:
    for chunk in (1, 3, 1000):
        running = BarsFingerprint()
        for bars in ticker_chunks(made_up_bars, chunk):
            running.update(bars)
        assert running.hexdigest() == made_up_bars.fingerprint()
    for column in ("date", "open", "high", "low", "close", "volume"):
        changed = {column: getattr(made_up_bars, column).copy()}
        changed[column][777] += 1
        assert replace(made_up_bars, **changed).fingerprint() != made_up_bars.fingerprint()
    offsets = made_up_bars.offsets.copy()
    offsets[2] += 1
    assert replace(made_up_bars, offsets=offsets).fingerprint() != made_up_bars.fingerprint()
    renamed = made_up_bars.tickers.copy()
    renamed[0] += "X"
    assert replace(made_up_bars, tickers=renamed).fingerprint() != made_up_bars.fingerprint()


def test_the_fingerprint_changes_with_one_value(made_up_bars: Bars) -> None:
    panel = FeaturePanel.from_bars(made_up_bars)
    before = panel.fingerprint()
    panel.values[700, 0] += 1.0
    assert panel.fingerprint() != before


def test_any_safetensors_reader_opens_the_panel(made_up_bars: Bars, tmp_path: Path) -> None:
    write_panel(made_up_bars, tmp_path)
    with safe_open(tmp_path / PANEL_FILE, "numpy") as file:
        assert file.get_tensor("values").tobytes() == compute_market_features(made_up_bars).tobytes()
        assert file.get_tensor("date").tolist() == made_up_bars.date.tolist()
        assert file.metadata()["bars_fingerprint"] == made_up_bars.fingerprint()


def test_a_missing_truncated_or_foreign_panel_is_refused(made_up_bars: Bars, tmp_path: Path) -> None:
    with pytest.raises(StaleArtifactError, match="does not exist"):
        read_panel(tmp_path)
    write_panel(made_up_bars, tmp_path)
    path = tmp_path / PANEL_FILE
    whole = path.read_bytes()
    for broken in (whole[:-1], whole[: len(whole) // 2], whole[:5000], whole + b"x", b"", b"\xff" * 100, whole[:100]):
        path.write_bytes(broken)
        with pytest.raises(StaleArtifactError):
            read_panel(tmp_path)


def test_a_panel_of_other_declarations_is_refused(
    made_up_bars: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(panel_module, "feature_list_hash", lambda: "0123456789abcdef")
        write_panel(made_up_bars, tmp_path)
    with pytest.raises(StaleArtifactError, match="0123456789abcdef"):
        read_panel(tmp_path)


def test_tickers_out_of_order_and_an_empty_stream_are_refused_and_leave_nothing(
    made_up_bars: Bars, tmp_path: Path
) -> None:
    chunks = list(ticker_chunks(made_up_bars, 2))
    with pytest.raises(BadInputError, match="ascending"):
        write_stream([chunks[1], chunks[0]], tmp_path)
    with pytest.raises(BadInputError, match="no bars"):
        write_stream([], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bars_streamed_from_parquet_make_the_same_panel(made_up_bars: Bars, tmp_path: Path) -> None:
    table = tmp_path / "bars.parquet"
    write_parquet(made_up_bars.to_frame(), table)
    for chunk_bars in (1, 900, 10_000):
        chunks = list(bars_in_chunks(table, chunk_bars=chunk_bars))
        assert [t for c in chunks for t in c.tickers] == made_up_bars.tickers.tolist()
        assert sum(map(len, chunks)) == len(made_up_bars)
        write_stream(chunks, tmp_path / str(chunk_bars))
        panel = read_panel(tmp_path / str(chunk_bars))
        assert panel.values.tobytes() == compute_market_features(made_up_bars).tobytes()
    table.write_bytes(table.read_bytes()[:-100])
    with pytest.raises(BadInputError, match="cannot be read"):
        list(bars_in_chunks(table))


def test_streaming_is_split_inside_a_file_of_many_batches(
    made_up_bars: Bars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_module, "_BATCH_ROWS", 100)
    table = tmp_path / "bars.parquet"
    write_parquet(made_up_bars.to_frame(), table)
    chunks = list(bars_in_chunks(table, chunk_bars=250))
    assert len(chunks) > 3
    assert np.concatenate([c.close for c in chunks]).tobytes() == made_up_bars.close.tobytes()
    assert np.concatenate([np.diff(c.offsets) for c in chunks]).tolist() == np.diff(made_up_bars.offsets).tolist()
