"""Leaks that a red team tried on the finished audit: hindsight in what is left out, and a report that flatters.

Most remove rows instead of changing values, which a replay sees only when a cut falls between the row and its reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.verdict import Verdict
from k4_pipeline_tests.mutations.recorder import passed_on
from k4_pipeline_tests.mutations.registry import Wrapper, register

_CLEAN = "market.cleaning.clean_bars"
_SAMPLE = "patterns.snapshots.sample_snapshots"
_REFUSED = ("no_row_is_refused_in_hindsight",)
_SCANNED = ("snapshots_are_those_of_an_independent_scan",)
_REPORT = ("baseline_and_intervals_follow_from_the_stored_rows",)
_SELF_TEST = ("every_check_can_fail",)


def _refusing(choose: Callable[[Bars], np.ndarray], reason: str) -> Wrapper:
    """Cleaning that also refuses the bars that `choose` (n,) names, with a reason, so that nothing is lost."""

    def wrapper(original: Callable[..., Any], raw: Any, config: Any, **kwargs: Any) -> Any:
        result = original(raw, config, **kwargs)
        gone = choose(result.bars)
        if not gone.any():
            return result
        frame = result.bars.to_frame()
        refused = frame[gone].assign(reason=reason, source="cleaning")
        refused["date"] = refused["date"].dt.strftime("%Y-%m-%d")
        table = pd.concat([result.rejects, refused.reindex(columns=result.rejects.columns)], ignore_index=True)
        bars = Bars.from_frame(frame[~gone].reset_index(drop=True))
        return dataclasses.replace(result, bars=bars, rejects=table)

    return wrapper


def _last_of_a_dead_listing(bars: Bars) -> np.ndarray:
    gone = np.zeros(len(bars), dtype=bool)
    last = bars.offsets[1:] - 1
    gone[last[bars.date[last] < bars.last_day - 5]] = True
    return gone


def _returns(bars: Bars) -> np.ndarray:
    """Log return of every bar, 0 on a ticker's first."""
    change = np.diff(np.log(bars.close), prepend=np.log(bars.close[0]))
    change[bars.offsets[:-1]] = 0.0
    return change


def _spike_that_reverts(bars: Bars) -> np.ndarray:
    change = _returns(bars)
    after = np.append(change[1:], 0.0)
    after[bars.offsets[1:] - 1] = 0.0
    return (np.abs(change) > 0.06) & (np.abs(after) > 0.05) & (change * after < 0)


def _spike_after_a_spike(bars: Bars) -> np.ndarray:
    change = _returns(bars)
    before = np.append(0.0, change[:-1])
    before[bars.offsets[:-1]] = 0.0
    return (np.abs(change) > 0.06) & (np.abs(before) > 0.05) & (change * before < 0)


register(
    "last_bar_of_a_listing_refused",
    stage="bars",
    where=_CLEAN,
    description="the last bar of every delisted ticker is refused: it is the last one only in hindsight",
    expected=_REFUSED,
    leak=_refusing(_last_of_a_dead_listing, "last bar of a listing"),
    benign=_refusing(lambda bars: np.zeros(len(bars), dtype=bool), "none"),
    benign_does="the same code refuses no bar",
)
register(
    "spike_refused_when_the_next_bar_reverts",
    stage="bars",
    where=_CLEAN,
    description="a bar that jumps is refused when the bar after it comes back",
    expected=_REFUSED,
    leak=_refusing(_spike_that_reverts, "close is infinite"),
    benign=_refusing(_spike_after_a_spike, "close is infinite"),
    benign_does="a bar that comes back from a jump of the day before is refused",
)


def _leaving_out(choose: Callable[[Bars, Any, np.ndarray, pd.DataFrame], np.ndarray]) -> Wrapper:
    """Snapshots without those that `choose(bars, patterns, bar rows, snapshots)` names."""

    def wrapper(original: Callable[..., Any], bars: Bars, patterns: Any, config: Any) -> Any:
        result = original(bars, patterns, config)
        made = result.snapshots
        rows = bars.locate(made["ticker"], to_days(made["snapshot_date"]))
        gone = choose(bars, patterns, rows, made)
        return dataclasses.replace(result, snapshots=made[~gone].reset_index(drop=True))

    return wrapper


def _eve_of_the_end(bars: Bars, patterns: Any, rows: np.ndarray, made: pd.DataFrame) -> np.ndarray:
    ends = patterns.end_row[patterns.end_row >= 0]
    return np.isin(rows, ends - 1) & (made["bars_active"] > 0).to_numpy()


def _before_a_jump(bars: Bars, patterns: Any, rows: np.ndarray, made: pd.DataFrame) -> np.ndarray:
    after = np.append(_returns(bars)[1:], 0.0)
    after[bars.offsets[1:] - 1] = 0.0
    return np.abs(after[rows]) > 0.08


register(
    "eve_of_the_breakout_left_out",
    stage="patterns",
    where=_SAMPLE,
    description="the snapshot of the bar before a pattern ends is left out",
    expected=_SCANNED,
    leak=_leaving_out(_eve_of_the_end),
    benign=_leaving_out(lambda bars, patterns, rows, made: np.zeros(len(made), dtype=bool)),
    benign_does="the same code leaves none out",
)
register(
    "snapshots_before_a_jump_left_out",
    stage="patterns",
    where=_SAMPLE,
    description="snapshots are left out when the next bar jumps by more than 8%, as if the data were wrong",
    expected=_SCANNED,
    leak=_leaving_out(_before_a_jump),
    benign=_leaving_out(lambda bars, patterns, rows, made: np.zeros(len(made), dtype=bool)),
    benign_does="the same code leaves none out",
)


def _one_failure_lost(original: Callable[..., pd.DataFrame], *args: Any, **kwargs: Any) -> pd.DataFrame:
    labeled = original(*args, **kwargs)
    failed = np.flatnonzero((labeled["outcome_class"] == 5).fillna(False).to_numpy())
    gone = failed[len(failed) // 2 :][:1]
    return labeled.drop(index=labeled.index[gone]).reset_index(drop=True)


register(
    "a_failed_row_is_lost",
    stage="labels",
    where="patterns.labels.label_snapshots",
    description="one row that failed is missing from the labelled snapshots",
    expected=("membership_follows_from_dates_alone", "everything_is_reproduced_from_bars_cut_at_a_date"),
    leak=_one_failure_lost,
    benign=lambda original, *args, **kwargs: original(*args, **kwargs).copy(),
    benign_does="the table is copied",
)


def _train_on_validation_too(
    original: Callable[..., Any], model: Any, training: Any, loss: Any, train_set: Any, validation_set: Any, **k: Any
) -> Any:
    from k4_pipeline.sequences.dataset import SequenceDataset

    rows = np.concatenate([train_set.rows, validation_set.rows])
    targets = np.concatenate([train_set.targets, validation_set.targets])
    both = SequenceDataset(train_set.panel_values, train_set.index, rows, train_set.scaler, targets=targets)
    result = original(model, training, loss, both, validation_set, **k)
    return dataclasses.replace(result, class_counts=np.bincount(train_set.targets, minlength=6).tolist())


register(
    "validation_rows_are_trained_on",
    stage="fit",
    where="training.loop.train",
    description="the validation rows are trained on as well, and the record names the train rows only",
    expected=("validation_rows_move_no_weight",),
    leak=_train_on_validation_too,
    benign=passed_on,
    benign_does="the production function is called by a wrapper",
)


def _shuffled_baseline(original: Callable[..., pd.DataFrame], *args: Any) -> pd.DataFrame:
    out = original(*args)
    return out.assign(volatility=np.random.default_rng(0).permutation(out["volatility"].to_numpy()))


register(
    "baseline_made_worse",
    stage="predictions",
    where="evaluation.validation.volatility_at_snapshot",
    description="the volatility ranking that the model is measured against is shuffled",
    expected=_REPORT,
    leak=_shuffled_baseline,
    benign=lambda original, *args: original(*args).copy(),
    benign_does="the baseline is copied",
)


def _narrowed(share: float) -> Wrapper:
    def wrapper(original: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
        metrics = original(*args, **kwargs)
        model = {
            name: {
                **m,
                "low": m["value"] + share * (m["low"] - m["value"]),
                "high": m["value"] + share * (m["high"] - m["value"]),
            }
            for name, m in metrics["model"].items()
        }
        return {**metrics, "model": model}

    return wrapper


register(
    "intervals_made_narrow",
    stage="predictions",
    where="evaluation.metrics.evaluate",
    description="the intervals of the report are a tenth of what they are",
    expected=_REPORT,
    leak=_narrowed(0.1),
    benign=_narrowed(1.0),
    benign_does="the intervals are computed again with a factor of one",
)


@contextmanager
def _every_verdict_passes() -> Iterator[None]:
    def of(cls: type[Verdict], name: str, cases: int, findings: Any, **detail: Any) -> Verdict:
        return cls(name, True, int(cases), (), {**detail, "n_findings": 0})

    with mock.patch.object(Verdict, "of", classmethod(of)):
        yield


@contextmanager
def _verdicts_called_through() -> Iterator[None]:
    original = Verdict.of.__func__  # type: ignore[attr-defined]

    def of(cls: type[Verdict], *args: Any, **kwargs: Any) -> Verdict:
        return original(cls, *args, **kwargs)

    with mock.patch.object(Verdict, "of", classmethod(of)):
        yield


register(
    "every_verdict_passes",
    stage="audit",
    where="verdict.Verdict.of",
    description="the one function that makes verdicts is edited so that every check passes",
    expected=_SELF_TEST,
    leak=_every_verdict_passes,
    benign=_verdicts_called_through,
    benign_does="the function is called by a wrapper",
    patches=True,
)
register(
    "failures_count_as_passes",
    stage="audit",
    where="verdict.guarded",
    description="the function that runs a check is edited so that a failed verdict counts as passed",
    expected=_SELF_TEST,
    leak=lambda original, name, run: dataclasses.replace(original(name, run), passed=True),
    benign=passed_on,
    benign_does="the production function is called by a wrapper",
)


def _pass_all(original: Callable[..., list[Any]], *args: Any, **kwargs: Any) -> list[Any]:
    return [dataclasses.replace(test, status="passed") for test in original(*args, **kwargs)]


register(
    "integrity_tests_always_pass",
    stage="audit",
    where="evaluation.integrity.run_integrity_tests",
    description="the five integrity tests of the report are edited so that they always pass",
    expected=("the_integrity_tests_can_fail_and_pass",),
    leak=_pass_all,
    benign=lambda original, *args, **kwargs: list(original(*args, **kwargs)),
    benign_does="the list of tests is copied",
)
