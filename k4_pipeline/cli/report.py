"""`k4 report`: where the validation report lies; opens it, or renders it again."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import HomeOption, JsonOption, explained, print_json, settings_for
from k4_pipeline.defs.json_values import with_nan
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.storage import ArtifactStore, atomic_write_bytes, sha256_file


@explained
def report(
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="Which report. Default: the newest as-of date.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    render: Annotated[bool, typer.Option("--render", help="Render it again from its stored content.")] = False,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Print the path of a validation report (HTML); with --json its whole content."""
    from k4_pipeline.report.render import render_report

    settings = settings_for(home)
    store = ArtifactStore(settings.artifacts_dir)
    known = store.partitions("validation_report")
    as_of = as_of or (known[-1] if known else None)
    if as_of is None:
        raise StaleArtifactError(f"there is no report below {settings.home} yet; run `k4 run` first")
    ref = store.last_good("validation_report", as_of)
    ref.verify()
    content = json.loads(ref.path("report.json").read_text())
    path = settings.reports_dir / as_of / "report.html"
    if render:
        render_report({**content, **{part: with_nan(content[part]) for part in ("metrics", "integrity")}}, path.parent)
    elif not path.is_file() or sha256_file(path) != ref.files["report.html"]["sha256"]:
        # What lies in reports/ is a copy: shown is what the checks of the artifact have seen.
        atomic_write_bytes(path, ref.path("report.html").read_bytes())
    if json_:
        print_json(content)
    else:
        typer.echo(str(path))
    if open_:
        webbrowser.open(path.as_uri())
