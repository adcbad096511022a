"""True class probabilities: they agree with what happens, follow the label rules, and do not depend on other rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from k4_pipeline.config import K4, N_CLASSES, LabelConfig, PatternConfig, SimulationConfig
from k4_pipeline.errors import BadInputError, ConfigError
from k4_pipeline.evaluation.truth import true_class_probabilities
from k4_pipeline.market.bars import Bars, to_days
from k4_pipeline.market.sources.simulated import simulate_with_truth
from k4_pipeline.market.sources.simulation.process import CONSOLIDATION, REGIME, SQUEEZE
from k4_pipeline.market.sources.simulation.truth import SimulationTruth
from k4_pipeline.patterns.labels import label_snapshots
from k4_pipeline.patterns.snapshots import make_snapshots

DRAWS = 50


def _market(world: str, n_tickers: int, n_bars: int = 1200) -> tuple[SimulationTruth, Bars]:
    raw, truth = simulate_with_truth(SimulationConfig(world=world, n_tickers=n_tickers, n_bars=n_bars, dirty=False))  # type: ignore[arg-type]
    return truth, Bars.from_frame(raw.frame)


def _spread_snapshots(truth: SimulationTruth, bars: Bars, every: int = 120) -> pd.DataFrame:
    """One row every `every` bars of each ticker, in whatever regime, with a channel of 2% around the close.

    Label windows of a ticker do not overlap when `every` > 100, so the outcomes of a ticker are nearly independent.
    """
    rows = np.concatenate([np.arange(a + 100, b - 130, every) for a, b in zip(truth.offsets, truth.offsets[1:])])
    frame = bars.to_frame().iloc[rows].reset_index(drop=True)
    return pd.DataFrame(
        {
            "ticker": frame["ticker"],
            "start_date": frame["date"],
            "snapshot_date": frame["date"],
            "upper": 1.01 * frame["close"],
            "lower": 0.99 * frame["close"],
            "power": 1.01 * 1.005 * frame["close"],
        }
    )


def _rows(bars: Bars, snapshots: pd.DataFrame) -> np.ndarray:
    return bars.locate(snapshots["ticker"], to_days(snapshots["snapshot_date"].to_numpy()))


@pytest.fixture(scope="module", params=["squeeze", "null"])
def spread(request: pytest.FixtureRequest) -> tuple[SimulationTruth, Bars, pd.DataFrame]:
    truth, bars = _market(request.param, 320)
    return truth, bars, _spread_snapshots(truth, bars)


@pytest.fixture(scope="module")
def race_probabilities(spread: tuple) -> np.ndarray:
    truth, _, snapshots = spread
    return true_class_probabilities(truth, snapshots, LabelConfig(), draws=DRAWS)


@pytest.mark.parametrize(
    "config",
    [LabelConfig(), LabelConfig.preset("rare_30"), LabelConfig(labeling="first_breach")],
    ids=["race_100", "rare_30", "first_breach"],
)
def test_classes_happen_as_often_as_the_true_probabilities_say(spread: tuple, config: LabelConfig) -> None:
    truth, bars, snapshots = spread
    labeled = label_snapshots(bars, snapshots, config)
    assert labeled["outcome_class"].notna().all()
    outcome = labeled["outcome_class"].to_numpy(dtype=int)
    p = true_class_probabilities(truth, snapshots, config, draws=DRAWS)
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    assert len(p) > 2000
    # The market's shock ties the tickers of one session together: the sessions are the independent observations.
    session = snapshots["snapshot_date"].to_numpy()
    for c in range(N_CLASSES):
        residual = (outcome == c) - p[:, c]
        per_session = pd.Series(residual).groupby(session).sum().to_numpy()
        error = np.sqrt((per_session**2).sum() + (p[:, c] * (1 - p[:, c])).sum() / DRAWS)
        assert abs(residual.sum()) < 3.5 * max(error, 1.0), f"class {c}"


def test_rows_called_likely_and_unlikely_k4_come_out_so_within_binomial_error(
    spread: tuple, race_probabilities: np.ndarray
) -> None:
    truth, bars, snapshots = spread
    is_k4 = label_snapshots(bars, snapshots, LabelConfig())["outcome_class"].to_numpy(dtype=int) == K4
    p = race_probabilities[:, K4]
    # Grouped by hidden state, not by p itself: picking rows by a drawn p would select the draw's error.
    regime = truth.states[
        bars.locate(snapshots["ticker"], snapshots["snapshot_date"].to_numpy("datetime64[D]")), REGIME
    ]
    for group in np.unique(regime):
        mine = regime == group
        expected, found = p[mine].sum(), is_k4[mine].sum()
        assert abs(found - expected) < 3.5 * max(1.0, np.sqrt((p[mine] * (1 - p[mine])).sum())), f"regime {group}"


def test_a_squeeze_multiplies_k4_in_its_world_and_a_decoy_does_nothing_in_the_null_world(
    spread: tuple, race_probabilities: np.ndarray
) -> None:
    truth, bars, snapshots = spread
    rows = _rows(bars, snapshots)
    regime = truth.states[rows, REGIME]
    p = race_probabilities
    squeezed, plain = p[regime == SQUEEZE], p[regime == CONSOLIDATION]
    assert min(len(squeezed), len(plain)) > 60
    if truth.config.world == "squeeze":
        assert squeezed[:, K4].mean() > 8 * plain[:, K4].mean()
    else:
        error = np.sqrt(plain.var(axis=0) / len(plain) + squeezed.var(axis=0) / len(squeezed))
        assert (np.abs(squeezed.mean(axis=0) - plain.mean(axis=0)) < 4 * error).all()


def test_a_row_depends_on_its_own_key_and_seed_alone() -> None:
    truth, bars = _market("squeeze", 6, 700)
    snapshots = _spread_snapshots(truth, bars, every=20)
    whole = true_class_probabilities(truth, snapshots, LabelConfig(), draws=20, threads=1)
    backwards = true_class_probabilities(truth, snapshots.iloc[::-1], LabelConfig(), draws=20, threads=3)
    np.testing.assert_array_equal(whole, backwards[::-1])
    other = true_class_probabilities(truth, snapshots, LabelConfig(), draws=20, seed=1)
    assert (whole != other).any()


def test_probabilities_are_scale_free_so_later_splits_do_not_matter() -> None:
    truth, bars = _market("squeeze", 60, 1200)
    snapshots = _spread_snapshots(truth, bars, every=25)
    rows = _rows(bars, snapshots)
    split = truth.adjustment[rows] != 1
    assert split.sum() > 20
    # Were a boundary compared on the wrong basis, a factor of 2 or more would make every row a K4 or a K5.
    p = true_class_probabilities(truth, snapshots, LabelConfig(), draws=50)
    assert abs(p[split, K4].mean() - p[~split, K4].mean()) < 0.1
    assert abs(p[split, 5].mean() - p[~split, 5].mean()) < 0.15


def test_a_snapshot_of_another_market_or_no_draws_are_refused() -> None:
    truth, bars = _market("null", 3, 400)
    snapshots = _spread_snapshots(truth, bars)
    with pytest.raises(BadInputError, match="AAPL"):
        true_class_probabilities(truth, snapshots.assign(ticker="AAPL"), LabelConfig())
    with pytest.raises(ConfigError, match="draws"):
        true_class_probabilities(truth, snapshots, LabelConfig(), draws=0)


def _ranking_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive row is ranked above a negative one, ties one half."""
    order = pd.Series(score).rank().to_numpy()
    n_pos, n = positive.sum(), len(positive)
    return float((order[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * (n - n_pos)))


def _past_volatility(bars: Bars, rows: np.ndarray, n: int = 100) -> np.ndarray:
    log_close = np.log(bars.close)
    return np.array([np.diff(log_close[row - n : row + 1]).std() for row in rows])


@pytest.mark.slow
def test_the_default_squeeze_market_has_something_to_learn_beyond_volatility() -> None:
    raw, truth = simulate_with_truth(SimulationConfig(dirty=False))
    bars = Bars.from_frame(raw.frame)
    labeled = label_snapshots(bars, make_snapshots(bars, PatternConfig()), LabelConfig())
    known = labeled[labeled["outcome_class"].notna()].reset_index(drop=True)
    outcome = known["outcome_class"].to_numpy(dtype=int)
    share = np.bincount(outcome, minlength=N_CLASSES) / len(outcome)
    assert 5000 < len(known) < 8000
    assert 0.02 < share[K4] < 0.055
    assert (share > 0.02).all()
    assert share[[0, 1, 5]].min() > 0.15
    k4 = known[outcome == K4]
    assert k4["ticker"].nunique() > 40
    assert k4["snapshot_date"].dt.year.nunique() >= 5
    p = true_class_probabilities(truth, known, LabelConfig(), draws=40)[:, K4]
    best = _ranking_auc(p, outcome == K4)
    rows = _rows(bars, known)
    by_volatility = _ranking_auc(_past_volatility(bars, rows), outcome == K4)
    assert 0.80 < best < 0.95
    assert by_volatility < best - 0.12


@pytest.mark.slow
def test_in_the_default_null_market_not_even_the_hidden_state_ranks_k4() -> None:
    raw, truth = simulate_with_truth(SimulationConfig(world="null", dirty=False))
    bars = Bars.from_frame(raw.frame)
    snapshots = make_snapshots(bars, PatternConfig())
    first = true_class_probabilities(truth, snapshots, LabelConfig(), draws=50, seed=0)[:, K4]
    second = true_class_probabilities(truth, snapshots, LabelConfig(), draws=50, seed=1)[:, K4]
    assert 0.02 < first.mean() < 0.05
    # Expected AUC of ranking by one set of draws when outcomes follow the other: 0.5 when p is the same for all rows.
    order = np.argsort(first, kind="stable")
    hit, miss = second[order], 1 - second[order]
    # (rows with equal scores stay in date order, which is unrelated to the second draws)
    expected_auc = (np.cumsum(miss) * hit).sum() / (hit.sum() * miss.sum())
    assert abs(expected_auc - 0.5) < 0.02
