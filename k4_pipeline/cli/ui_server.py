"""The web server process of `k4 ui`: the application of dagster-webserver behind the guard. Run as a module."""

from __future__ import annotations

import argparse
import os
from typing import Any

TOKEN_VARIABLE = "K4_UI_TOKEN"
POLL_MS = 2000


def pages() -> list[Any]:
    """Routes of what this project shows beside Dagster's own pages: reports, and the docs of a checkout."""
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    from k4_pipeline.defs.remedies import DOCS_PATH, MARKETS_PATH, REPORTS_PATH
    from k4_pipeline.report.markdown_page import DOCS
    from k4_pipeline.settings import Settings, home_dir

    reports = Settings(home_dir()).reports_dir
    reports.mkdir(parents=True, exist_ok=True)
    made: list[Any] = [
        Mount(REPORTS_PATH, StaticFiles(directory=reports, html=True)),
        Route(f"{MARKETS_PATH}/{{market}}/reports/{{name:path}}", market_page),
    ]
    if DOCS.is_dir():
        made.append(Route(f"{DOCS_PATH}/{{name:path}}.md", docs_page))
        made.append(Mount(DOCS_PATH, StaticFiles(directory=DOCS)))
    return made


async def market_page(request: Any) -> Any:
    """A page of the reports of a market beside the main one, also of one that was declared after the start."""
    from starlette.responses import PlainTextResponse
    from starlette.staticfiles import StaticFiles

    from k4_pipeline.defs.market_homes import declared_home
    from k4_pipeline.settings import Settings, home_dir

    home = declared_home(request.path_params["market"], home_dir())
    if home is None:
        return PlainTextResponse("There is no such market.", 404)
    files = StaticFiles(directory=Settings(home).reports_dir, check_dir=False)
    return await files.get_response(request.path_params["name"], request.scope)


async def docs_page(request: Any) -> Any:
    """A page of the docs as HTML."""
    from starlette.responses import HTMLResponse, PlainTextResponse

    from k4_pipeline.report.markdown_page import DOCS, markdown_page

    known = {page.relative_to(DOCS).with_suffix("").as_posix(): page for page in DOCS.rglob("*.md")}
    page = known.get(request.path_params["name"])
    return PlainTextResponse("There is no such page.", 404) if page is None else HTMLResponse(markdown_page(page))


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
