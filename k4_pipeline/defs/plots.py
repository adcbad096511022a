"""Small pictures for asset metadata: PNG bar charts as Markdown images, drawn without a plotting library."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np

HEIGHT, BAR_WIDTH, GAP, FRAME = 120, 28, 8, 4
INK, PAPER, GRID = (37, 99, 235), (255, 255, 255), (229, 231, 235)


def png_bytes(pixels: np.ndarray) -> bytes:
    """An 8-bit RGB image (height, width, 3) uint8 as a PNG file (RFC 2083)."""
    height, width, _ = pixels.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def bar_chart(values: Sequence[float], *, bar_width: int = BAR_WIDTH, gap: int = GAP) -> np.ndarray:
    """Bars from zero to the largest value, (height, width, 3) uint8; NaN is drawn as no bar."""
    v = np.nan_to_num(np.asarray(values, dtype=np.float64), nan=0.0)
    top = float(v.max()) if len(v) and v.max() > 0 else 1.0
    width = FRAME * 2 + max(len(v), 1) * (bar_width + gap)
    pixels = np.full((HEIGHT, width, 3), PAPER, dtype=np.uint8)
    inner = HEIGHT - 2 * FRAME
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        pixels[HEIGHT - FRAME - 1 - round(share * (inner - 1))] = GRID
    for i, value in enumerate(v):
        bar = round(max(value, 0.0) / top * inner)
        left = FRAME + i * (bar_width + gap) + gap // 2
        pixels[HEIGHT - FRAME - bar : HEIGHT - FRAME, left : left + bar_width] = INK
    return pixels


def bar_image(title: str, labels: Sequence[str], values: Sequence[float]) -> str:
    """A Markdown image of a bar chart, with its labels and the largest value in the line below."""
    narrow = len(values) > 16
    pixels = bar_chart(values, bar_width=6 if narrow else BAR_WIDTH, gap=2 if narrow else GAP)
    data = base64.b64encode(png_bytes(pixels)).decode()
    shown = f"{labels[0]} .. {labels[-1]}" if narrow else " | ".join(labels)
    top = max(values, default=0)
    return f"**{title}** (highest bar: {top:,.4g})\n\n![{title}](data:image/png;base64,{data})\n\n{shown}"
