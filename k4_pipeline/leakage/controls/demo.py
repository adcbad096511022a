"""The leak demo: one cheap model, trained on the honest split and on a random one, both rows side by side.

A random split puts snapshots of one pattern, a few bars apart and with almost the same race ahead, into train and test
alike. The model need not learn anything about the market to look good there; it recognises. Everything else is the
same: bars, patterns, labels, model, settings, seed, and the number of rows in each member of the split.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import (
    CleaningConfig,
    LossConfig,
    ModelConfig,
    PatternConfig,
    PipelineConfig,
    RecipeConfig,
    SimulationConfig,
    SplitConfig,
    TrainConfig,
)
from k4_pipeline.errors import BadInputError
from k4_pipeline.leakage.engine.small import real_file, small_config
from k4_pipeline.market.sources.base import RawBars
from k4_pipeline.pipeline import stages as production
from k4_pipeline.pipeline.stages import PipelineRun
from k4_pipeline.progress import Progress

METRICS = (
    ("k4_auc", "K4 AUC"),
    ("k4_recall_top_5pct", "K4 recall in the top 5%"),
    ("ev_correlation_pearson", "EV correlation (Pearson)"),
)
REAL_AS_OF = "2014-07-01"
REAL_TICKERS = 40  # enough to measure, few enough to wait for
SIMULATED_AS_OF = "2023-07-03"


def demo_config(seed: int = 0) -> PipelineConfig:
    """The standard patterns and labels, a year of test rows, and the cheapest model."""
    return PipelineConfig(
        simulation=SimulationConfig(n_tickers=120, n_bars=1800, seed=3 + seed),
        cleaning=CleaningConfig(),
        patterns=PatternConfig(),
        split=SplitConfig(test_months=12, validation_months=12),
        model=ModelConfig(preset="tiny", dropout=0.0),
        recipe=RecipeConfig(),
        loss=LossConfig(),
        training=TrainConfig(
            seed=seed, epochs=12, batch_size=128, patience=12, device="cpu", monitor="k4_average_precision"
        ),
    )


def real_config(config: PipelineConfig) -> PipelineConfig:
    """The same model on looser patterns and a lower K4 (+15% within 30 bars).

    By the standard rule nearly all K4 rows of the small sample of real bars stand in one quarter, too few to measure.
    """
    loose = small_config()
    return dataclasses.replace(config, patterns=loose.patterns, labels=loose.labels)


def random_split(path: PipelineRun, seed: int) -> pd.DataFrame:
    """The split table with the labelled rows of the honest one assigned at random, in members of the same size."""
    assert path.split is not None
    split = path.split.copy()
    known = split["outcome_class"].notna()
    sizes = {name: int(((split["split"] == name) & known).sum()) for name in ("train", "validation", "test")}
    rows = np.random.default_rng([seed, 17]).permutation(np.flatnonzero(known.to_numpy()))
    member = np.full(len(split), "excluded", dtype=object)
    start = 0
    for name, size in sizes.items():
        member[rows[start : start + size]] = name
        start += size
    split["split"] = pd.Series(member, dtype="str")
    split["reason"] = pd.Series(np.where(member == "excluded", "after_test", ""), dtype="str")
    split["weight"] = 1.0
    return split


def _trained(path: PipelineRun) -> dict[str, Any]:
    path.fitted = production.fit(path)
    scored = production.score(path)
    if scored.metrics is None:
        raise BadInputError("the test rows of the leak demo have no labels; choose an earlier as-of date")
    return scored.metrics


def compare_on(
    market: str,
    path: PipelineRun,
    as_of: str,
    seed: int,
    done: Callable[[], None],
    shown: tuple[tuple[str, str], ...] = METRICS,
) -> dict[str, Any]:
    """Both trainings on one path (up to the sequences, or split already), as a JSON-able dict."""
    honest = path if path.split is not None else production.split_at(path, as_of)
    shuffled = dataclasses.replace(honest, split=random_split(honest, seed), _cache={})
    results = {}
    for name, split in (("honest", honest), ("random", shuffled)):
        results[name] = _trained(split)
        done()
    rows = [
        {"metric": title, **{name: metrics["model"][key] for name, metrics in results.items()}} for key, title in shown
    ]
    counts = {
        name: {"rows": metrics["n"], "k4": metrics["n_k4"], "tickers": metrics["n_tickers"]}
        for name, metrics in results.items()
    }
    return {
        "market": market,
        "as_of": str(honest.as_of),
        "rows": rows,
        "test": counts,
        "train_rows": honest.manifest.rows["train"],
    }


def in_words(markets: list[dict[str, Any]]) -> str:
    """What the tables of some markets show, in sentences."""
    parts = []
    for market in markets:
        honest, shuffled = (market["rows"][0][name]["value"] for name in ("honest", "random"))
        where = f"On {market['market']}"
        if np.isfinite(honest) and np.isfinite(shuffled):
            gap = f"({shuffled - honest:+.3f})"
            parts.append(
                f"{where} the random split reports a K4 AUC of {shuffled:.3f}, the honest one {honest:.3f} {gap}."
            )
        else:
            parts.append(f"{where} a test span holds no K4 row, so that the K4 AUC cannot be compared.")
            for row in market["rows"]:
                if row["metric"].startswith("log loss"):
                    a, b = (row[name]["value"] for name in ("honest", "random"))
                    parts.append(
                        f"The log loss is {b:.3f} on the random split, {a:.3f} on the honest one; lower is better."
                    )
    parts.append(
        "Same bars, same model, same settings, same number of rows: what differs is only whether rows of one pattern, "
        "and labels that are not known yet, may stand on both sides."
    )
    return " ".join(parts)


def run_demo(
    *, seed: int = 0, config: PipelineConfig | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The demo on the simulated squeeze market and, if `K4_REAL_DATA` names them, on real bars; JSON-able."""
    from k4_pipeline.market.sources.simulated import simulate

    config = config or demo_config(seed)
    real = real_file()
    total, finished = 4 if real is not None else 2, 0

    def done() -> None:
        nonlocal finished
        finished += 1
        if progress is not None:
            progress(finished, total)

    markets = [
        compare_on(
            "the simulated squeeze market",
            production.build_from_raw(simulate(config.simulation), config),
            SIMULATED_AS_OF,
            seed,
            done,
        )
    ]
    if real is not None:
        frame = pd.read_parquet(real).assign(source=real.name)
        names = frame["ticker"].drop_duplicates().to_numpy(dtype=object)
        chosen = np.random.default_rng([seed, 23]).choice(names, min(REAL_TICKERS, len(names)), replace=False)
        part = frame[frame["ticker"].isin(chosen)].reset_index(drop=True)
        title = f"real US bars ({len(chosen)} tickers, K4 = +15% within 30 bars)"
        path = production.build_from_raw(RawBars(part), real_config(config))
        markets.append(compare_on(title, path, REAL_AS_OF, seed, done))
    return {"seed": seed, "markets": markets, "in_words": in_words(markets)}
