"""Leaks in the sequences: the window, its mask and padding, its geometry, and the model inputs made from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import MEAN_VOLUME_BARS, PatternConfig
from k4_pipeline.features.spec import FEATURES
from k4_pipeline.market.bars import Bars
from k4_pipeline_tests.mutations.registry import Wrapper, register

INDEX = "sequences.windows.index_sequences"
INPUTS = "sequences.model_inputs.assemble_inputs"
_REPLAY = ("model_inputs_equal_an_independent_computation", "every_snapshot_is_reproduced_as_the_last_bar")
_PRICE_LEVELS = [f.position for f in FEATURES if f.scale == "price_level"]


def _indexed(edit: Callable[[pd.DataFrame, Bars], pd.DataFrame]) -> Wrapper:
    def wrapper(
        original: Callable[..., pd.DataFrame], bars: Bars, snapshots: pd.DataFrame, **kwargs: Any
    ) -> pd.DataFrame:
        return edit(original(bars, snapshots, **kwargs), bars)

    return wrapper


def _in_reverse(
    original: Callable[..., pd.DataFrame], bars: Bars, snapshots: pd.DataFrame, **kwargs: Any
) -> pd.DataFrame:
    return original(bars, snapshots.iloc[::-1], **kwargs).iloc[::-1].reset_index(drop=True)


_BENIGN: dict[str, Any] = {"benign": _in_reverse, "benign_does": "the snapshots are indexed in reverse order"}


def _last_rows(frame: pd.DataFrame, bars: Bars) -> np.ndarray:
    return bars.offsets[np.searchsorted(bars.offsets, frame["end_row"].to_numpy(), side="right")] - 1


def _next_row(frame: pd.DataFrame, bars: Bars) -> np.ndarray:
    return np.minimum(frame["end_row"].to_numpy() + 1, _last_rows(frame, bars))


register(
    "window_ends_one_bar_late",
    stage="sequences",
    where=INDEX,
    description="the fifty bars end with the bar after the snapshot",
    expected=_REPLAY,
    leak=_indexed(lambda frame, bars: frame.assign(end_row=_next_row(frame, bars))),
    **_BENIGN,
)
register(
    "mask_shifted_by_one",
    stage="sequences",
    where=INDEX,
    description="the mask is shifted: one bar less counts as valid, and the first of the window is taken for padding",
    expected=("model_inputs_equal_an_independent_computation", "every_snapshot_is_reproduced_as_the_last_bar"),
    leak=_indexed(lambda frame, bars: frame.assign(n_valid=np.maximum(frame["n_valid"] - 1, 1))),
    **_BENIGN,
)


def _price_of_the_next_bar(frame: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    return frame.assign(close_at_snapshot=bars.close[_next_row(frame, bars)])


register(
    "prices_relative_to_the_next_close",
    stage="sequences",
    where=INDEX,
    description="the price level of the model input is measured against the close after the snapshot",
    expected=_REPLAY,
    leak=_indexed(_price_of_the_next_bar),
    **_BENIGN,
)


def _volume_of_all_years(frame: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    means = np.add.reduceat(bars.volume, bars.offsets[:-1]) / np.diff(bars.offsets)
    return frame.assign(mean_volume=means[np.searchsorted(bars.offsets, frame["end_row"], side="right") - 1])


register(
    "volume_relative_to_all_years",
    stage="sequences",
    where=INDEX,
    description=f"volumes are measured against the mean of the whole history, not of the last {MEAN_VOLUME_BARS} bars",
    expected=_REPLAY,
    leak=_indexed(_volume_of_all_years),
    **_BENIGN,
)


def _width_after(frame: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    n, last = PatternConfig.prior_range_bars, _last_rows(frame, bars)
    spans = [slice(a + 1, min(a + 1 + n, b + 1)) for a, b in zip(frame["end_row"], last)]
    width = [bars.high[s].max() - bars.low[s].min() if s.stop > s.start else np.nan for s in spans]
    return frame.assign(prior_width=np.array(width, dtype=np.float64))


register(
    "range_after_instead_of_before",
    stage="sequences",
    where=INDEX,
    description="the narrowing of the channel is measured against the range of the bars that follow",
    expected=_REPLAY,
    leak=_indexed(_width_after),
    **_BENIGN,
)


def _with_labels(edit: Callable[[pd.DataFrame, pd.Series], pd.DataFrame]) -> Wrapper:
    """Index with the outcome of each snapshot at hand (NaN while open)."""

    def wrapper(
        original: Callable[..., pd.DataFrame], bars: Bars, snapshots: pd.DataFrame, **kwargs: Any
    ) -> pd.DataFrame:
        from k4_pipeline.config import LabelConfig
        from k4_pipeline.patterns.labels import label_snapshots

        frame = original(bars, snapshots, **kwargs)
        outcome = label_snapshots(bars, snapshots, LabelConfig(horizon_bars=20))["outcome_class"]
        return edit(frame, outcome.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan))

    return wrapper


register(
    "label_in_the_input",
    stage="sequences",
    where=INDEX,
    description="the outcome class stands in the place of the range before the pattern",
    expected=_REPLAY,
    leak=_with_labels(lambda frame, outcome: frame.assign(prior_width=outcome + 1.0)),
    **_BENIGN,
)


def _encoded(frame: pd.DataFrame, outcome: np.ndarray) -> pd.DataFrame:
    mean = pd.Series(outcome).groupby(frame["ticker"].to_numpy()).transform("mean").to_numpy()
    return frame.assign(prior_width=frame["prior_width"] * (1.0 + np.nan_to_num(mean)))


register(
    "ticker_encoded_by_its_outcomes",
    stage="sequences",
    where=INDEX,
    description="target encoding: a geometry column carries the mean outcome of the ticker over all years",
    expected=_REPLAY,
    leak=_with_labels(_encoded),
    **_BENIGN,
)


def _as_batch(edit: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Wrapper:
    """Model inputs (b, 50, 69) edited with their mask (b, 50), in the buffers of the caller."""

    def wrapper(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        x, mask = original(*args, **kwargs)
        x[...] = edit(x, mask)
        return x, mask

    return wrapper


def _standardised(x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    if len(x) < 2:
        return x
    return (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-3)


register(
    "inputs_standardised_over_the_batch",
    stage="sequences",
    where=INPUTS,
    description="model inputs are standardised with the statistics of their own batch",
    expected=("predictions_do_not_depend_on_their_batch", "every_snapshot_is_reproduced_as_the_last_bar"),
    leak=_as_batch(_standardised),
    benign=_as_batch(lambda x, mask: x * np.float32(1.0)),
    benign_does="model inputs are multiplied by one",
)


def _absolute_levels(
    original: Callable[..., Any], panel: Any, index: Any, rows: Any, scaler: Any, *a: Any, **k: Any
) -> Any:
    x, mask = original(panel, index, rows, scaler, *a, **k)
    level = np.log(index.geometry[np.asarray(rows), 6])  # close at the snapshot
    x[:, :, _PRICE_LEVELS] += (mask[:, :, None] * level[:, None, None]).astype(np.float32) * np.float32(0.1)
    return x, mask


register(
    "price_level_in_the_model_input",
    stage="sequences",
    where=INPUTS,
    description="price channels keep the back-adjusted level, which later splits have set",
    expected=("the_unit_of_prices_does_not_matter", "model_inputs_equal_an_independent_computation"),
    leak=_absolute_levels,
    benign=_as_batch(lambda x, mask: x + np.float32(0.0)),
    benign_does="zero is added to the model inputs",
)


def _padded_from_the_next(original: Callable[..., Any], panel: Any, index: Any, rows: Any, *a: Any, **k: Any) -> Any:
    x, mask = original(panel, index, rows, *a, **k)
    # Patterns need 119 bars, so that scanned snapshots have no padding: the oldest bar is taken for some.
    pad = max(1, int((~mask).sum(axis=1).max(initial=0)))
    if len(x) > 1:
        x[:, :pad] = np.roll(x, -1, axis=0)[:, -pad:]
    return x, mask


register(
    "padding_from_the_next_sequence",
    stage="sequences",
    where=INPUTS,
    description="padding, and with it the oldest bar of the window, holds the newest bars of the next sequence",
    expected=("predictions_do_not_depend_on_their_batch", "model_inputs_equal_an_independent_computation"),
    leak=_padded_from_the_next,
    benign=_as_batch(lambda x, mask: x * mask[:, :, None]),
    benign_does="the padding is multiplied by its mask once more",
)
