"""The market channels of a universe on disk: one safetensors file, row-major, written and read without holding it.

Layout of `panel.safetensors`: `values` (n_bars, 55) float32 first, then the keys `date` (n_bars,) int32 days since
1970-01-01, `offsets` (n_tickers + 1,) int64, and the ticker names as UTF-8 bytes with their own offsets. The header has
a fixed room in front, filled in last, so that a universe of unknown size can be written ticker range by ticker range.
Any safetensors reader can open the file.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from k4_pipeline.config import N_MARKET_FEATURES
from k4_pipeline.errors import BadInputError, StaleArtifactError
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.spec import MARKET_NAMES, feature_list_hash
from k4_pipeline.market.bars import Bars, BarsFingerprint
from k4_pipeline.progress import Progress
from k4_pipeline.storage import atomic_path

PANEL_FILE = "panel.safetensors"
_FORMAT = "k4_pipeline market features 2"
_HEADER_BYTES = 4096  # room for the header, its 8-byte length included; values start on a page
_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U8": np.dtype("u1"),
}


@dataclass(frozen=True, eq=False)
class FeaturePanel:
    """Market channels of every bar; row i is row i of the `Bars` they were computed from."""

    values: np.ndarray  # (n_bars, 55) float32, possibly a read-only memory map
    tickers: np.ndarray  # (n_tickers,) object
    offsets: np.ndarray  # (n_tickers + 1,) int64
    date: np.ndarray  # (n_bars,) int32 days since 1970-01-01
    close: np.ndarray  # (n_bars,) float64: model inputs subtract prices, which float32 would blur
    bars_fingerprint: str

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def from_bars(cls, bars: Bars, *, threads: int | None = None, progress: Progress | None = None) -> FeaturePanel:
        """Computed in memory, for universes that fit."""
        values = compute_market_features(bars, threads=threads, progress=progress)
        return cls(values, bars.tickers, bars.offsets, bars.date, bars.close, bars.fingerprint())

    def fingerprint(self) -> str:
        """sha256 over the declarations, the bars' fingerprint, keys and values; equal only for equal panels."""
        digest = hashlib.sha256(f"{feature_list_hash()}|{self.bars_fingerprint}".encode())
        digest.update("\x00".join(map(str, self.tickers)).encode())
        digest.update(np.ascontiguousarray(self.offsets, dtype=np.int64).data)
        digest.update(np.ascontiguousarray(self.date, dtype=np.int32).data)
        digest.update(np.ascontiguousarray(self.close, dtype=np.float64).data)
        for _, block in self.blocks():
            digest.update(block.view(np.uint8).data)
        return digest.hexdigest()

    def blocks(self, rows: int = 65_536) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, values (<= rows, 55)) from the first bar to the last, each a copy; memory holds one block.

        A mapped panel gives the pages it has read back to the system, so that walking through it does not fill memory.
        """
        mapped = getattr(self.values, "_mmap", None)
        for start in range(0, len(self.values), rows):
            yield start, np.array(self.values[start : start + rows])
            if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
                mapped.madvise(mmap.MADV_DONTNEED)

    def subset(self, chosen: np.ndarray) -> FeaturePanel:
        """The tickers with these numbers (ascending), copied."""
        lengths = np.diff(self.offsets)[chosen]
        rows = [slice(int(self.offsets[i]), int(self.offsets[i + 1])) for i in chosen]
        values, date, close = (np.concatenate([x[r] for r in rows]) for x in (self.values, self.date, self.close))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return FeaturePanel(values, self.tickers[chosen], offsets, date, close, self.bars_fingerprint)


def ticker_chunks(bars: Bars, chunk_tickers: int) -> Iterator[Bars]:
    """The universe as consecutive `Bars` of `chunk_tickers` tickers each; views, no copies of the bars."""
    for first in range(0, bars.n_tickers, chunk_tickers):
        offsets = bars.offsets[first : first + chunk_tickers + 1]
        rows = slice(int(offsets[0]), int(offsets[-1]))
        columns = {c: getattr(bars, c)[rows] for c in ("date", "open", "high", "low", "close", "volume")}
        yield Bars(tickers=bars.tickers[first : first + chunk_tickers], offsets=offsets - offsets[0], **columns)


def write_panel(
    bars: Bars,
    dir: Path,
    *,
    chunk_tickers: int = 64,
    threads: int | None = None,
    progress: Progress | None = None,
) -> None:
    """Compute the market channels and write them to `dir/panel.safetensors`, `chunk_tickers` tickers at a time."""
    chunks = ticker_chunks(bars, chunk_tickers)
    write_panel_stream(chunks, dir, n_bars=len(bars), threads=threads, progress=progress)


def write_panel_stream(
    chunks: Iterable[Bars],
    dir: Path,
    *,
    n_bars: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    computed: Iterator[np.ndarray] | None = None,
) -> None:
    """Like `write_panel` from any stream of `Bars` (whole tickers, in ascending order): memory holds one chunk.

    `n_bars`, when known, is the total that `progress(done_bars, n_bars)` reports; otherwise the total equals what is
    done. `computed` gives the channels of each chunk where they were computed elsewhere. Raises `BadInputError` when
    tickers do not ascend from chunk to chunk or when there is no bar.
    """
    names: list[str] = []
    offsets = [0]
    fingerprint = BarsFingerprint()
    scratch = np.empty((0, N_MARKET_FEATURES), dtype=np.float32)
    with (
        atomic_path(Path(dir) / PANEL_FILE) as temporary,
        temporary.open("wb") as file,
        tempfile.TemporaryFile(dir=dir) as closes,
        tempfile.TemporaryFile(dir=dir) as dates,
    ):
        file.write(b"\0" * _HEADER_BYTES)
        for chunk in chunks:
            if names and str(chunk.tickers[0]) <= names[-1]:
                raise BadInputError(
                    f"ticker {chunk.tickers[0]} follows {names[-1]}; send tickers in ascending order, each once"
                )
            if computed is not None:
                values = next(computed)
            else:
                if len(scratch) < len(chunk):
                    scratch = np.empty((len(chunk), N_MARKET_FEATURES), dtype=np.float32)
                values = compute_market_features(chunk, out=scratch[: len(chunk)], threads=threads)
            file.write(values.data)
            closes.write(np.ascontiguousarray(chunk.close, dtype="<f8").data)
            dates.write(np.ascontiguousarray(chunk.date, dtype="<i4").data)
            fingerprint.update(chunk)
            names.extend(map(str, chunk.tickers))
            offsets.extend((chunk.offsets[1:] + offsets[-1]).tolist())
            if progress is not None:
                progress(offsets[-1], n_bars if n_bars is not None else offsets[-1])
        if not names:
            raise BadInputError("no bars: a panel needs at least one ticker with a bar")
        for column in (closes, dates):
            column.seek(0)
            shutil.copyfileobj(column, file, 1 << 20)
        _write_keys_and_header(file, names, offsets, fingerprint.hexdigest())


def _write_keys_and_header(file: IO[bytes], names: list[str], offsets: list[int], bars_fingerprint: str) -> None:
    n_bars = offsets[-1]
    encoded = [name.encode() for name in names]
    lengths = np.cumsum([0, *map(len, encoded)])
    tail = {
        "offsets": np.array(offsets, dtype="<i8"),
        "ticker_offsets": lengths.astype("<i8"),
        "ticker_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8),
    }
    header: dict[str, object] = {
        "__metadata__": {
            "format": _FORMAT,
            "feature_list_hash": feature_list_hash(),
            "bars_fingerprint": bars_fingerprint,
            "channels": ",".join(MARKET_NAMES),
        }
    }
    end = 0
    for name, dtype, shape in (
        ("values", "F32", [n_bars, N_MARKET_FEATURES]),
        ("close", "F64", [n_bars]),
        ("date", "I32", [n_bars]),
        ("offsets", "I64", [len(offsets)]),
        ("ticker_offsets", "I64", [len(lengths)]),
        ("ticker_bytes", "U8", [int(lengths[-1])]),
    ):
        start, end = end, end + int(np.prod(shape)) * _DTYPES[dtype].itemsize
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    for array in tail.values():
        file.write(array.data)
    text = json.dumps(header).encode()
    room = _HEADER_BYTES - 8
    if len(text) > room:
        raise BadInputError(f"the panel header needs {len(text)} bytes and has {room}; raise _HEADER_BYTES")
    file.seek(0)
    file.write(room.to_bytes(8, "little") + text.ljust(room))


def read_panel(dir: Path) -> FeaturePanel:
    """The panel in `dir`, its values memory-mapped read-only.

    Raises `StaleArtifactError` when there is none, when it is truncated or no panel, or when it was written with other
    feature declarations.
    """
    path = Path(dir) / PANEL_FILE
    if not path.is_file():
        raise StaleArtifactError(f"{path} does not exist; materialize market_features first")
    remedy = "materialize market_features again"
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(size, 1 << 24):
            raise StaleArtifactError(f"{path} is no panel: its header length is {length} of {size} bytes; {remedy}")
        try:
            header = json.loads(file.read(length))
            meta = header["__metadata__"]
            stored = meta["feature_list_hash"]
            end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        except (ValueError, KeyError, TypeError, AttributeError) as problem:
            raise StaleArtifactError(f"{path} has an unreadable header ({problem}); {remedy}") from problem
    if meta.get("format") != _FORMAT or stored != feature_list_hash():
        raise StaleArtifactError(
            f"{path} was written with feature list {stored}, expected {feature_list_hash()}; {remedy}"
        )
    if size != 8 + length + end:
        raise StaleArtifactError(f"{path} has {size} bytes, expected {8 + length + end}: truncated; {remedy}")

    def tensor(name: str) -> np.ndarray:
        entry = header[name]
        start = 8 + length + entry["data_offsets"][0]
        shape = tuple(entry["shape"])
        if 0 in shape:
            return np.empty(shape, dtype=_DTYPES[entry["dtype"]])
        return np.memmap(path, dtype=_DTYPES[entry["dtype"]], mode="r", offset=start, shape=shape)

    letters, bounds = tensor("ticker_bytes").tobytes(), tensor("ticker_offsets").tolist()
    tickers = np.array([letters[a:b].decode() for a, b in itertools.pairwise(bounds)], dtype=object)
    return FeaturePanel(
        values=tensor("values"),
        tickers=tickers,
        offsets=np.array(tensor("offsets"), dtype=np.int64),
        date=tensor("date"),
        close=tensor("close"),
        bars_fingerprint=meta["bars_fingerprint"],
    )
