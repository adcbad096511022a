"""A year of nights on a small market with a fast clock: nightly runs of one home, in this process.

Patterns are many and races short, so that a year of two dozen tickers matures hundreds of signals. The certificate is
the product's own. `python -m k4_pipeline_tests.simulated_nights --seeds 8 --out FILE.json` plays several markets, each
with and without a change, and counts how often certificate and drift raise an alarm.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from k4_pipeline.config import K3, K4, K5, LabelConfig, PipelineConfig, SimulationConfig
from k4_pipeline.defs import night
from k4_pipeline.defs.graph import FULL_NIGHT_ASSETS
from k4_pipeline.defs.instance import create_home
from k4_pipeline.defs.night import Played, play_night
from k4_pipeline.defs.run import run_graph
from k4_pipeline.defs.staging import load_json, load_table
from k4_pipeline.evaluation.ledger import LEDGER_KEY, open_ledger
from k4_pipeline.market.sources.simulated import simulate
from k4_pipeline.report import monitor
from k4_pipeline.settings import Settings
from k4_pipeline.storage import ArtifactStore, atomic
from k4_pipeline_tests.serving_home import BAR_COLUMNS, config_on, serve_a_model, write_until

N_TICKERS, N_BARS, NIGHTS = 24, 800, 252
MANY = 48  # tickers of a campaign: with fewer, every other market has no certificate to judge
LONG = 1300  # bars: a year of look-back before most of the train rows, as real histories have
MOST_WITHOUT = 4  # markets of one seed in which nothing was certified
CALM = 0.15  # of the usual moves, in the market that changes


def market(seed: int = 3, n_bars: int = N_BARS, n_tickers: int = N_TICKERS) -> pd.DataFrame:
    """Bars as a vendor sends them."""
    config = SimulationConfig(n_tickers=n_tickers, n_bars=n_bars, dirty=False, seed=seed)
    table = simulate(config).frame[BAR_COLUMNS]
    return table.assign(date=pd.to_datetime(table["date"]))


def calmed(bars: pd.DataFrame, after: pd.Timestamp) -> pd.DataFrame:
    """The same bars with moves of `CALM` times their size after that day: breakouts do not come any more."""
    parts = []
    for _, own in bars.sort_values(["ticker", "date"]).groupby("ticker"):
        prices = own[["open", "high", "low", "close"]].astype(float)
        late = (own["date"] > after).to_numpy()
        before = prices["close"].to_numpy()[np.maximum(np.arange(len(own)) - 1, 0)]
        moves = np.log(prices.to_numpy() / before[:, None]) * np.where(late, CALM, 1.0)[:, None]
        level = np.exp(np.cumsum(np.where(np.arange(len(own)) > 0, moves[:, 3], 0.0))) * before[0]
        base = np.concatenate([[before[0]], level[:-1]])
        new = np.where(late[:, None], np.exp(moves) * base[:, None], prices.to_numpy())
        # Up to the day every price stays as it was, to the last digit.
        parts.append(own.assign(**{name: new[:, i] for i, name in enumerate(prices.columns)}))
    return pd.concat(parts, ignore_index=True)


def settings_of(file: Path) -> PipelineConfig:
    """Loose patterns, races of 15 bars, a logit: certified by the product on what it had not seen."""
    config = config_on(file)
    return dataclasses.replace(
        config,
        patterns=dataclasses.replace(
            config.patterns,
            min_history_bars=120,
            qualifying_bars=3,
            bbw_percentile_max=0.6,
            min_other=1,
            max_active_bars=12,
        ),
        labels=dataclasses.replace(
            config.labels, horizon_bars=15, gain_thresholds=(0.005, 0.01, 0.02, 0.03), stop_loss=0.05
        ),
        split=dataclasses.replace(config.split, validation_months=9, min_train_rows=30, test_months=1),
        recipe=dataclasses.replace(
            config.recipe, members=("logit",), context=True, stopping_frac=0.0, calibration="level"
        ),
        tiers=dataclasses.replace(config.tiers, multiples=(1.5, 1.3, 1.1), coverages=(0.3, 0.5), min_rows=5),
        serving=dataclasses.replace(config.serving, excluded_kinds=(), min_dollar_volume=0.0, list_rows=3),
    )


@dataclasses.dataclass
class Home:
    """A home, the file its source reads, and the days of the market."""

    settings: Settings
    file: Path
    days: list[pd.Timestamp]

    @property
    def store(self) -> ArtifactStore:
        """Its artifacts."""
        return ArtifactStore(self.settings.artifacts_dir)

    def json(self, asset: str, name: str) -> Any:
        """A JSON file of a current version."""
        return load_json(self.store.current(asset), name)


def begin(folder: Path, bars: pd.DataFrame, nights: int = NIGHTS) -> Home:
    """Train on what lies before the last `nights` sessions, and the first night as a full run."""
    days = sorted(bars["date"].unique())
    file = folder / "bars.parquet"
    write_until(bars, days[-nights - 1], file)
    settings = serve_a_model(folder / "home", settings_of(file), str(pd.Timestamp(days[-nights]).date()))
    write_until(bars, days[-nights], file)
    create_home(settings)
    outcome = run_graph(settings, FULL_NIGHT_ASSETS, as_of=None, log=folder / "full.log")
    assert outcome.success, outcome.errors
    return Home(settings, file, days[-nights:])


def play(home: Home, bars: pd.DataFrame, days: list[pd.Timestamp]) -> Iterator[tuple[pd.Timestamp, Played]]:
    """One night after the other."""
    for day in days:
        write_until(bars, day, home.file)
        played = play_night(home.settings)
        assert played.outcome.success, played.outcome.errors
        yield day, played


def without_waiting_for_the_disk(use: Callable[[Any, str, Any], None] = setattr) -> None:
    """A power cut is not simulated: no file is forced to the disk."""
    use(atomic, "fsync_path", lambda path: None)


def without_pages(use: Callable[[Any, str, Any], None] = setattr) -> None:
    """Nobody reads a page of these nights: no list of the day, no page of the monitor; a third of a night's time."""
    use(night, "NIGHTLY_ASSETS", tuple(name for name in night.NIGHTLY_ASSETS if name != "todays_list"))
    use(monitor, "write_monitor_page", lambda shown, folder: folder / "monitor" / "monitor.html")


def alarms(home: Home, bars: pd.DataFrame, days: list[pd.Timestamp], until: float = math.inf) -> dict[str, Any]:
    """On which nights certificate and drift first raised an alarm, counted from 0; None: never. Stops at `until` of
    `time.monotonic`; `nights` says how many were played."""
    first: dict[str, int | None] = {"certificate": None, "drift": None}
    drifted, played = 0, 0
    for n, _ in enumerate(play(home, bars, days)):
        tiers, drift = home.json("signal_outcomes", "monitor.json")["tiers"], home.json("drift", "drift.json")
        drifted += bool(drift["why"])
        played = n + 1
        if first["certificate"] is None and any(t["claim_holds"] is False for t in tiers):
            first["certificate"] = n
        if first["drift"] is None and drift["in_a_row"] >= home.settings.config.serving.drift_lasting_nights:
            first["drift"] = n
        if time.monotonic() > until:
            break
    judged = {t["tier"]: [t["hits_judged"], t["n_judged"], t["certified"]] for t in tiers if t["certified"]}
    return {**first, "nights": played, "nights_with_drift": drifted, "judged": judged}


def raced(own: pd.DataFrame, row: dict[str, Any], labels: LabelConfig) -> int:
    """The class of a ledger row from the bars of its ticker, oldest first: its race run bar by bar from the box as it
    was said."""
    gains, after = np.array(labels.gain_thresholds), own[own["date"] > row["snapshot_date"]].head(labels.horizon_bars)
    best, stopped = 0, False
    for high, low in zip(after["high"].astype(float), after["low"].astype(float)):
        if not stopped and low <= row["lower"] * (1 - labels.stop_loss):
            if best == 0:
                return K5
            stopped = True
        reached = int((high >= row["upper"] * (1 + gains)).sum())
        if stopped:
            best = K4 if best == K3 and reached == K4 else best
            if best != K3:
                return best
        else:
            best = max(best, reached)
            if best == K4:
                return best
    return best


def what_the_ledger_holds(home: Home, bars: pd.DataFrame, days: list[pd.Timestamp]) -> dict[str, Any]:
    """After the nights of `days`: rows, rows named twice, nights that are no session, matured rows, how many of them
    are not what the bars say afterwards, and rows whose race is over without having matured."""
    ledger, matured = open_ledger(home.settings.home).read(), load_table(home.store.current("signal_outcomes"))
    histories = {ticker: own.sort_values("date") for ticker, own in bars.groupby("ticker")}
    labels = home.settings.config.labels
    wrong = [r for r in matured.to_dict("records") if raced(histories[r["ticker"]], r, labels) != r["outcome_class"]]
    over = ledger["night"].isin(days[: -2 * labels.horizon_bars])
    return {
        "rows": len(ledger),
        "twice": int(ledger.duplicated(list(LEDGER_KEY)).sum()),
        "nights_with_signals": int(ledger["night"].nunique()),
        "no_session": int((~ledger["night"].isin(days)).sum()),
        "matured": len(matured),
        "matured_otherwise_than_the_bars": len(wrong),
        "over_and_not_matured": int(over.sum()) - int(matured["night"].isin(days[: -2 * labels.horizon_bars]).sum()),
    }


def campaign(seed: int, every: int = 1, seconds: float = math.inf) -> dict[str, Any]:
    """One market whose model has a certificate (the first of a few), as it is and with a change after 40 nights; in
    `seconds`, as many nights as there is time for."""
    without_waiting_for_the_disk()
    without_pages()
    began, out = time.monotonic(), {"seed": seed, "markets_without_certificate": -1, "certified": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while not out["certified"] and out["markets_without_certificate"] < MOST_WITHOUT:
            out["markets_without_certificate"] += 1
            bars = market(seed + 1000 * out["markets_without_certificate"], LONG, MANY)
            shutil.rmtree(folder / "home", ignore_errors=True)
            home = begin(folder, bars)
            certificate = home.json("champion_model", "certificate.json")
            out["certified"] = [t["tier"] for t in certificate["tiers"]]
        _say(out)
        out["before"] = alarms(home, bars, home.days[1:41:every])
        _say(out)
        kept = folder / "kept"
        shutil.copytree(home.settings.home, kept)
        left = began + seconds - time.monotonic()
        out["unchanged"] = alarms(home, bars, home.days[41::every], time.monotonic() + left / 2)
        played = [home.days[0], *home.days[1:41:every], *home.days[41::every][: out["unchanged"]["nights"]]]
        out["ledger"] = what_the_ledger_holds(home, bars, played)
        _say(out)
        shutil.rmtree(home.settings.home)
        shutil.copytree(kept, home.settings.home)
        changed = calmed(bars, home.days[40])
        out["changed"] = alarms(home, changed, home.days[41::every], began + seconds)
    return {**out, "seconds": round(time.monotonic() - began)}


def _say(known: dict[str, Any]) -> None:
    """What is known of a seed so far, for a campaign that is cut short."""
    print(json.dumps({"so_far": True, **known}), flush=True)


def main() -> None:
    """Several seeds in as many processes; written after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--every", type=int, default=1, help="play every n-th session")
    parser.add_argument("--seconds", type=float, default=math.inf, help="of each seed")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(asked.processes) as pool:
        waiting = [pool.submit(campaign, seed, asked.every, asked.seconds) for seed in range(asked.seeds)]
        for done in as_completed(waiting):
            rows.append(done.result())
            with_claim = [r for r in rows if r["certified"]]
            found = {
                "seeds": len(rows),
                "with_certificate": len(with_claim),
                "certificate_false_alarms": sum(r["unchanged"]["certificate"] is not None for r in with_claim),
                "certificate_detected": sum(r["changed"]["certificate"] is not None for r in with_claim),
                "drift_false_alarms": sum(r["unchanged"]["drift"] is not None for r in rows),
                "drift_detected": sum(r["changed"]["drift"] is not None for r in rows),
                "rows": sorted(rows, key=lambda r: r["seed"]),
            }
            asked.out.write_text(json.dumps(found, indent=1))
            print(json.dumps(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
