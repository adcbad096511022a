"""The web server process of `k4 ui`: the application of dagster-webserver behind the guard. Run as a module."""

from __future__ import annotations

import argparse
import mimetypes
import os
from pathlib import Path
from typing import Any

TOKEN_VARIABLE = "K4_UI_TOKEN"
POLL_MS = 2000


def pages() -> list[Any]:
    """Routes of what this project shows beside Dagster's own pages: reports, and the docs of a checkout."""
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    from k4_pipeline.defs.remedies import DOCS_PATH, REPORTS_PATH
    from k4_pipeline.settings import Settings, home_dir

    reports, docs = Settings(home_dir()).reports_dir, Path(__file__).parents[2] / "docs"
    reports.mkdir(parents=True, exist_ok=True)
    made = [Mount(REPORTS_PATH, StaticFiles(directory=reports, html=True))]
    if docs.is_dir():
        mimetypes.add_type("text/plain", ".md")  # shown, not downloaded
        made.append(Mount(DOCS_PATH, StaticFiles(directory=docs)))
    return made


def main() -> None:
    """Serve until a signal comes."""
    import dagster as dg
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    from k4_pipeline.cli.ui_guard import Guard

    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workspace", required=True)
    parser.add_argument("--allowed", nargs="*", default=[])
    given = parser.parse_args()
    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(15_000, 3600, 20)
        target = WorkspaceFileTarget([given.workspace])
        with WorkspaceProcessContext(instance, version=__version__, workspace_load_target=target) as context:
            app = create_app_from_workspace_process_context(context, live_data_poll_rate=POLL_MS)
            app.router.routes[:0] = pages()
            guarded = Guard(app, given.allowed, os.environ.get(TOKEN_VARIABLE, ""))
            uvicorn.run(guarded, host=given.host, port=given.port, log_level="warning", timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
