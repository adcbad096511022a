"""`k4 champion`: which model serves, its history, and the way back."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, plain_table, print_json, settings_for
from k4_pipeline.evaluation import champion as domain
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.writer_lock import writing

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The model that serves: its history, and the way back to an earlier one.",
)


@app.command("list")
@explained
def list_(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Every move of the champion, newest first."""
    moves = list(reversed(domain.history(ArtifactStore(settings_for(home).artifacts_dir))))
    if json_:
        print_json(moves)
        return
    table, console = plain_table("at (UTC)", "market", "as of", "model", "K4 AUC", "EV r"), out_console()
    for move in moves:
        auc, ev = (_number(move, name) for name in ("k4_auc", "ev_correlation_pearson"))
        at, market = move["at"][:16].replace("T", " "), str(move.get("market", 1))
        table.add_row(at, market, move["as_of"], move["model"][:12], auc, ev)
    console.print(table if moves else "no champion yet; `k4 run` makes one")
    for move in moves:
        why = f"{move['at'][:16].replace('T', ' ')}: {_in_words(move['why'])}"
        console.print(why, highlight=False, markup=False)


def _in_words(text: str) -> str:
    """Names of checks as words, which a narrow terminal can break."""
    return text.replace("_", " ")


@app.command()
@explained
def show(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """The model that serves: since when and why, its age and the limit, what did not pass, the last decision.

    `champion` and `previous` may be given to --as-of of other commands, and to `k4 compare`, in place of the date.
    """
    found = serving_facts(ArtifactStore(settings_for(home).artifacts_dir))
    if json_:
        print_json(found)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in found.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
        table.add_row(_in_words(name), Text(_in_words(shown) or "none"))
    out_console().print(table if found else "no champion yet; `k4 run` makes one")


def serving_facts(store: ArtifactStore, today: dt.date | None = None) -> dict[str, Any]:
    """What `show` prints; empty when nothing serves."""
    from k4_pipeline.evaluation.promotion import MAX_AGE_DAYS

    ref = domain.serving(store)
    if ref is None:
        return {}
    record, moves = domain.Record.read(ref), ref.meta["history"]
    age = ((today or dt.datetime.now(dt.UTC).date()) - dt.date.fromisoformat(record.as_of)).days
    # A champion of an older version keeps no decision beside it; its last move says the same in words.
    decided = json.loads(ref.path(domain.DECISION).read_text()) if domain.DECISION in ref.files else None
    limit = f"{MAX_AGE_DAYS} days before a candidate's as-of date: then one that is not shown to be worse takes over"
    return {
        "as_of": record.as_of,
        "model": record.model_fingerprint,
        "provisional": record.provisional,
        "failed": list(record.failed),
        "serves_since": moves[-1]["at"] if moves else None,
        "why": moves[-1]["why"] if moves else None,
        "age_days": age,
        "age_limit": limit,
        "past_the_age_limit": age > MAX_AGE_DAYS,
        "previous": next(
            (m["as_of"] for m in reversed(domain.of_its_market(moves)) if m["model"] != record.model_fingerprint), None
        ),
        "champions_of_other_markets": [
            f"market {m.get('market', 1)}: as of {m['as_of']} (model {m['model'][:12]})"
            for m in domain.of_other_markets(moves)
        ],
        "rolled_back_from": list(record.held_back),
        "last_decision": decided["why"] if decided else None,
    }


def _number(move: dict[str, Any], name: str) -> str:
    value = move.get("metrics", {}).get(name)
    return "" if value is None else f"{value:.3f}"


@app.command()
@explained
def rollback(
    to: Annotated[
        str, typer.Option("--to", metavar="AS_OF", help="As-of date to go back to. Default: the champion before.")
    ] = "",
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Serve an earlier champion again.

    The model rolled back from is held back: it is not chosen again until it is trained again. Signals are scored by
    the restored champion from their next materialization on.
    """
    settings = settings_for(home)
    with writing(settings.home):
        store = ArtifactStore(settings.artifacts_dir)
        record = domain.roll_back(store, domain.as_of_named(store, to))
    if json_:
        print_json({"as_of": record.as_of, "model": record.model_fingerprint})
    else:
        out_console().print(
            f"the champion of as of {record.as_of} serves again (model {record.model_fingerprint[:12]})"
        )


@app.command()
@explained
def rebuild(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Restore the champion from its archive, when its files were damaged or lost.

    Archived champions that cannot be read are set aside, in the folder `damaged` of the home.
    """
    settings = settings_for(home)
    with writing(settings.home):
        record, aside = domain.rebuild(ArtifactStore(settings.artifacts_dir))
    if json_:
        set_aside = [str(path) for path in aside]
        print_json({"as_of": record.as_of, "model": record.model_fingerprint, "set_aside": set_aside})
        return
    out_console().print(f"the champion of as of {record.as_of} serves (model {record.model_fingerprint[:12]})")
    for path in aside:
        typer.echo(f"an archived champion could not be read and lies in {path} now")
