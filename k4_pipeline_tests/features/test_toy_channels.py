"""A new channel is a declaration, a reference, a kernel and its count: done for every kind on a copy of the package.

The toys stand between channels of the other kind, so that the market channels lie in more runs than before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import k4_pipeline

# file -> (line of the package, what stands there instead); {it} is the line itself.
EDITS: dict[str, list[tuple[str, str]]] = {
    "config/constants.py": [
        ("N_MARKET_FEATURES = 55", "N_MARKET_FEATURES = 60"),
        ("N_PATTERN_FEATURES = 14", "N_PATTERN_FEATURES = 15"),
    ],
    "features/spec.py": [
        (
            '    ("upper_boundary", "upper"',
            '    ("toy_level", "(H + L) / 2", 1, 0, "price_level", None, False),\n'
            '    ("toy_pattern", "half of the box", 1, 0, "price_width", None, True),\n{it}',
        ),
        (
            '    ("power_boundary", "power"',
            '    ("toy_width", "H - L", 1, 0, "price_width", None, False),\n'
            '    ("toy_volume", "V / 2", 1, 0, "volume", None, False),\n{it}',
        ),
        (
            '    ("days_in_qualification", "number',
            '    ("toy_count", "12", 1, 0, "count", None, False),\n{it}',
        ),
        (
            '    ("price_distance_from_upper_pct", "(upper',
            '    ("toy_invariant", "L / H", 1, 0, "invariant", (0, 0.99), False),\n{it}',
        ),
    ],
    "features/reference.py": [
        (
            "    def current_price(b):",
            "    def toy_level(b):\n        return (b.high + b.low) / 2\n\n"
            "    def toy_width(b):\n        return b.high - b.low\n\n"
            "    def toy_volume(b):\n        return b.volume / 2\n\n"
            "    def toy_count(b):\n        return np.full(len(b.close), 12.0)\n\n"
            "    def toy_invariant(b):\n        return divide(b.low, b.high)\n\n{it}",
        ),
        (
            "    def start_price(p, b, t):",
            "    def toy_pattern(p, b, t):\n        return (p.upper - p.lower) / 2\n\n{it}",
        ),
    ],
    "features/compute.py": [
        ("OTHER_KERNELS = (", "from k4_pipeline.features.kernels.toy import toy_rows\n\n{it}\n    toy_rows,"),
    ],
    "sequences/assemble.py": [
        (
            "    out[at + _UPPER] = upper",
            "{it}\n    out[at + _TOY] = width / 2.0",
        ),
        ('_UPPER = _AT["upper_boundary"]', '{it}\n_TOY = _AT["toy_pattern"]'),
    ],
    "kernels/model_inputs/triton_op.py": [
        ("        upper.to(tl.float32),", "        0.5 * width.to(tl.float32),\n{it}"),
    ],
}
KERNEL = """
import numpy as np
from k4_pipeline._numba import njit
from k4_pipeline.features.layout import channel_row, row

_H, _L, _C, _V = (channel_row(f"current_{x}") for x in ("high", "low", "price", "volume"))
_LEVEL, _WIDTH, _VOLUME, _COUNT, _INVARIANT = (
    channel_row(f"toy_{x}") for x in ("level", "width", "volume", "count", "invariant")
)


@njit
def toy_rows(buffer: np.ndarray, stride: int, n: int) -> None:
    for i in range(n):
        high, low = row(buffer, _H, stride, n)[i], row(buffer, _L, stride, n)[i]
        row(buffer, _LEVEL, stride, n)[i] = (high + low) / 2
        row(buffer, _WIDTH, stride, n)[i] = high - low
        row(buffer, _VOLUME, stride, n)[i] = row(buffer, _V, stride, n)[i] / 2
        row(buffer, _COUNT, stride, n)[i] = 12.0
        row(buffer, _INVARIANT, stride, n)[i] = low / high
"""
PROOF = """
import numpy as np, torch
from k4_pipeline.config import ModelConfig, ScalerConfig
from k4_pipeline.features.compute import compute_market_features
from k4_pipeline.features.reference import MarketReference, PatternReference, model_input
from k4_pipeline.features.spec import FEATURES, MARKET_CHANNELS, PATTERN_CHANNELS
from k4_pipeline.features.table import markdown
from k4_pipeline.models import build_model
from k4_pipeline.sequences import assemble
from k4_pipeline.sequences.assemble import SequenceIndex, assemble_canonical
from k4_pipeline.sequences.model_inputs import assemble_inputs, assemble_scale_free
from k4_pipeline.sequences.scaler import fit_scaler
from k4_pipeline.sequences.windows import index_sequences
from k4_pipeline.training.device_batches import DeviceBatches
from k4_pipeline_tests.sequences.conftest import random_bars, snapshots_at

assert len(FEATURES) == 75 and len(assemble._RUNS) == 7, assemble._RUNS
assert markdown().count("toy_") >= 12
bars = random_bars({"A": 320})
snapshots = snapshots_at(bars, [("A", 120, 130, s) for s in range(140, 160, 4)] + [("A", 30, 33, 40)])
sequences = index_sequences(bars, snapshots)
panel = compute_market_features(bars, dtype=np.float64)
reference = MarketReference(bars.high, bars.low, bars.close, bars.volume)
np.testing.assert_allclose(panel, reference.table(), rtol=1e-7, atol=1e-9)
index, rows = SequenceIndex.from_frame(sequences, bars.close), np.arange(len(sequences))
canonical, mask = assemble_canonical(panel, index, rows)
free, _ = assemble_scale_free(panel, index, rows)
for i, s in enumerate(sequences.itertuples()):
    t = s.end_row - 49 + np.flatnonzero(mask[i])
    one = PatternReference(s.start_row, s.activation_row, s.upper, s.lower, s.power, s.qualifying_bars)
    np.testing.assert_array_equal(canonical[i, mask[i]][:, MARKET_CHANNELS], panel[t])
    np.testing.assert_allclose(canonical[i, mask[i]][:, PATTERN_CHANNELS], one.table(reference, t), rtol=1e-9)
    for f in FEATURES:
        x = model_input(f, canonical[i, mask[i], f.position], bars.close[t], s.close_at_snapshot, s.mean_volume)
        x = np.where(np.isfinite(x), x, np.nan)
        np.testing.assert_allclose(free[i, mask[i], f.position], x, rtol=1e-9, atol=1e-12, err_msg=f.name)
panel = panel.astype(np.float32)
scaler = fit_scaler(panel, index, rows, ScalerConfig(), keys=sequences)
x, mask = assemble_inputs(panel, index, rows, scaler)
assert x.shape == (len(rows), 50, 75) and np.isfinite(x).all()
model = build_model(ModelConfig(preset="micro", backend="naive")).eval()
assert model(torch.from_numpy(x), torch.from_numpy(mask)).shape == (len(rows), 6)
print("proved")
"""
TRITON = """
batches = DeviceBatches(panel, index, rows, scaler)
got, got_mask = batches._kernel(torch.arange(len(rows)))
assert torch.equal(got_mask, torch.from_numpy(mask)) and (got - torch.from_numpy(x)).abs().max() <= 1e-5
print("proved")
"""


def edited(folder: Path) -> Path:
    """A copy of the package below `folder` with the toys in it."""
    tests = Path(__file__).parents[1]
    shutil.copytree(Path(k4_pipeline.__file__).parent, folder / "k4_pipeline", ignore=shutil.ignore_patterns("*.pyc"))
    (folder / "k4_pipeline_tests" / "sequences").mkdir(parents=True)
    for name in ("__init__.py", "sequences/__init__.py", "sequences/conftest.py"):
        if (tests / name).is_file():
            shutil.copy(tests / name, folder / "k4_pipeline_tests" / name)
    for name, changes in EDITS.items():
        file = folder / "k4_pipeline" / name
        text = file.read_text()
        for line, instead in changes:
            assert text.count(line) == 1, (name, line)
            text = text.replace(line, instead.replace("{it}", line))
        file.write_text(text)
    (folder / "k4_pipeline" / "features" / "kernels" / "toy.py").write_text(KERNEL)
    return folder


@pytest.mark.slow
def test_a_toy_channel_of_each_kind_is_computed_assembled_scaled_and_learned(tmp_path: Path) -> None:
    folder = edited(tmp_path)
    code = PROOF
    environment = {**os.environ, "PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    try:
        import triton  # noqa: F401
    except ImportError:
        pass
    else:
        code += TRITON
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("proved") == code.count("proved")
