"""The leak demo on the user's own rows: a section of every validation report, trained again only when it would differ.

Where the demo cannot be made, or is switched off, the section says so and how to get it; it never keeps a report from
being written, because it judges nothing: it shows what leakage would look like on these rows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from k4_pipeline.config import PipelineConfig, to_dict
from k4_pipeline.leakage.controls.demo import METRICS, compare_on, in_words
from k4_pipeline.leakage.engine import reduced
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.progress import Progress
from k4_pipeline.storage import atomic_write_json
from k4_pipeline.storage.code_version import code_fingerprint

DEMO_FILE = "leak_demo.json"
SHOWN = (*METRICS, ("log_loss", "log loss (lower is better)"))
HOW = "`k4 audit --demo` shows it on a simulated market; `proof.leak_demo=true` puts it into every report."


def own_demo(path: PipelineRun, as_of: str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Both trainings of the cheap model on whole tickers drawn from the user's rows; the dict of `demo.run_demo`."""
    settings, seed, trained = path.config.proof, path.config.training.seed, 0

    def done() -> None:
        nonlocal trained
        trained += 1
        if progress is not None:
            progress(trained, 2)

    part = reduced.reduced(path, settings.demo_rows, np.random.default_rng([seed, 29]))
    config = reduced.with_far_test(reduced.cheap_config(path.config, epochs=settings.demo_epochs, seed=seed))
    # All metrics of the demo come from one bootstrap; a tenth of a percent of its interval is not what it shows.
    integrity = dataclasses.replace(config.integrity, bootstrap_draws=min(config.integrity.bootstrap_draws, 300))
    part = dataclasses.replace(part, config=dataclasses.replace(config, integrity=integrity), _cache={})
    part = reduced.split_with_evidence(reduced.labelled_only(part), as_of, settings.demo_rows // 5)
    with reduced.one_thread():
        market = compare_on("your own rows", part, as_of, seed, done, SHOWN)
    return _without_nan({"seed": seed, "markets": [market], "in_words": in_words([market])})


def _without_nan(value: Any) -> Any:
    """NaN as None, so that a demo read back from its file is the one that was made."""
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def demo_key(fingerprints: dict[str, str], as_of: str, config: PipelineConfig) -> str:
    """What the demo depends on: the data behind it, the date, the settings and the code."""
    data = {name: fingerprints[name] for name in ("daily_bars", "labeled_snapshots", "market_features", "sequences")}
    parts = to_dict(config)
    settings = {name: parts[name] for name in ("split", "scaler", "integrity", "signals", "proof")}
    text = json.dumps([data, as_of, settings, config.training.seed, code_fingerprint("validation_report")])
    return hashlib.sha256(text.encode()).hexdigest()


def demo_of_report(
    folder: Path,
    fingerprints: dict[str, str],
    as_of: str,
    config: PipelineConfig,
    make_path: Callable[[], PipelineRun],
    *,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The section of one report: kept in `folder` from the last time, trained, or `left_out` with its reason."""
    if not config.proof.leak_demo:
        return {"left_out": f"It was left out (proof.leak_demo is false). {HOW}"}
    key, file = demo_key(fingerprints, as_of, config), folder / DEMO_FILE
    if file.is_file():
        stored = json.loads(file.read_text())
        if stored.get("key") == key:
            return stored["demo"]
    try:
        demo = own_demo(make_path(), as_of, progress=progress)
    except Exception as error:
        return {"left_out": f"It could not be made on these rows: {type(error).__name__}: {error} {HOW}"}
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_json(file, {"key": key, "demo": demo})
    return demo
