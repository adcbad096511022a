"""How results are proved: integrity tests, negative controls, leak demo and refits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class IntegrityConfig:
    """Limits of the five integrity tests and the evidence each needs."""

    contamination_max_drop: float = 0.15  # largest drop of the accuracy after the median date
    recall_max_gap: float = 0.30  # largest gap of K4 recall between the halves
    ev_correlation_useful: float = 0.05  # an interval wholly below it: EV says nothing worth knowing
    ev_correlation_tripwire: float = 0.25  # above it with its whole interval: suspected leakage
    average_precision_tripwire_ratio: float = 2.0  # times the strongest baseline: suspected leakage
    drift_max_kl: float = 0.5  # largest divergence of the class mix, nats
    duplicate_return_correlation: float = 0.999  # two tickers this alike are one listing under two names
    budget_fracs: tuple[float, ...] = (0.05, 0.10)  # alert budgets
    min_rows: int = 100  # fewer rows are no evidence
    min_k4: int = 10  # fewer K4 rows are no evidence
    bootstrap_draws: int = 1000  # of whole tickers and months
    confidence: float = 0.95  # of every interval
    seed: int = 0  # of the draws


@dataclass(frozen=True)
class ControlsConfig:
    """Negative controls of every retraining: how much is looked at, and when a score counts as an alarm."""

    enabled: bool = True  # make the negative controls
    max_rows: int = 1500  # train rows and test rows of one control; beyond that whole tickers are drawn
    max_bars: int = 250_000  # bars that are turned round in time
    test_rows: int = 500  # wanted to test on; where fewer follow as_of, the control splits at an earlier date
    epochs: int = 3  # of each control
    false_alarm_rate: float = 0.01  # of all controls of one retraining together
    margin: float = 0.03  # mean AUC that the model may have over the honest reference, beyond its interval
    min_rows: int = 100  # fewer rows prove nothing
    min_tickers: int = 6  # fewer tickers prove nothing
    notice_at_most: float = 0.95  # fewer rows than it takes to notice a mean AUC of this size prove nothing
    draws: int = 2000  # of the interval


@dataclass(frozen=True)
class ProofConfig:
    """What the validation report and `k4 audit` do of their own accord."""

    leak_demo: bool = True  # train on an honest and on a random split, as a section of the report
    demo_rows: int = 3000  # labelled rows of the demo; beyond that whole tickers are drawn
    demo_epochs: int = 8  # epochs of the demo
    refit_max_seconds: float = 300.0  # `k4 audit` fits the weights again when their training took no longer
