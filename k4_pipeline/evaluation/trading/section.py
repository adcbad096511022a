"""The backtest of one as-of date: the model's lists beside rankings by volatility, buying all, and random draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import BUYS, K4, IntegrityConfig, LabelConfig, PipelineConfig, TradingConfig
from k4_pipeline.evaluation.bootstrap import cluster_weights, interval
from k4_pipeline.evaluation.trading import orders, portfolio
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.progress import Progress

RANDOM = "random draws of the same number"
FEW_TRADES = 10  # the bootstrap of fewer gives an interval that is too narrow to be believed


def best_so_far(score: np.ndarray, dates: np.ndarray, share: float) -> np.ndarray:
    """Rows (n,) bool whose score lies in the best `share` of everything dated up to their own day: no look ahead."""
    chosen = np.zeros(len(score), dtype=bool)
    order = np.argsort(dates, kind="stable")
    seen: np.ndarray = np.empty(0)
    for day_rows in np.split(order, np.flatnonzero(np.diff(dates[order].astype(np.int64))) + 1):
        seen = np.sort(np.concatenate([seen, score[day_rows]]))
        chosen[day_rows] = score[day_rows] >= seen[len(seen) - int(np.ceil(share * len(seen)))]
    return chosen


def lists(rows: pd.DataFrame, config: TradingConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name -> (rows to buy (n,) bool, score that decides who comes first). The first list is the headline's."""
    dates = rows["snapshot_date"].to_numpy()
    p_k4 = rows[f"p_{K4}"].to_numpy()
    volatility = np.nan_to_num(rows["volatility"].to_numpy(), nan=-1.0)
    top = f"top {config.list_frac:.0%}"
    made = {
        f"model, {top} by P(K4)": (best_so_far(p_k4, dates, config.list_frac), p_k4),
        f"model, {top} by EV": (best_so_far(rows["ev"].to_numpy(), dates, config.list_frac), rows["ev"].to_numpy()),
        "model, signals above AVOID": (rows["signal"].isin(BUYS).to_numpy(), rows["ev"].to_numpy()),
    }
    if "tier" in rows:
        made["model, certified tiers above AVOID"] = (rows["tier"].isin(BUYS).to_numpy(), p_k4)
    made[f"volatility, {top}"] = (best_so_far(volatility, dates, config.list_frac), volatility)
    made["buy all"] = (np.ones(len(rows), dtype=bool), np.zeros(len(rows)))
    return made


def backtest(
    rows: pd.DataFrame, bars: Bars, config: PipelineConfig, *, progress: Progress | None = None
) -> dict[str, Any]:
    """The section `trading` of a report.

    `rows`: predictions of the test span with volatility, upper, lower and power. Every list is traded under every exit
    rule's orders; the comparison lists under the label's race alone. Nothing to trade gives `left_out`.
    """
    trading: TradingConfig = config.trading
    if rows.empty:
        return {"left_out": "There is no test snapshot to trade."}
    asked, known = len(rows), bars.locate(rows["ticker"], to_days(rows["snapshot_date"])) >= 0
    rows = rows[known].reset_index(drop=True)
    if rows.empty:
        left_out = f"None of the {asked:,} snapshots has a bar here: they are of another market."
        return {"left_out": f"{left_out} Make the predictions anew (`k4 run`), and give each market a --home."}
    made = lists(rows, trading)
    main = next(iter(made))
    by_exit = {name: orders.simulate(rows, bars, name, config.labels, trading) for name in orders.EXITS}
    race = by_exit[orders.LABEL_RACE]
    calendar = portfolio.calendar_of(race, bars)
    results, curves, months = [], [], []
    todo = [(main, exits) for exits in by_exit] + [(name, orders.LABEL_RACE) for name in made if name != main]
    for done, (name, exits) in enumerate(todo):
        chosen, score = made[name]
        account = portfolio.run(by_exit[exits].assign(score=score)[chosen], bars, calendar, trading)
        results.append(_result(name, exits, account, chosen, config.integrity, headline=done == 0))
        if exits == orders.LABEL_RACE:
            curves.append(portfolio.curve(name, account))
        if done == 0:
            months = portfolio.monthly(account)
        if progress is not None:
            progress(done + 1, len(todo) + 1)
    results.append(_random(race, made[main][0], bars, calendar, trading, results[0]["mean_net"]))
    if progress is not None:
        progress(len(todo) + 1, len(todo) + 1)
    return {
        "results": results,
        "curves": [c for c, r in zip(curves, [r for r in results if r["exits"] == orders.LABEL_RACE]) if r["trades"]],
        "monthly": months,
        "in_words": [*in_words(results), *_without_bars(asked - len(rows), asked)],
        "assumptions": assumptions(trading, config.labels),
    }


def _without_bars(missing: int, asked: int) -> list[str]:
    return [f"{missing:,} of {asked:,} snapshots have no bar here and are left out."] if missing else []


def _result(
    name: str, exits: str, account: portfolio.Account, chosen: np.ndarray, config: IntegrityConfig, *, headline: bool
) -> dict[str, Any]:
    taken, low, high = account.taken, float("nan"), float("nan")
    if len(taken) >= FEW_TRADES:
        net = taken["net"].to_numpy()
        weights = cluster_weights(
            taken["ticker"].to_numpy(dtype=object),
            config.bootstrap_draws,
            config.seed,
            taken["snapshot_date"].to_numpy(),
        )
        low, high = interval(
            lambda w: float(w @ net / w.sum()) if w.sum() else float("nan"), weights, config.confidence
        )
    return {
        "rule": name,
        "exits": exits,
        "headline": headline,
        "candidates": int(chosen.sum()),
        **portfolio.facts(account),
        "low": low,
        "high": high,
    }


def _random(
    race: pd.DataFrame, chosen: np.ndarray, bars: Bars, calendar: np.ndarray, config: TradingConfig, main: float
) -> dict[str, Any]:
    """The middle of many random lists as long as the model's, measure by measure; `low` and `high` hold 95% of them.

    `beaten`: the share of them whose mean trade lies below `main`, that of the model's list.
    """
    rng = np.random.default_rng(config.seed)
    size = int(chosen.sum())
    drawn = []
    for _ in range(config.random_draws):
        pick = rng.choice(len(race), size=min(size, len(race)), replace=False)
        scored = race.iloc[np.sort(pick)].assign(score=rng.random(len(pick)))
        drawn.append(portfolio.facts(portfolio.run(scored, bars, calendar, config)))
    table = pd.DataFrame(drawn)
    known = table["mean_net"].dropna().to_numpy()
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (float("nan"), float("nan"))
    middle = {name: float(value) for name, value in table.median().items()}
    return {
        "rule": RANDOM,
        "exits": orders.LABEL_RACE,
        "headline": False,
        "candidates": size,
        **middle,
        "trades": round(middle["trades"]),
        "low": float(low),
        "high": float(high),
        "draws": config.random_draws,
        "beaten": float((known < main).mean()) if len(known) else float("nan"),
    }


def in_words(results: list[dict[str, Any]]) -> list[str]:
    """The result of the headline's list, whether it lost money, and against what it lost or won."""
    main = results[0]
    if not main["trades"]:
        return [f"{main['rule']}: no order was filled, so there is nothing to judge."]
    what = "lost money" if main["net_return"] < 0 else "made money"
    sizes = ", which differ in size" if main["net_return"] * main["mean_net"] < 0 else ""
    count = "one trade" if main["trades"] == 1 else f"{main['trades']:,} trades"
    lines = [
        f"{main['rule']}, exit by the {main['exits']}: it {what} after costs, {main['net_return']:+.1%} in {count} "
        f"(mean {main['mean_net']:+.2%} a trade{sizes}, worst drawdown {main['max_drawdown']:.1%}).",
        _edge(main),
    ]
    race = [r for r in results[1:] if r["exits"] == main["exits"] and not r["rule"].startswith("model") and r["trades"]]
    better = [r["rule"] for r in race if r["mean_net"] >= main["mean_net"]]
    if better:
        lines.append(f"Per trade it did not beat: {', '.join(better)}.")
    elif race:
        lines.append(
            f"Per trade it earned more than {', '.join(r['rule'] for r in race)}; the intervals say how surely."
        )
    drawn = next((r for r in results if r["rule"] == RANDOM and np.isfinite(r["mean_net"])), None)
    if drawn:
        lines.append(
            f"{drawn['beaten']:.0%} of {drawn['draws']} lists of the same length drawn at random earned less a trade."
        )
    return lines


def _edge(main: dict[str, Any]) -> str:
    """What the interval of the mean trade says, and nothing beyond it."""
    low, high = main["low"], main["high"]
    if not np.isfinite(low):
        return f"Fewer than {FEW_TRADES} trades give no interval that could be believed: they show nothing."
    span = f"The interval of the mean trade, {low:+.2%} to {high:+.2%},"
    if high < 0:
        return f"{span} lies wholly below zero: this list loses money after costs."
    if low > 0:
        return f"{span} lies above zero."
    return f"{span} holds zero: these trades do not show an edge after costs."


def assumptions(config: TradingConfig, labels: LabelConfig) -> list[str]:
    """What was assumed, in sentences."""
    return [
        f"Entry: a buy-stop at the power line for {config.entry_bars} bars from the one after the snapshot, filled at "
        f"the open after a gap. Stop: {labels.stop_loss:.0%} below the box, as in the label. Exit at the latest "
        f"{labels.horizon_bars} bars after the snapshot. A bar that touches stop and target counts as stopped.",
        f"At most {config.max_positions} positions of equal size, one per ticker, none above "
        f"{config.max_participation:.0%} of the median daily dollar volume for a capital of {config.capital:,.0f}. A "
        f"list takes the best {config.list_frac:.0%} of everything ranked up to that day; nothing later decides.",
        f"Costs each way: {config.commission:.2%} commission and {config.slippage[0]:.2%} to {config.slippage[-1]:.2%} "
        "slippage by dollar volume. No financing, taxes, dividends or borrow. A ticker whose bars end is sold at its "
        f"last close. Random draws: each figure is the median of {config.random_draws} lists of the same length, the "
        f"interval holds 95% of them. Fewer than {FEW_TRADES} trades get no interval.",
    ]
