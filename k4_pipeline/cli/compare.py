"""`k4 compare A B`: two results side by side, and on the same draws where they judged the same rows."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import (
    HomeOption,
    JsonOption,
    explained,
    out_console,
    print_json,
    settings_for,
    stored_as_of,
)
from k4_pipeline.errors import BadInputError
from k4_pipeline.evaluation.champion import BEFORE, SERVES
from k4_pipeline.storage import ArtifactStore

SHOWN = (
    "k4_auc",
    "k4_recall_top_5pct",
    "k4_recall_top_10pct_monthly",
    "ev_correlation_pearson",
    "log_loss",
    "k4_calibration_error",
)
HELP = "An as-of date of this home, another home folder (its newest report), or a report.json."


@dataclass
class Side:
    """One result: its name, the report, and the store it lies in (None for a file)."""

    name: str
    report: dict[str, Any]
    store: ArtifactStore | None


@explained
def compare(
    a: Annotated[str, typer.Argument(help=HELP)],
    b: Annotated[str, typer.Argument(help=HELP)],
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Compare two results: metrics with intervals, the settings that differ, and A minus B where that means something.

    A difference with an interval is given where both judged the same test rows; over different rows it would compare
    the rows as much as the models, and only the two values stand side by side.
    """
    sides = [side_of(text, settings_for(home).artifacts_dir) for text in (a, b)]
    found = compared(*sides)
    if json_:
        print_json(found)
    else:
        show(found, out_console())


def side_of(text: str, artifacts: Path) -> Side:
    """The result that `text` names; `BadInputError` says what may be given."""
    path = Path(text).expanduser()
    if path.is_file():
        report = _read(path)
        return Side(f"{report['as_of']} ({path})", report, None)
    if text and path.is_dir() and not _is_date(text):
        artifacts, text = path / "artifacts", ""
    elif not _is_date(text) and text not in (SERVES, BEFORE):
        raise BadInputError(
            f"{text!r} is neither an as-of date (YYYY-MM-DD, {SERVES} or {BEFORE}) nor a home folder nor a report.json"
        )
    store = ArtifactStore(artifacts)
    as_of = stored_as_of(store, "validation_report", text or None)
    report = _read(store.last_good("validation_report", as_of).path("report.json"))
    return Side(f"{as_of} ({artifacts.parent})", report, store)


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_text())
        _ = report["as_of"], report["metrics"]["model"], report["integrity"], report["verdicts"]
        return report
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise BadInputError(f"{path} is no validation report (report.json): {problem}") from problem


def compared(a: Side, b: Side) -> dict[str, Any]:
    """Metrics of both, A minus B where both judged the same rows, and the settings that differ."""
    paired = _paired(a, b)
    metrics = {}
    for key in SHOWN:
        sides = [side.report["metrics"]["model"].get(key) for side in (a, b)]
        metrics[key] = {"a": sides[0], "b": sides[1], "difference": (paired or {}).get(key)}
    return {
        "a": _facts(a),
        "b": _facts(b),
        "same_rows": paired is not None,
        "metrics": metrics,
        "settings": _differing(a.report.get("config") or {}, b.report.get("config") or {}),
    }


def _facts(side: Side) -> dict[str, Any]:
    from k4_pipeline.report.summary import headline_lines, state

    metrics = side.report["metrics"]
    return {
        "name": side.name,
        "as_of": side.report["as_of"],
        "verdict": state(side.report)[1],
        "test_rows": metrics["n"],
        "k4_rows": metrics["n_k4"],
        "headline": headline_lines(side.report),
    }


def _scored(side: Side) -> Any:
    from k4_pipeline.cli.lookup import table_of
    from k4_pipeline.evaluation.validation import score_labelled
    from k4_pipeline.features.panel import read_panel

    assert side.store is not None
    return score_labelled(
        table_of(side.store, "predictions", side.report["as_of"]),
        table_of(side.store, "labeled_snapshots"),
        table_of(side.store, "sequences"),
        read_panel(side.store.current("market_features").dir).values,
    )


def _paired(a: Side, b: Side) -> dict[str, Any] | None:
    """A minus B on the same draws of whole tickers and months; None where the test rows or their outcomes differ."""
    from k4_pipeline.config import KEYS, IntegrityConfig
    from k4_pipeline.evaluation import metrics
    from k4_pipeline.evaluation.scores import MODEL, Rows, model_scores

    if a.store is None or b.store is None or a.report["as_of"] != b.report["as_of"]:
        return None
    one, two = _scored(a), _scored(b)
    columns = [*KEYS, "outcome_class"]
    if not one[columns].reset_index(drop=True).equals(two[columns].reset_index(drop=True)):
        return None
    _, differences = metrics.compare(
        {MODEL: model_scores(one), "other": model_scores(two)}, Rows.of(one), IntegrityConfig()
    )
    return {name: asdict(metric) for name, metric in differences["other"].items()}


def _differing(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    out = {}
    for section in sorted(a.keys() | b.keys()):
        one, two = a.get(section) or {}, b.get(section) or {}
        for name in sorted(one.keys() | two.keys()):
            if one.get(name) != two.get(name):
                out[f"{section}.{name}"] = [one.get(name), two.get(name)]
    return out


def show(found: dict[str, Any], console: Any) -> None:
    """Tables that fit 80 columns."""
    from rich.table import Table

    from k4_pipeline.report.numbers import METRICS

    for letter in ("a", "b"):
        side = found[letter]
        console.print(
            f"{letter.upper()}: {side['name']}: {side['verdict']}, {side['test_rows']:,} test rows, "
            f"{side['k4_rows']:,} K4",
            highlight=False,
            markup=False,
        )
    table = Table("metric", "A", "B", "A minus B", box=None, pad_edge=False)
    for key, row in found["metrics"].items():
        title, form = METRICS[key]
        cells = [_cell(m, form) for m in (row["a"], row["b"])]
        table.add_row(title, *cells, _cell(row["difference"], form.replace("{:", "{:+")))
    console.print(table)
    if not found["same_rows"]:
        console.print("Not on the same stored test rows, so no difference is given: it would compare the rows, too.")
    for name, (one, two) in found["settings"].items():
        console.print(f"{name}: A {one}, B {two}", highlight=False, markup=False)


def _cell(metric: dict[str, Any] | None, form: str) -> str:
    from k4_pipeline.report.numbers import number, span

    if metric is None:
        return ""
    interval = span(metric, form)
    return number(metric["value"], form) + (f"\n({interval})" if interval else "")
