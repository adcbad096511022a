"""The words of the report, explained in one or two sentences each; shown when a word is hovered or touched."""

from __future__ import annotations

GLOSSARY = {
    "K4 AUC": "Probability that a random K4 snapshot is ranked above a random other one. 0.5 is chance.",
    "K4 average precision": "Area under precision against recall for K4. Chance reaches the share of K4 rows.",
    "K4 recall in the top 5%": "Share of all K4 rows among the best-ranked 5%: an alert budget. Chance reaches 5%.",
    "K4 recall in the top 10%": "Share of all K4 rows among the best-ranked 10%. Chance reaches 10%.",
    "K4 precision in the top 5%": "Share of K4 among the best-ranked 5%: the hit rate of a list of that length.",
    "K4 lift in the top 5%": "Precision in the top 5% divided by the share of K4 among all rows.",
    "EV correlation (Pearson)": "Correlation of the announced expected value with the value that followed.",
    "EV correlation (Spearman)": "The same correlation on ranks: a few extreme rows weigh less.",
    "log loss": "Mean negative log probability of what happened; lower is better. Above that of the class mix, the "
    "probabilities say less than the bare class frequencies.",
    "Brier score": "Mean squared error of the probabilities; lower is better.",
    "K4 calibration error": "Mean gap between announced and realised frequency of K4 over ten groups; lower is better.",
    "95% interval": "From a bootstrap that draws whole tickers and whole months, since their rows are not independent.",
    "class mix": "A method that knows nothing: it announces the frequencies of the classes for every row.",
    "base rate": "What a method that knows nothing scores on these rows.",
    "paired difference": "Model minus baseline on the same bootstrap draws; an interval above zero is an edge.",
    "best possible": "Simulated markets only: the true probabilities, from the simulation continued many times.",
    "EV": "Expected value in strategic points: the sum of class probability times class value (K4 +10, K5 -10).",
    "tier": "STRONG, GOOD, MODERATE or AVOID.",
    "signal": "STRONG, GOOD, MODERATE or AVOID, from expected value and P(K5).",
    "stop": "The price below the box at which the pattern counts as failed.",
    "power line": "The price above the box that a breakout has to pass.",
    "box": "The range between the upper and lower boundary of the consolidation.",
    "break-even cost": "The round-trip cost per trade at which the mean return becomes zero.",
    "turnover": "Money traded (bought and sold) in a year, as a multiple of the capital.",
    "max drawdown": "Largest fall of the equity curve from an earlier high.",
    "KL": "Kullback-Leibler divergence of the test class mix from the train mix, in nats.",
    "cases": "How many cases the check looked at; a check without a case proves nothing and does not pass.",
}
