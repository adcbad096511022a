"""`k4 champion`: which model serves, its history, and the way back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, plain_table, print_json, settings_for
from k4_pipeline.evaluation import champion as domain
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.writer_lock import writing

app = typer.Typer(no_args_is_help=True, help="The model that serves: its history, and the way back to an earlier one.")


@app.command("list")
@explained
def list_(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Every move of the champion, newest first."""
    moves = list(reversed(domain.history(ArtifactStore(settings_for(home).artifacts_dir))))
    if json_:
        print_json(moves)
        return
    table = plain_table("at (UTC)", "as of", "model", "K4 AUC", "EV r", "why")
    for move in moves:
        auc, ev = (_number(move, name) for name in ("k4_auc", "ev_correlation_pearson"))
        table.add_row(move["at"][:16].replace("T", " "), move["as_of"], move["model"][:12], auc, ev, move["why"])
    out_console().print(table if moves else "no champion yet; `k4 run` makes one")


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

    The model rolled back from is held back: it is not chosen again until it is trained anew. Signals are scored by
    the restored champion from their next materialization on.
    """
    settings = settings_for(home)
    with writing(settings.home):
        record = domain.roll_back(ArtifactStore(settings.artifacts_dir), to)
    if json_:
        print_json({"as_of": record.as_of, "model": record.model_fingerprint})
    else:
        out_console().print(
            f"the champion of as of {record.as_of} serves again (model {record.model_fingerprint[:12]})"
        )


@app.command()
@explained
def rebuild(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Restore the champion from its archive, when its files were damaged or lost."""
    settings = settings_for(home)
    with writing(settings.home):
        record = domain.rebuild(ArtifactStore(settings.artifacts_dir))
    if json_:
        print_json({"as_of": record.as_of, "model": record.model_fingerprint})
    else:
        out_console().print(f"the champion of as of {record.as_of} serves (model {record.model_fingerprint[:12]})")
