"""`k4 monitor`: hit rate by tier, calibration and value of the signals whose outcome is known by now."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, print_json, settings_for


@explained
def monitor(
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.parquet", help="Write the ledger, outcomes joined, to a file.")
    ] = None,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Compare what was said with what came: the prediction ledger joined with the labels known on the last bar.

    Reads the stored bars and the ledger and writes the page with the plots. Exit status 3 when matured signals refute
    a certificate.
    """
    from k4_pipeline.report.monitor import write_monitor_page

    settings = settings_for(home)
    shown = collect(settings, out)
    page = write_monitor_page(shown, settings.reports_dir)
    if json_:
        print_json(shown)
    else:
        show(shown, out_console())
        out_console().print(f"Page: {page}", soft_wrap=True, highlight=False, markup=False)
    if any(t["claim_holds"] is False for t in shown["tiers"]):
        raise typer.Exit(3)


def collect(settings: Any, out: Path | None = None) -> dict[str, Any]:
    """The dict of `evaluation.monitoring.summary` for a home folder; with `out`, the joined ledger as Parquet."""
    from k4_pipeline.errors import BadInputError
    from k4_pipeline.evaluation import champion
    from k4_pipeline.evaluation.drift_log import by_month
    from k4_pipeline.evaluation.ledger import LEDGER_KEY, open_drift, open_ledger
    from k4_pipeline.evaluation.monitoring import certified_precision, summary
    from k4_pipeline.pipeline.outcomes import matured_ledger
    from k4_pipeline.pipeline.stored_bars import bars_of_tonight
    from k4_pipeline.storage import ArtifactStore, write_parquet

    ledger = open_ledger(settings.home).read()
    if ledger.empty:
        raise BadInputError(f"no signal was ever given in {settings.home}; `k4 run` or `k4 nightly` makes the first")
    store = ArtifactStore(settings.artifacts_dir)
    matured = matured_ledger(bars_of_tonight(store), ledger, settings.config)
    serving = champion.serving(store)
    if out is not None:
        columns = [*LEDGER_KEY, "outcome_class", "label_end_date", "value"]
        write_parquet(ledger.merge(matured[columns], on=list(LEDGER_KEY), how="left", validate="1:1"), out)
    drift = by_month(open_drift(settings.home).read())
    if serving is None:
        return summary(ledger, matured, None, drift)
    model = champion.Record.read(serving).model_fingerprint
    return summary(ledger, matured, certified_precision(serving.dir), drift, model)


def show(shown: dict[str, Any], console: Any) -> None:
    """The summary as tables that fit 80 columns."""
    from rich.table import Table

    console.print(
        f"{shown['rows']} signals given from {shown['first_night']} to {shown['last_night']}, "
        f"{shown['matured']} with a known outcome"
    )
    if not shown["matured"]:
        console.print("No label is known yet: it takes the whole horizon after the night of the signal.")
    else:
        tiers = Table("tier", "patterns", "K4", "hit rate (95%)", "certified", "or better", title="Hit rate by tier")
        for t in shown["tiers"]:
            rate = f"{t['hit_rate']:.1%} ({t['low']:.1%} to {t['high']:.1%})" if t["n"] else "-"
            certified = f"{t['certified']:.1%}" if t["certified"] else "none"
            holds = {None: "-", True: "not refuted", False: "refuted"}[t["claim_holds"]]
            if t["n_judged"]:
                holds += f": {t['hits_judged']} of {t['n_judged']}"
            tiers.add_row(t["tier"], str(t["n"]), str(t["hits"]), rate, certified, holds)
        console.print(tiers)
        months = Table("month", "signals", "K4", "K4 claimed", "EV claimed", "EV realised (95%)", title="By month")
        for m in shown["months"][-12:]:
            realised = f"{m['ev_realised']:.2f} ({m['ev_realised_low']:.2f} to {m['ev_realised_high']:.2f})"
            claimed, ev = f"{m['k4_claimed']:.1%}", f"{m['ev_claimed']:.2f}"
            months.add_row(m["month"], str(m["n"]), str(m["n_k4"]), claimed, ev, realised)
        console.print(months)
    waiting = shown["waiting"]
    if waiting and waiting["n"]:
        console.print(
            f"{waiting['n']} wait for their outcome; their own probabilities promise {waiting['n_k4_expected']:.1f} K4 "
            f"and a mean value of {waiting['ev_expected']:.2f}"
        )
