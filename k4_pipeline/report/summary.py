"""What a reader should know first: the headline, what did not pass, and what to do next. Computes nothing."""

from __future__ import annotations

from typing import Any

from k4_pipeline.report.numbers import baselines, best_possible, finite, number, titled

NOT_ENOUGH, SUSPECTED = "not enough evidence", "suspected leakage"
FEW_K4 = 20  # fewer judge, and teach, too little


def outcomes(report: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """(name, reason) of every integrity test and proposition that did not pass, by `failed`, `not enough evidence`
    and `suspected leakage`."""
    found: dict[str, list[tuple[str, str]]] = {"failed": [], NOT_ENOUGH: [], SUSPECTED: []}
    for test in report["integrity"]:
        if not test["passed"]:
            kind = test["status"] if test["status"] in found else "failed"
            found[kind].append((test["name"], test["explanation"]))
    for verdict in report["verdicts"]:
        if not verdict["passed"]:
            kind = verdict_kind(verdict)
            found[kind].append((titled(verdict["name"]), (verdict["findings"] or ["failed"])[0]))
    return found


def verdict_kind(verdict: dict[str, Any]) -> str:
    """`failed`, or `not enough evidence` for a check that had too little to look at."""
    status = str((verdict.get("detail") or {}).get("status") or verdict.get("status") or "")
    first = (verdict.get("findings") or [""])[0]
    return NOT_ENOUGH if status == NOT_ENOUGH or lacks_evidence(first) or verdict["cases"] == 0 else "failed"


def lacks_evidence(reason: str) -> bool:
    """The reason of a check says that there was too little to look at, which is not a failure."""
    return reason.lower().startswith((NOT_ENOUGH, "no evidence", "too few", "too little"))


def against_baselines(report: dict[str, Any]) -> str:
    """One sentence: K4 AUC of the model beside every baseline, and the best possible where it is known."""
    metrics = report["metrics"]
    auc = metrics["model"]["k4_auc"]
    if not finite(auc["value"]):
        return "K4 metrics are not defined on these rows: " + (
            "none of them is K4." if not metrics["n_k4"] else "all of them are K4."
        )
    others = [
        f"{titled(name)} {number(held['k4_auc']['value'])}"
        for name, held in baselines(metrics).items()
        if "k4_auc" in held and finite(held["k4_auc"]["value"])
    ]
    best = best_possible(metrics).get("k4_auc")
    top = f"; best possible {number(best['value'])}" if best and finite(best.get("value")) else ""
    interval = f"{number(auc['low'])} to {number(auc['high'])}"
    return f"K4 AUC {auc['value']:.3f} ({interval}) against {', '.join(others) or 'no baseline'}{top}."


def judgement(report: dict[str, Any]) -> str:
    """Which method wins, as `evaluation.headline` found it, without what `worse_than_class_mix` says."""
    said = worse_than_class_mix(report)
    return " ".join(line for line in report["metrics"].get("headline") or () if line not in said)


def worse_than_class_mix(report: dict[str, Any]) -> str:
    """A headline of its own: probabilities that say no more than the class frequencies; empty where they do."""
    first = next(iter(report["metrics"].get("headline") or ()), "")
    if not first.startswith(("Worse than the class mix", "Probabilities no better")):
        return ""
    return f"{first} Do not use expected values of this model."


def evidence(report: dict[str, Any]) -> str:
    """How many rows everything rests on."""
    metrics = report["metrics"]
    if not metrics["n"]:
        return "No labelled test snapshots."
    return (
        f"{metrics['n']:,} labelled test snapshots of {metrics['n_tickers']:,} tickers, {metrics['n_k4']:,} of them K4 "
        f"({metrics['n_k4'] / metrics['n']:.2%}{_k4_tickers(metrics)})."
    )


def _k4_tickers(metrics: dict[str, Any]) -> str:
    """`, of 5 tickers`: the snapshots of one ticker are not independent."""
    n = metrics.get("n_k4_tickers")
    return f", of {n:,} ticker{'' if n == 1 else 's'}" if n else ""


def money(report: dict[str, Any]) -> str:
    """What trading the list would have brought, after costs; empty without the section."""
    rule = main_rule(report)
    if rule is None or not rule["trades"]:
        return ""
    word = "lost money" if rule["net_return"] < 0 else "made money"
    if rule["trades"] == 1:
        return f"Traded as a list it {word} after costs: {rule['net_return']:+.1%} in one trade, which shows nothing."
    sizes = " (their sizes differ)" if rule["net_return"] * rule["mean_net"] < 0 else ""
    return (
        f"Traded as a list it {word} after costs: {rule['net_return']:+.1%} in {rule['trades']:,} trades{sizes}, mean "
        f"{rule['mean_net']:+.2%} a trade{_how_surely(rule)}"
    )


def _how_surely(rule: dict[str, Any]) -> str:
    low, high = rule.get("low"), rule.get("high")
    if not (finite(low) and finite(high)):
        return "; too few trades for an interval, so no edge is shown."
    span = f" ({low:+.2%} to {high:+.2%})"
    if high < 0:
        return f"{span}; the whole interval lies below zero: do not trade it like this."
    return f"{span}." if low > 0 else f"{span}; the interval holds zero, so no edge is shown."


def main_rule(report: dict[str, Any]) -> dict[str, Any] | None:
    """The trading result that the headline quotes: the model's list under the exits of the label's race."""
    rows = (report.get("trading") or {}).get("results") or []
    return next((row for row in rows if row.get("headline")), None)


def counted(report: dict[str, Any]) -> str:
    """`Integrity tests and propositions: 3 failed, 2 without enough evidence.`"""
    found = outcomes(report)
    if not any(found.values()):
        return "Every integrity test and proposition passed."
    words = {"failed": "failed", NOT_ENOUGH: "without enough evidence", SUSPECTED: "suspected leakage"}
    counts = ", ".join(f"{len(rows)} {words[kind]}" for kind, rows in found.items() if rows)
    return f"Integrity tests and propositions: {counts}."


def next_steps(report: dict[str, Any]) -> list[str]:
    """What the reader can do about it, most urgent first."""
    found, metrics = outcomes(report), report["metrics"]
    steps = []
    if found[SUSPECTED]:
        steps.append("A result is too good to be believed unseen: run `k4 audit`, then `k4 run --again`.")
    if found["failed"]:
        names = ", ".join(name for name, _ in found["failed"][:3])
        steps.append(f"Read the reasons of what failed ({names}) before using any signal.")
    if worse_than_class_mix(report):
        steps.append("Train on more rows (more tickers, a later --as-of) before trusting a probability.")
    if found[NOT_ENOUGH] or metrics["n_k4"] < FEW_K4:
        steps += _more_evidence(report)
    if not steps:
        steps.append("Look at the signals (`k4 signals`); `k4 walk-forward --from YEAR --to YEAR` tests more years.")
    return steps


def _more_evidence(report: dict[str, Any]) -> list[str]:
    """How to get more K4 rows to learn from and to be judged by, with the source that was read."""
    n, learnt = report["metrics"]["n_k4"], next((r["k4"] for r in report["classes"] if r["split"] == "train"), None)
    config = report.get("config") or {}
    source, months = config.get("source") or {}, (config.get("split") or {}).get("test_months") or 12
    path = f" --path {source['path']}" if source.get("path") else ""
    steps = []
    if learnt is not None and learnt < FEW_K4:
        steps.append(
            f"The model had {learnt} K4 rows to learn from: add tickers or years"
            + (f" to {source['path']}." if path else " (`k4 run --path DIR` reads your own bars).")
        )
    else:
        thin = ", ".join(name for name, _ in outcomes(report)[NOT_ENOUGH][:3])
        what = f"{n} K4 test rows judge little" if n < FEW_K4 else f"Not enough evidence for {thin}"
        steps.append(f"{what}: test longer (`k4 run --again --test-months {2 * months}`).")
    return [*steps, f"`k4 walk-forward{path} --from YEAR --to YEAR` judges several years together."]


def headline_lines(report: dict[str, Any]) -> list[str]:
    """Evidence, result against baselines, warnings, money, checks: each a sentence."""
    lines = [
        worse_than_class_mix(report),
        evidence(report),
        f"{against_baselines(report)} {judgement(report)}".strip(),
        money(report),
        counted(report),
    ]
    return [line for line in lines if line]


def headline(report: dict[str, Any]) -> str:
    """The same as one paragraph, with the names of what did not pass."""
    found = outcomes(report)
    names = [name for rows in found.values() for name, _ in rows]
    return " ".join(headline_lines(report)) + (f" Not passed: {', '.join(names)}." if names else "")


def state(report: dict[str, Any]) -> tuple[str, str]:
    """(CSS class, word): passed, failed, or nothing failed but the evidence is thin."""
    found = outcomes(report)
    if found["failed"] or found[SUSPECTED]:
        return "bad", "NOT PASSED"
    return ("open", "NOT ENOUGH EVIDENCE") if found[NOT_ENOUGH] else ("ok", "PASSED")
