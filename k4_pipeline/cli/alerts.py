"""`k4 alerts`: try the targets, see what was told and what waits, look and deliver without a daemon."""

from __future__ import annotations

import datetime as dt
import time
from pathlib import Path
from typing import Any

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, out_console, plain_table, print_json, settings_for
from k4_pipeline.errors import ConfigError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Messages about what went wrong and what is new: try them, see them.",
)
RECENT = 10


@app.command("test")
@explained
def try_targets(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Send one test message to every target in K4_ALERT_URLS now; exit status 1 when one did not take it."""
    from k4_pipeline.alerts.delivery import targets_of
    from k4_pipeline.alerts.messages import Message

    targets, problems = targets_of(settings_for(home).alert_urls)
    if not targets and not problems:
        raise ConfigError(
            "no alert URLs are set: set K4_ALERT_URLS to one or more Apprise URLs, separated by spaces; "
            "docs/operations.md has examples"
        )
    message = Message("K4: test", "This is a test of the alerts of k4_pipeline. Nothing happened.", ())
    results = [{"target": target.name, "error": target.send(message, trouble=False)} for target in targets]
    results += [{"target": "", "error": problem} for problem in problems]
    if json_:
        print_json(results)
    else:
        for result in results:
            out_console().print(
                f"{result['target'] or 'not a target'}: {result['error'] or 'taken'}", markup=False, highlight=False
            )
    if any(result["error"] for result in results):
        raise typer.Exit(1)


@app.command()
@explained
def status(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """What happened lately, which troubles last, and what each target was told or still waits for."""
    state = _status(settings_for(home))
    if json_:
        print_json(state)
        return
    console = out_console()
    console.print(f"last look: {state['looked_at'] or 'never; the sensor runs in `k4 ui`, or use `k4 alerts send`'}")
    targets = plain_table("target", "told", "waiting", "last error", "next attempt")
    for row in state["targets"]:
        cells = (row["target"], str(row["told"]), str(row["waiting"]), row["error"], row["next_attempt"])
        targets.add_row(*cells)
    console.print(targets if state["targets"] else "no targets: set K4_ALERT_URLS")
    for title, rows in (("troubles that last", state["open"]), ("latest facts", state["latest"])):
        table = plain_table("at (UTC)", "what", "cause", title=title)
        for row in rows:
            table.add_row(row["at"], row["what"], row["cause"][:100])
        console.print(table if rows else f"{title}: none")
    for problem in state["problems"]:
        console.print(problem, markup=False)


@app.command()
@explained
def send(json_: bool = JsonOption, home: Path | None = HomeOption) -> None:
    """Look and deliver once, as the sensor does every 15 seconds; for cron jobs without the daemon."""
    from k4_pipeline.defs.alert_look import look
    from k4_pipeline.defs.instance import create_home, open_instance

    settings = settings_for(home)
    create_home(settings)
    with open_instance(settings) as instance:
        done = look(instance, settings)
    if json_:
        print_json(
            {"new_facts": done.new_facts, "messages": done.delivered.messages, "waiting": done.delivered.waiting}
        )
    else:
        out_console().print(done.in_words(), markup=False)


def _utc(at: float) -> str:
    return dt.datetime.fromtimestamp(at, tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def _status(settings: Any) -> dict[str, Any]:
    from k4_pipeline.alerts.cursor import Cursor
    from k4_pipeline.alerts.delivery import targets_of
    from k4_pipeline.alerts.messages import in_words, plain
    from k4_pipeline.alerts.outbox import Outbox

    folder, now = settings.home / "alerts", time.time()
    outbox = Outbox(folder)
    cursor, lost = Cursor.load(folder / "cursor.json", now)
    targets, problems = targets_of(settings.alert_urls)
    rows = []
    for target in targets:
        state = outbox.targets.get(target.id)
        rows.append(
            {
                "target": target.name,
                "told": len(state.sent) if state else 0,
                "waiting": len(outbox.pending(target.id)) if state else 0,
                "error": state.error if state else "",
                "next_attempt": _utc(state.due_at()) if state and state.failures else "",
            }
        )

    def shown(facts: list[Any]) -> list[dict[str, str]]:
        return [{"id": f.id, "at": _utc(f.at), "what": in_words(f), "cause": plain(f.cause)} for f in facts]

    return {
        "looked_at": _utc(cursor.looked_at),
        "targets": rows,
        "open": shown(list(outbox.open_trouble.values())),
        "latest": shown(list(outbox.facts.values())[-RECENT:][::-1]),
        "problems": [*problems, *outbox.problems, *([lost] if lost else [])],
    }
