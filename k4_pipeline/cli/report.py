"""`k4 report`: where the validation report lies; opens it, or renders it again."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from k4_pipeline.cli.common import (
    HomeOption,
    JsonOption,
    explained,
    print_json,
    settings_for,
    stored_as_of,
    why_stale,
)


@explained
def report(
    as_of: Annotated[
        str | None, typer.Option("--as-of", metavar="DATE", help="Which report. Default: the newest that is not stale.")
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    render: Annotated[bool, typer.Option("--render", help="Render it again from its stored content.")] = False,
    single_file: Annotated[
        bool, typer.Option("--single-file", help="Also write one page that holds everything (5 MB), to send on.")
    ] = False,
    json_: bool = JsonOption,
    home: Path | None = HomeOption,
) -> None:
    """Print the path of a validation report (HTML) and which proofs were made of it; with --json its whole content."""
    from k4_pipeline.leakage.engine.audit_stamp import proofs_in_words, read_stamp
    from k4_pipeline.report.render import render_html, render_report, share_plotly, with_proofs
    from k4_pipeline.storage import ArtifactStore, atomic_write_bytes, atomic_write_text, sha256_file

    settings = settings_for(home)
    store = ArtifactStore(settings.artifacts_dir)
    as_of = stored_as_of(store, "validation_report", as_of)
    ref = store.last_good("validation_report", as_of)
    ref.verify()
    content = json.loads(ref.path("report.json").read_text())
    predictions = ref.inputs.get(f"predictions@{as_of}", "")
    path = settings.reports_dir / as_of / "report.html"
    if render:
        render_report(content, path.parent)
    else:
        # What lies in reports/ is a copy: shown is what the checks of the artifact have seen.
        for name in (n for n in ref.files if n.startswith("report.")):
            copy = path.with_name(name)
            if not copy.is_file() or sha256_file(copy) != ref.files[name]["sha256"]:
                atomic_write_bytes(copy, ref.path(name).read_bytes())
    share_plotly(settings.reports_dir)
    proofs = proofs_in_words(read_stamp(settings.reports_dir, as_of, predictions))
    page = path.read_text()
    if single_file:
        path, page = path.with_name("report-single.html"), render_html(content, single_file=True)
    atomic_write_text(path, with_proofs(page, proofs))
    if json_:
        print_json(content)
    else:
        typer.echo(str(path))
        typer.echo(proofs, err=True)
        if why_stale(store, "validation_report", as_of):
            typer.echo("It is stale: made of other data or by other code than is here now (`k4 status`).", err=True)
    if open_:
        webbrowser.open(path.as_uri())
