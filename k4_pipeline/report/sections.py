"""The sections of the validation report, from the dict of `evaluation.validation`. Computes nothing."""

from __future__ import annotations

from typing import Any

from k4_pipeline.report import figures
from k4_pipeline.report.numbers import (
    LOWER_IS_BETTER,
    METRICS,
    baselines,
    best_possible,
    difference,
    finite,
    number,
    price,
    span,
    strongest,
    titled,
)
from k4_pipeline.report.page import CARD_LINK, Grid, Section
from k4_pipeline.report.summary import NOT_ENOUGH, verdict_kind
from k4_pipeline.report.trading import trading_section

KINDS = {"passed": "passed", "failed": "failed", NOT_ENOUGH: "not", "suspected leakage": "suspected"}


def comparison(report: dict[str, Any]) -> Grid:
    """Every metric of the model beside its base rate, the strongest baseline, their paired difference, the best
    possible."""
    metrics = report["metrics"]
    others, best = baselines(metrics), best_possible(metrics)
    header = ["metric", "model", "base rate", "strongest baseline", "model minus it"]
    rows = []
    for key, (title, form) in METRICS.items():
        m = metrics["model"].get(key)
        if m is None:
            continue
        row: list[Any] = [title, {"text": number(m["value"], form), "small": span(m, form)}]
        row.append(number(m["base_rate"], form))
        name = strongest(metrics, key)
        if name is None and not finite(m["value"]):
            continue  # undefined for everyone: `undefined` says so once
        if name is None:
            row += ["", ""]
        else:
            row.append({"text": number(others[name][key]["value"], form), "small": titled(name)})
            row.append(_difference_cell(difference(metrics, name, key), key, form))
        row += [number(best[key]["value"], form) if key in best else ""] if best else []
        rows.append(row)
    return Grid(header + (["best possible"] if best else []), rows)


def undefined(report: dict[str, Any]) -> str:
    """A sentence about the metrics that no method has on these rows; empty where there are none."""
    metrics = report["metrics"]
    names = [
        title
        for key, (title, _) in METRICS.items()
        if key in metrics["model"] and strongest(metrics, key) is None and not finite(metrics["model"][key]["value"])
    ]
    why = "" if metrics["n_k4"] else ", because none of them is K4"
    return f"Not defined on these rows{why}: {', '.join(names)}." if names else ""


def by_baseline(report: dict[str, Any]) -> Grid:
    """Every metric of every baseline, with the paired difference of the model below it."""
    metrics = report["metrics"]
    others, rows = baselines(metrics), []
    for key, (title, form) in METRICS.items():
        row: list[Any] = [title]
        if strongest(metrics, key) is None:
            continue
        for name, held in others.items():
            if key not in held:
                row.append("")
                continue
            d = difference(metrics, name, key)
            cell = _difference_cell(d, key, form)
            small = f"{cell['text']}\n{cell['small']}" if d and cell["small"] else ""
            row.append({"text": number(held[key]["value"], form), "small": small, "kind": cell["kind"] if d else ""})
        rows.append(row)
    return Grid(["metric", *map(titled, others)], rows)


def _difference_cell(d: dict[str, Any], key: str, form: str) -> Any:
    if not d:
        return ""
    signed = form.replace("{:", "{:+")
    low, high = d.get("low"), d.get("high")
    better, worse = (finite(low) and low > 0), (finite(high) and high < 0)
    if key in LOWER_IS_BETTER:
        better, worse = worse, better
    kind = "passed" if better else "failed" if worse else ""
    return {"text": number(d.get("value"), signed), "small": span(d, signed), "kind": kind}


def integrity_grid(report: dict[str, Any]) -> Grid:
    """The integrity tests."""
    rows = [
        [
            t["name"],
            {"text": t["status"], "kind": KINDS.get(t["status"], "failed")},
            {"text": number(t["value"]), "small": span(t)},
            f"{t['n']:,}",
            t["limit"],
            {"text": t["explanation"], "kind": "long"},
        ]
        for t in report["integrity"]
    ]
    return Grid(["test", "result", "value", "rows", "limit", "in words"], rows)


def signal_grid(report: dict[str, Any]) -> Grid:
    """What each signal was followed by."""
    rows = [
        [
            s["signal"],
            f"{s['count']:,}",
            number(s["mean_realised_value"], "{:+.2f}"),
            number(s["k4_share"], "{:.1%}"),
            number(s["k5_share"], "{:.1%}"),
        ]
        for s in report["metrics"]["signals"]
    ]
    return Grid(["signal", "test rows", "mean realised value", "K4 share", "K5 share"], rows, "By signal")


def _value_figures(report: dict[str, Any]) -> list[dict[str, Any] | None]:
    mean = report["metrics"]["mean_realised_value"]
    certified = report.get("tier_values") or []
    return [
        figures.value_by("signal", report["metrics"]["signals"], mean),
        figures.value_by("certified tier", certified, mean) if report.get("tiers") else None,
        figures.value_by_decile(report),
    ]


def tier_grid(report: dict[str, Any]) -> Grid | None:
    """Every certified tier: what was promised on which evidence, and what the test rows did; None without them."""
    if not report.get("tiers"):
        return None
    values = {row["signal"]: row for row in report.get("tier_values") or []}
    kept = {True: ("kept", "passed"), False: ("not kept", "failed"), None: ("may be chance", "not")}
    rows = []
    for t in report["tiers"]:
        word, kind = kept[t["kept"]]
        rows.append(
            [
                t["tier"],
                {"text": number(t["promised"], "{:.1%}"), "small": f"{t['multiple']:g} times the base rate"},
                {"text": number(t["bound"], "{:.1%}"), "small": f"{t['hits']} of {t['rows']} patterns"},
                {"text": number(t["test_rate"], "{:.1%}"), "small": f"{t['test_hits']} of {t['test_rows']} patterns"},
                {"text": word, "kind": kind},
                _worth(values.get(t["tier"])),
            ]
        )
    header = ["tier", "promised", "certified bound", "K4 share of the test", "promise", "mean realised value"]
    return Grid(header, rows, "By certified tier")


def _worth(row: dict[str, Any] | None) -> Any:
    return {"text": number(row["mean_realised_value"], "{:+.2f}"), "small": f"{row['count']:,} rows"} if row else ""


def class_grid(report: dict[str, Any]) -> Grid:
    """Row counts and class shares by split."""
    names = list(report["classes"][0]["shares"])
    rows = [
        [r["split"], f"{r['rows']:,}", f"{r['labelled']:,}", f"{r['first']} to {r['last']}", f"{r['k4']:,}"]
        + [f"{r['shares'][n]:.1%}" for n in names]
        for r in report["classes"]
    ]
    return Grid(["split", "rows", "labelled", "snapshots", "K4 rows", *[n.split("_")[0] for n in names]], rows)


def verdict_groups(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Every proposition, by the asset it is about; groups with a failure stand open."""
    by_asset: dict[str, list[dict[str, Any]]] = {}
    for verdict in report["verdicts"]:
        by_asset.setdefault((verdict.get("detail") or {}).get("asset") or "all assets", []).append(verdict)
    groups = []
    for asset, verdicts in by_asset.items():
        failed = [v for v in verdicts if not v["passed"]]
        rows = []
        for v in verdicts:
            kind = "passed" if v["passed"] else verdict_kind(v)
            rows.append(
                [
                    titled(v["name"]),
                    {"text": kind, "kind": KINDS[kind]},
                    f"{v['cases']:,}",
                    {"text": "; ".join(v["findings"][:3]), "kind": "long"},
                ]
            )
        words = f"{len(verdicts) - len(failed)} of {len(verdicts)} hold"
        grid = Grid(["proposition", "result", "cases", "findings"], rows)
        groups.append({"title": f"{titled(asset)}: {words}", "table": grid, "open": bool(failed)})
    return groups


def demo_lines(demo: dict[str, Any]) -> tuple[list[str], list[Grid]]:
    """What leakage looks like: the dict of `run_demo`, one table per market, or why there is none."""
    if not demo.get("markets"):
        return [str(demo.get("left_out") or "This report was made without it. `k4 audit --demo` shows it.")], []
    grids = []
    for market in demo["markets"]:
        rows: list[list[Any]] = [
            [row["metric"], *({"text": number(row[n]["value"]), "small": span(row[n])} for n in ("honest", "random"))]
            for row in market["rows"]
        ]
        test = market["test"]
        rows.append(["test rows (K4)", *(f"{test[n]['rows']} ({test[n]['k4']})" for n in ("honest", "random"))])
        title = f"{market['market']}, as of {market['as_of']}"
        grids.append(Grid(["metric", "honest split (by date, purged)", "random split (leaks)"], rows, title))
    return [demo["in_words"]], grids


def top_signal_cards(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The best-ranked test rows, each with its chart."""
    cards = []
    for row in report.get("top_signals") or []:
        outcome = row.get("outcome") or "not known yet"
        line = (
            f"{row['signal']}, P(K4) {number(row['p_4'], '{:.1%}')}, P(K5) {number(row['p_5'], '{:.1%}')}, "
            f"EV {number(row['ev'], '{:+.2f}')}; breakout above {price(row['chart']['power'])}, stop "
            f"{price(row['chart']['stop'])}. What followed: {outcome}."
        )
        reasons = "; ".join(r["in_words"] for r in row.get("reasons") or [])
        figure = figures.candles(row["chart"], "")
        cards.append(
            {"title": f"{row['ticker']}, {row['snapshot_date']}", "line": line, "figure": figure, "reasons": reasons}
        )
    return cards


def facts_grid(report: dict[str, Any]) -> Grid:
    """Facts of data and model."""
    facts = {**report["data"], **{k: v for k, v in report["model"].items() if isinstance(v, (str, int, float))}}
    return Grid(["what", "value"], [[titled(k), f"{v:,}" if isinstance(v, int) else str(v)] for k, v in facts.items()])


def report_sections(report: dict[str, Any], *, linked: bool = False) -> list[Section]:
    """All sections in the order of reading; `linked`: the model card lies beside the reports."""
    metrics = report["metrics"]
    demo, demo_grids = demo_lines(report.get("leak_demo") or {})
    training = figures.training(report)
    made: list[Section | None] = [
        Section(
            "Model, baselines, best possible",
            [
                "Each value has its 95% interval below it. An edge is real where the whole interval of model minus "
                "baseline lies on the better side of zero. The strongest baseline is chosen row by row, after the "
                "fact, so the comparison is harsh on the model."
            ],
            [comparison(report)],
            figures.report_figures(report),
            groups=[
                {
                    "title": "Every baseline, with the difference to the model",
                    "table": by_baseline(report),
                    "open": False,
                }
            ],
            notes=[
                *([undefined(report)] if undefined(report) else []),
                "K4 recall is given within an alert budget only: calling everything K4 would find all of them. The "
                "base rate is what a method that knows nothing scores on the same rows.",
                f"What this recipe reached on years it was not tuned on: {CARD_LINK if linked else 'the model card'}.",
            ],
        ),
        Section(
            "What signals and tiers were followed by",
            [(report.get("certificate") or {}).get("why_none") or ""],
            [g for g in (tier_grid(report), signal_grid(report)) if g],
            [f for f in _value_figures(report) if f],
            notes=[f"Mean realised value of all test rows: {metrics['mean_realised_value']:+.2f} points."],
        ),
        trading_section(report.get("trading") or {}),
        Section("Best-ranked test snapshots", ["Bars after the dotted line were not known then."], cards=cards)
        if (cards := top_signal_cards(report))
        else None,
        Section(
            "Integrity tests",
            ["A test with too little evidence does not pass, but it has not failed either: the two are counted apart."],
            [integrity_grid(report)],
        ),
        Section(
            "The split",
            [],
            [class_grid(report)],
            [figures.class_mix(report), *([training] if training else [])],
            notes=[f"Test rows whose label is not known yet: {report['unlabelled_test_rows']:,}."],
        ),
        Section(
            "What leakage looks like",
            [
                "The smallest model, trained twice on a part of these rows: on the split by date with purge, as above, "
                "and on one made at random, as is often done. It judges nothing here; it shows how a leak flatters.",
                *demo,
            ],
            demo_grids,
            folded=True,
        ),
        Section("Proofs: every proposition that was checked", groups=verdict_groups(report), folded=True),
        Section(
            "Data, model, provenance",
            [],
            [
                facts_grid(report),
                Grid(
                    ["artifact", "fingerprint", "made by"],
                    [[k, v[:16], (report.get("code") or {}).get(k, "")] for k, v in report["provenance"].items()],
                ),
                Grid(["library", "version"], [[k, v] for k, v in report["versions"].items()]),
            ],
            folded=True,
            notes=[
                "These numbers describe the past of one universe, without names the source never had. No interval "
                "covers a change of regime."
            ],
        ),
    ]
    return [section for section in made if section is not None]
