"""The prediction ledger after its labels are known, the sequential test of a certificate, and drift before labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import K4
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation import drift, monitoring
from k4_pipeline.evaluation.ledger import first_of_pattern, ledger_rows, matured, open_ledger, record_night
from k4_pipeline.evaluation.sequential import precision_holds


def signals(night: str, n: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(6), n)
    tickers = [f"T{i:02d}" for i in range(n)]
    table = pd.DataFrame({"ticker": tickers, "pattern_id": [f"{t}|2024-01-02" for t in tickers]})
    table["start_date"], table["snapshot_date"] = pd.Timestamp("2024-01-02"), pd.Timestamp(night)
    table["signal"] = np.where(p[:, K4] > 0.2, "STRONG", "AVOID")
    table["ev"] = p @ np.array([-2, -0.2, 1, 3, 10, -10])
    for i in range(6):
        table[f"p_{i}"] = p[:, i]
    return table


def labels(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    p = rows[[f"p_{i}" for i in range(6)]].to_numpy()
    drawn = (p.cumsum(1) > rng.random((len(p), 1))).argmax(1)
    out = rows[["ticker", "start_date", "snapshot_date"]].assign(outcome_class=drawn.astype(float))
    return out.assign(label_end_date=rows["snapshot_date"] + pd.Timedelta(days=140))


def test_what_matured_is_joined_and_what_is_unknown_stays_out(tmp_path):
    ledger = open_ledger(tmp_path)
    nights = [
        ledger_rows(signals(d, 30, i), model="m1", data_fingerprint="f")
        for i, d in enumerate(("2024-03-01", "2024-06-03"))
    ]
    assert [ledger.append(rows, "m1") for rows in nights] == [30, 30]
    stored = ledger.read()
    known = labels(stored)
    done = matured(stored, known, pd.Timestamp("2024-08-01"))
    assert set(done["night"]) == {pd.Timestamp("2024-03-01")}
    assert len(matured(stored, known, pd.Timestamp("2024-07-19"))) == 0  # the label is known after its last bar
    both = done.merge(known, on=["ticker", "snapshot_date"], suffixes=("", "_label"))
    assert (both["outcome_class"] == both["outcome_class_label"]).all()
    assert len(both) == 30
    shown = monitoring.summary(stored, done, {"STRONG": 0.9}, model="m1")
    assert (shown["rows"], shown["matured"], shown["waiting"]["n"]) == (60, 30, 30)
    strong = shown["tiers"][0]
    expected = done[done["signal"] == "STRONG"]
    assert (strong["n"], strong["hits"]) == (len(expected), int((expected["outcome_class"] == K4).sum()))
    assert strong["low"] <= strong["hit_rate"] <= strong["high"]
    assert sum(r["n"] for r in shown["calibration"]) == 30


def test_a_certificate_is_judged_by_rows_of_its_own_model_in_its_tier_or_better_one_per_pattern():
    nights = [f"2024-03-{day:02d}" for day in range(1, 21)]
    rows = []
    for model, hit in (("old", False), ("new", True)):
        for i, night in enumerate(nights):
            given = ledger_rows(signals(night, 30, i % 2), model=model, data_fingerprint="f")
            given["pattern_id"] += "abcde"[i // 4]  # each pattern stays open for four nights
            given["tier"] = np.where(given["p_4"] > 0.25, "STRONG", np.where(given["p_4"] > 0.15, "GOOD", "AVOID"))
            rows.append(given.assign(hit=hit & (given["tier"] == "STRONG")))
    ledger = pd.concat(rows, ignore_index=True)
    done = ledger.assign(outcome_class=np.where(ledger["hit"], K4, 0), value=0.0, label_end_date=ledger["night"])
    strong, good, *_ = monitoring.summary(ledger, done, {"STRONG": 0.9, "GOOD": 0.3}, model="new")["tiers"]
    assert strong["claim_holds"]
    assert strong["hits_judged"] == strong["n_judged"] > 0
    assert good["claim_holds"]  # no GOOD row was a K4, but its certificate speaks of STRONG, too
    assert good["hits_judged"] == strong["hits_judged"]
    assert good["n_judged"] <= 30 * 5  # 20 nights, 5 patterns of each ticker
    old, *_ = monitoring.summary(ledger, done, {"STRONG": 0.9}, model="old")["tiers"]
    assert not old["claim_holds"]


def test_what_was_said_first_stays_when_settings_or_bars_change_and_other_probabilities_are_an_error(tmp_path):
    ledger, rows = open_ledger(tmp_path), ledger_rows(signals("2024-03-01", 6, 1), model="m1", data_fingerprint="f")
    assert record_night(ledger, rows)["added"] == 6
    for changed in (rows.assign(signal="GOOD"), rows.assign(data_fingerprint="g", p_4=0.5)):
        again = record_night(ledger, changed)
        assert again["added"] == 0
        assert again["restated"] >= 1
    assert record_night(ledger, rows)["restated"] == 0
    with pytest.raises(BadInputError, match="what was said is not changed"):
        record_night(ledger, rows.assign(p_4=0.5))
    pd.testing.assert_frame_equal(ledger.read(), rows)


def test_one_pattern_counts_once_per_tier():
    rows = pd.concat(
        [ledger_rows(signals(d, 5, 1), model="m1", data_fingerprint="f") for d in ("2024-03-01", "2024-03-04")]
    )
    assert len(first_of_pattern(rows)) == 5


def test_a_true_claim_is_seldom_refuted_and_a_false_one_soon():
    rng = np.random.default_rng(7)
    true = [precision_holds(rng.random(400) < 0.2, 0.2).holds for _ in range(400)]
    assert np.mean(true) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 400)
    false = [precision_holds(rng.random(400) < 0.05, 0.2).holds for _ in range(200)]
    assert np.mean(false) < 0.05
    assert precision_holds(np.zeros(0, dtype=bool), 0.2).holds
    assert not precision_holds(np.zeros(60, dtype=bool), 0.2).holds
    with pytest.raises(ValueError, match="between 0 and 1"):
        precision_holds(np.ones(3, dtype=bool), 0.0)


def test_the_wealth_is_fair_under_the_claim():
    # Under the claim itself every factor has mean 1: the mean wealth after n signals is 1.
    rng = np.random.default_rng(3)
    wealth = [precision_holds(rng.random(5) < 0.3, 0.3).wealth for _ in range(20_000)]
    assert np.mean(wealth) == pytest.approx(1.0, abs=4 * np.std(wealth) / np.sqrt(len(wealth)))


def test_drift_is_seen_where_it_is_and_nowhere_else():
    rng = np.random.default_rng(5)
    reference, same = rng.normal(size=(4000, 4)), rng.normal(size=(800, 4))
    moved = same.copy()
    moved[:, 2] += 1.5
    names = ["a", "b", "c", "d"]
    calm, shifted = drift.input_drift(reference, same, names), drift.input_drift(reference, moved, names)
    assert calm["drifted"] == []
    assert abs(calm["domain_auc"] - 0.5) < 0.05
    assert calm["outside_frac"] < 0.02
    assert shifted["drifted"] == ["c"]
    assert shifted["inputs"][0]["ks_p"] < 1e-6
    assert shifted["domain_auc"] > 0.8
    far = np.full((1, 4), 9.0)
    assert drift.ReferenceRange.of(reference).too_far(far).all()
    assert drift.population_stability(reference[:, 0], reference[:, 0]) == 0.0
