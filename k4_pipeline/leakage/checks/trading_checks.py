"""The backtest of the report against a second one: which rows a list took, when and at which price it was filled."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import BUYS, KEYS
from k4_pipeline.leakage.engine.audit import AuditContext, check, verdict_of
from k4_pipeline.leakage.engine.compare import Comparison
from k4_pipeline.leakage.oracles import trading as oracle
from k4_pipeline.market.bars import to_days
from k4_pipeline.verdict import Verdict

RACE = "label race"
RTOL = 1e-7
MAX_ROWS = 4000  # more are drawn evenly for the trades; the lists are read on all


def _report(context: AuditContext) -> dict[str, Any]:
    return context.extra["report"]


def _nudged(name: str) -> Any:
    def corrupt(context: AuditContext) -> AuditContext:
        report = json.loads(json.dumps(_report(context)))
        for result in report["trading"].get("results", []):
            if isinstance(result.get(name), (int, float)):
                result[name] += 1e-5 if isinstance(result[name], float) else 1
        return dataclasses.replace(context, extra={**context.extra, "report": report})

    corrupt.__name__ = f"another_{name}"
    return corrupt


def lists(rows: pd.DataFrame, context: AuditContext) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Beginning of a list's name in the report -> (rows it buys (n,) bool, who comes first (n,))."""
    days, share = to_days(rows["snapshot_date"]), context.config.trading.list_frac
    p, ev = rows["p_4"].to_numpy(), rows["ev"].to_numpy()
    return {
        f"model, top {share:.0%} by P(K4)": (oracle.chosen_up_to_now(p, days, share), p),
        f"model, top {share:.0%} by EV": (oracle.chosen_up_to_now(ev, days, share), ev),
        "model, signals above AVOID": (rows["signal"].isin(BUYS).to_numpy(), ev),
        "model, certified tiers above AVOID": (rows["tier"].isin(BUYS).to_numpy(), p),
        "buy all": (np.ones(len(rows), dtype=bool), np.zeros(len(rows))),
    }


@check(
    "report",
    proves="The lists of the backtest take what was among the best up to their own day, and its trades, fills, costs "
    "and returns under the label's race are reproduced by a second account.",
    misses="Other exits than the label's race, the random lists, the list by volatility, ratios of daily returns.",
    needs=("stored", "predictions", "metrics"),
    corruptions=tuple(_nudged(name) for name in ("candidates", "trades", "net_return", "mean_net")),
)
def the_backtest_is_reproduced_by_a_second_account(context: AuditContext) -> Verdict:
    """Trade every list again."""
    full, config, out = context.full, context.config, Comparison()
    assert full.predictions is not None
    results = _report(context)["trading"].get("results", [])
    test = full.predictions[full.predictions["split"] == "test"]
    rows = test.merge(full.labeled[[*KEYS, "upper", "lower", "power"]], on=KEYS, how="left", validate="1:1")
    by_name = lists(rows, context) if len(rows) else {}
    limits = config.labels, config.trading
    everything = oracle.orders_of(rows, np.zeros(len(rows)), full.bars, *limits) if len(rows) <= MAX_ROWS else []
    first = int(to_days(rows["snapshot_date"]).min()) if len(rows) else 0
    exits = [int(full.bars.date[order.exit_row]) for order in everything]
    last = max([first, *to_days(rows["snapshot_date"]).tolist(), *exits])
    for result in (r for r in results if r["exits"].startswith(RACE) and r["rule"] in by_name):
        chosen, score = by_name[result["rule"]]
        expected: dict[str, float] = {"candidates": int(chosen.sum())}
        if everything:
            orders = oracle.orders_of(rows[chosen].reset_index(drop=True), score[chosen], full.bars, *limits)
            expected |= oracle.account(orders, full.bars, first, last, config.trading)
        for name, again in expected.items():
            stored = result[name]
            undefined = again != again and (stored is None or stored != stored)
            value = np.nan if stored is None else float(stored)
            wrong = not undefined and not abs(value - again) <= RTOL * max(1.0, abs(again))
            text = f"backtest: {result['rule']}: {name} is {stored}, a second account gives {again:.9g}"
            out.add(1, int(wrong), [text] * wrong)
    out.add(int(not results), 0)
    return verdict_of(out, lists=len(by_name))
