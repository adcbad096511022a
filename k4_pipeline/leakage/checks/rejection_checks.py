"""Whether a row was refused for what was known on its own day, and not because of what came after it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from k4_pipeline.leakage.engine.audit import AuditContext, check, day_text
from k4_pipeline.market import parsing
from k4_pipeline.market.bars import Bars, to_dates
from k4_pipeline.pipeline import stages as production
from k4_pipeline.verdict import Verdict

_DAYS_PER_CUT = 4  # a cut here only cleans: cheaper than the cuts that rebuild everything


def refused_days(rejects: pd.DataFrame, bars: Bars) -> pd.DataFrame:
    """ticker, day, reason of every (ticker, day) with a readable date that is in the rejects and has no kept bar.

    A ticker left out for too few bars grows with time and is left out here as well.
    """
    names = rejects["ticker"].astype(object).map(lambda t: str(t).strip())
    day = parsing.days(rejects["date"], rejects["source"])
    out = pd.DataFrame({"ticker": names.to_numpy(dtype=object), "day": day, "reason": rejects["reason"].astype(object)})
    known = set(map(str, bars.tickers))
    out = out[(out["day"] > 0) & out["ticker"].isin(known)].drop_duplicates(["ticker", "day"])
    return out[bars.locate(out["ticker"], out["day"].to_numpy()) < 0].reset_index(drop=True)


def chosen_days(refused: pd.DataFrame, count: int, rng: np.random.Generator) -> np.ndarray:
    """Up to `count` days, every reason in its turn, so that a rare reason is looked at as well as a common one."""
    queues = [
        rng.permutation(np.unique(part["day"].to_numpy())).tolist() for _, part in refused.groupby("reason", sort=True)
    ]
    days: set[int] = set()
    while len(days) < count and any(queues):
        for queue in queues:
            if queue and len(days) < count:
                days.add(int(queue.pop()))
    return np.array(sorted(days), dtype=np.int64)


def _refuse_a_last_bar(context: AuditContext) -> AuditContext:
    """The last bar of the first listing goes to the rejects, for a reason nobody had on that day."""
    bars, rejects = context.full.bars, context.full.rejects
    assert rejects is not None
    frame = bars.to_frame()
    at = int(bars.offsets[1]) - 1
    row = frame.iloc[[at]].assign(
        date=str(pd.Timestamp(to_dates(bars.date[at : at + 1])[0]).date()), reason="it was the last", source="self-test"
    )
    kept = Bars.from_frame(frame.drop(index=at).reset_index(drop=True))
    table = pd.concat([rejects, row.reindex(columns=rejects.columns)], ignore_index=True)
    return context.with_full(bars=kept, rejects=table)


@check(
    "bars",
    proves="Every refused row (of sampled days, each reason in its turn) is refused as well when the rows sent end "
    "with its day: no bar was taken out because of what followed it.",
    misses="Refusals that other days than the sampled ones would show; the detail counts both.",
    needs=("raw",),
    corruptions=(_refuse_a_last_bar,),
)
def no_row_is_refused_in_hindsight(context: AuditContext) -> Verdict:
    """Clean the rows sent up to the day of a refusal; that day's refused bars may not be there."""
    name = "no_row_is_refused_in_hindsight"
    full = context.full
    assert full.raw is not None
    assert full.rejects is not None
    refused = refused_days(full.rejects, full.bars)
    days = chosen_days(refused, _DAYS_PER_CUT * context.sample.cut_dates, context.rng(12))
    # Early cuts leave little: the limits that protect a user from a broken file are not what is asked here.
    lenient = dataclasses.replace(
        context.config, cleaning=dataclasses.replace(context.config.cleaning, min_bars=1, max_rejected_frac=1.0)
    )
    findings, cases = [], 0
    for day in days:
        mine = refused[refused["day"] == day]
        again = production.clean(production.cut_raw(full.raw, int(day)), lenient, context.today).bars
        kept = again.locate(mine["ticker"], np.full(len(mine), day)) >= 0
        cases += len(mine)
        findings += [
            f"daily_bars: {row.ticker} {day_text(int(day))}: refused ({row.reason}), without the future (rows cut at "
            "this day) it is kept; it was refused because of later rows"
            for row in mine[kept].itertuples()
        ]
    if not len(refused):  # nothing was refused: that is the case looked at
        cases = len(full.bars)
    return Verdict.of(name, cases, findings, days=len(days), of_days=int(refused["day"].nunique()))
