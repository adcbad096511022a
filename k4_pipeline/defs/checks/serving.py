"""Propositions about prediction_ledger and signal_outcomes."""

from __future__ import annotations

from k4_pipeline.defs.checks.factory import Evidence, Proposition, checks_for
from k4_pipeline.verdict import Verdict


def _ledger_is_whole(evidence: Evidence) -> Verdict:
    from k4_pipeline.evaluation.ledger import open_ledger

    ledger = open_ledger(evidence.store.root.parent)
    written = evidence.json("ledger.json")
    findings = []
    rows = ledger.verify()
    heads = [entry["head"] for entry in ledger.entries()]
    if written["head"] and written["head"] not in heads:
        findings.append(f"the chain no longer holds {written['head'][:12]}, which tonight's append ended with")
    if rows < written["rows"]:
        findings.append(f"{rows} rows are stored; tonight's append left {written['rows']}")
    return Verdict.of("the_ledger_is_whole", max(rows, 1), findings)


def _every_signal_is_recorded(evidence: Evidence) -> Verdict:
    from k4_pipeline.evaluation.ledger import LEDGER_KEY, open_ledger

    signals = evidence.input_table("signals")
    ledger = open_ledger(evidence.store.root.parent).read()
    keys = ["ticker", "pattern_id", "snapshot_date"]
    recorded = set() if ledger.empty else set(map(tuple, ledger[keys].astype(str).to_numpy()))
    missing = [row for row in map(tuple, signals[keys].astype(str).to_numpy()) if row not in recorded]
    findings = [f"{ticker} of {day[:10]} is not in the ledger" for ticker, _, day in missing]
    assert set(LEDGER_KEY) <= set(ledger.columns) or ledger.empty
    return Verdict.of("every_signal_is_in_the_ledger", max(len(signals), 1), findings)


def _nothing_was_restated(evidence: Evidence) -> Verdict:
    restated = evidence.json("ledger.json")["restated"]
    findings = [f"{restated} signals of this night were given before on other bars; what was said first stays"]
    return Verdict.of("tonight_says_what_was_said_before", 1, findings if restated else [])


def _certificates_hold(evidence: Evidence) -> Verdict:
    tiers = evidence.json("monitor.json")["tiers"]
    tested = [t for t in tiers if t["claim_holds"] is not None and t["n"]]
    findings = [
        f"{t['tier']}: {t['hits']} of {t['n']} were K4, certified {t['certified']:.1%}; evidence against it "
        f"{t['evidence_against']:.0f} to 1"
        for t in tested
        if not t["claim_holds"]
    ]
    # No certified tier with matured signals is a fact about the market and the model, not a broken certificate.
    return Verdict.of("certificates_hold", max(sum(t["n"] for t in tested), 1), findings)


CHECKS = [
    checks_for(
        "prediction_ledger",
        [
            Proposition(
                "the_ledger_is_whole",
                _ledger_is_whole,
                description="Every file of the ledger is as written, and the chain of hashes is unbroken.",
            ),
            Proposition(
                "every_signal_is_in_the_ledger",
                _every_signal_is_recorded,
                description="Each of tonight's signals has its row.",
            ),
            Proposition(
                "tonight_says_what_was_said_before",
                _nothing_was_restated,
                blocking=False,
                description="Fails when the same night was scored before on other bars (a restated history).",
            ),
        ],
    ),
    checks_for(
        "signal_outcomes",
        [
            Proposition(
                "certificates_hold",
                _certificates_hold,
                blocking=False,
                description="The hit rate of matured signals refutes no certified precision (sequential test, 5%).",
            ),
        ],
    ),
]
