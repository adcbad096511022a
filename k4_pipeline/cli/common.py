"""What all commands share: consoles, JSON output, and errors as one clear sentence instead of a traceback."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console

from k4_pipeline.cli.ending import print_error, reader_is_gone
from k4_pipeline.config import FILE_SOURCES
from k4_pipeline.errors import K4Error
from k4_pipeline.settings import Settings, home_dir, load_settings

P = ParamSpec("P")
R = TypeVar("R")

HomeOption = typer.Option(None, "--home", help="Home folder. Default: K4_HOME, or .k4 in the working folder.")
JsonOption = typer.Option(False, "--json", help="Print one JSON document instead of text.")
DebugOption = typer.Option(False, "--debug", help="Show the full traceback of an error.")


class Output(Console):
    """A console that leaves a closed pipe to `cli.ending`."""

    def on_broken_pipe(self) -> None:
        """Raises `BrokenPipeError`."""
        raise BrokenPipeError


def out_console() -> Console:
    """For results, on standard output."""
    return Output(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 140)


def err_console() -> Console:
    """For progress and errors. A copy of the file handle, because Dagster redirects standard error during a step."""
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w", buffering=1) if _has_handle() else sys.stderr
    return Output(file=stream, stderr=True)


def _has_handle() -> bool:
    try:
        sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return False
    return True


def plain_table(*names: str, title: str = "") -> Any:
    """A rich table without lines; what does not fit its column is folded, never cut, and no text is read as markup."""
    from rich.table import Table
    from rich.text import Text

    class Plain(Table):
        def add_row(self, *cells: Any, **options: Any) -> None:
            super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    table = Plain(box=None, pad_edge=False, title=title or None, title_justify="left")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def print_json(value: Any) -> None:
    """One JSON document on standard output; NaN becomes null."""
    from k4_pipeline.storage.json_values import json_safe

    sys.stdout.write(json.dumps(json_safe(value), indent=1, default=str, allow_nan=False) + "\n")


def stored_as_of(store: Any, asset: str, wanted: str | None) -> str:
    """The as-of date to look at: `wanted` where `asset` has it, else the newest that is not stale, else the last made.

    A clear error names the choices.

    `champion` and `previous` stand for the as-of date of the model that serves, and of the one that served before.
    """
    from k4_pipeline.errors import BadInputError, StaleArtifactError
    from k4_pipeline.evaluation.champion import as_of_named

    known = store.partitions(asset)
    if not known:
        raise StaleArtifactError(f"there is no {asset} below {store.root} yet; run `k4 run` first")
    wanted = None if wanted is None else as_of_named(store, wanted)
    if wanted is not None and wanted not in known:
        raise BadInputError(f"--as-of {wanted}: {asset} has no such date; there are {', '.join(known)}")
    if wanted is not None:
        return wanted
    fresh = [as_of for as_of in known if not why_stale(store, asset, as_of)]
    return fresh[-1] if fresh else max(known, key=lambda as_of: store.history(asset, as_of)[-1]["at"])


def why_stale(store: Any, asset: str, as_of: str) -> str:
    """Why the table was made of other data or by other code than is there now; empty where it was not."""
    try:
        store.verify_chain([store.current(asset, as_of)])
    except K4Error as problem:
        return str(problem)
    return ""


def require_date(option: str, text: str | None) -> None:
    """Raises `BadInputError` that says how to write a date."""
    import datetime as dt

    from k4_pipeline.errors import BadInputError

    try:
        if text is not None:
            dt.date.fromisoformat(text)
    except ValueError:
        raise BadInputError(f"{option} {text!r} is no date; write it as YYYY-MM-DD") from None


def require_past(option: str, text: str | None) -> None:
    """Raises `BadInputError` for a date after today: nothing is known by which to judge a model of then."""
    import datetime as dt

    from k4_pipeline.errors import BadInputError

    today = dt.date.today().isoformat()
    if text is not None and text > today:
        raise BadInputError(f"{option} {text} lies in the future; give a date up to {today}")


def as_day(text: str) -> Any:
    """A date given on the command line as a pandas Timestamp; `BadInputError` says how to write it."""
    import pandas as pd

    require_date("--date", text)
    return pd.Timestamp(text)


def source_named(source: str | None, path: str | None) -> str | None:
    """`source`, or what `path` is: folder or table; None where neither is given."""
    if source or path is None:
        return source
    from k4_pipeline.market.sources.kinds import kind_of

    return kind_of(path)


def places_given(source: str | None, given: list[str]) -> tuple[str | None, list[str]]:
    """--source and --path of a command: (the kind of source, the paths and addresses, absolute).

    Raises `BadInputError` where bars shall be read from a file or folder that is not there.
    """
    from k4_pipeline.options import place_named

    kind = source_named(source, given[0] if given else None)
    for path in given:
        _require_path(kind, path)
    return kind, [place_named(path, source=kind) for path in given]


def _require_path(source: str | None, given: str) -> None:
    """Names what is near a path that is not there."""
    import difflib

    from k4_pipeline.errors import BadInputError

    if source not in FILE_SOURCES or "://" in given:
        return
    path = Path(given)
    if path.expanduser().exists():
        return
    beside = path.expanduser().absolute().parent
    names = [p.name for p in beside.iterdir()] if beside.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=2)
    hint = f" (near it: {', '.join(near)})" if near else ""
    raise BadInputError(
        f"--path {path}: there is no such file or folder{hint}; give a folder with one CSV or Parquet file per ticker, "
        "or one long Parquet or CSV table"
    )


def require_device(name: str) -> None:
    """A `ConfigError` when a CUDA device is asked for and none is seen; before anything is read."""
    if name.startswith("cuda"):
        from k4_pipeline.training.seeding import resolve_device

        resolve_device(name)


def settings_for(home: Path | None) -> Settings:
    """Stored settings and environment, below `home`; says on standard error what an older version's hold too much."""
    settings = load_settings(home)
    say_dropped(settings)
    return settings


def say_dropped(settings: Settings) -> None:
    """One line for the settings that an upgrade dropped."""
    if settings.dropped:
        typer.echo(f"k4: {dropped_in_words(settings)}", err=True)


def dropped_in_words(settings: Settings) -> str:
    """Which settings an upgrade dropped, and for how long this is said."""
    return (
        f"{settings.settings_file} is of another version of k4: {'; '.join(settings.dropped)}. The rest of it is used; "
        "the next `k4 run` that succeeds writes it anew"
    )


def explained(command: Callable[P, R]) -> Callable[P, R]:
    """Turn an error into one message (with --json one JSON document) and an exit status: 1, or 130 when interrupted.

    With --debug show where it came from.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            with _stops_as_interrupts():
                return command(*args, **kwargs)
        except (typer.Exit, typer.Abort):
            raise
        except BaseException as error:
            if isinstance(error, BrokenPipeError) and reader_is_gone():
                raise
            if kwargs.get("debug"):
                traceback.print_exc()
            if isinstance(error, SystemExit | GeneratorExit):
                raise
            _end(error, home=kwargs.get("home"), as_json=bool(kwargs.get("json_")))

    return run


INTERRUPTED = 130


@contextlib.contextmanager
def _stops_as_interrupts() -> Iterator[None]:
    """SIGTERM and the SIGHUP of a closed terminal end a command as Ctrl-C does; what `nohup` ignores stays ignored."""
    numbers = (signal.SIGTERM, signal.SIGHUP) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) is signal.SIG_DFL}
    for number in before:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(error: BaseException, *, home: Any, as_json: bool) -> NoReturn:
    from k4_pipeline.storage.os_errors import in_words

    kind, code = type(error).__name__, 1
    if kind in ("KeyboardInterrupt", "DagsterExecutionInterruptedError"):
        kind, code = "Interrupted", INTERRUPTED
        message = "interrupted; what was finished is stored, and a training goes on after its last epoch"
    elif isinstance(error, K4Error):
        message = str(error)
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        unexpected = f"unexpected {kind} at {Path(last.filename).name}:{last.lineno}: {error}"
        message = in_words(error, Path(home) if home else home_dir()) or unexpected
    if as_json:
        print_error(kind, message)
    typer.secho(f"k4: {kind}: {message}" if isinstance(error, K4Error) else f"k4: {message}", fg="red", err=True)
    raise typer.Exit(code) from None
