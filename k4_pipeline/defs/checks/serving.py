"""Propositions about prediction_ledger, drift, signal_outcomes and todays_list."""

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
    tested = [t for t in tiers if t["claim_holds"] is not None]
    findings = [
        f"{t['tier']} or better: {t['hits_judged']} of {t['n_judged']} patterns were K4, certified "
        f"{t['certified']:.1%}; evidence against it {t['evidence_against']:.0f} to 1"
        for t in tested
        if not t["claim_holds"]
    ]
    # No certified tier with matured signals is a fact about the market and the model, not a broken certificate.
    return Verdict.of("certificates_hold", max(sum(t["n_judged"] for t in tested), 1), findings)


def _no_drift(evidence: Evidence) -> Verdict:
    found = evidence.json("drift.json")
    name = "what_was_scored_looks_like_the_train_rows"
    # Few open patterns are a fact about the market; the verdict says that nothing could be measured.
    detail = {"nights_in_a_row": found["in_a_row"], "not_measured": found["too_few"] or None}
    return Verdict.of(name, max(found["patterns"], 1), found["why"], **detail)


def _reasons_add_up(evidence: Evidence) -> Verdict:
    rows = evidence.json("list.json")["rows"]
    findings = [f"{r['ticker']}: its reasons do not add up to its score" for r in rows if not r.get("adds_up", True)]
    return Verdict.of("every_reason_adds_up", max(len(rows), 1), findings)


def _similar_were_known(evidence: Evidence) -> Verdict:
    rows = evidence.json("list.json")["rows"]
    findings = [
        f"{r['ticker']} of {r['snapshot_date']}: the outcome of {s['ticker']} was known on {s['known_on']} only"
        for r in rows
        for s in r.get("similar", [])
        if s["known_on"] >= r["snapshot_date"]
    ]
    return Verdict.of("similar_patterns_had_ended_before", max(len(rows), 1), findings)


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
        "drift",
        [
            Proposition(
                "what_was_scored_looks_like_the_train_rows",
                _no_drift,
                blocking=False,
                description="No measure of drift is above what the months of the train rows themselves reached.",
            ),
        ],
    ),
    checks_for(
        "todays_list",
        [
            Proposition(
                "every_reason_adds_up",
                _reasons_add_up,
                blocking=False,
                description="The contributions of all channels together explain the score of each row.",
            ),
            Proposition(
                "similar_patterns_had_ended_before",
                _similar_were_known,
                description="The outcome of every similar pattern was known before the day of its row.",
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
