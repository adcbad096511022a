"""The web server process of `k4 ui`: the application of dagster-webserver behind the guard. Run as a module."""

from __future__ import annotations

import argparse
import os

TOKEN_VARIABLE = "K4_UI_TOKEN"
POLL_MS = 2000


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
            guarded = Guard(app, given.allowed, os.environ.get(TOKEN_VARIABLE, ""))
            uvicorn.run(guarded, host=given.host, port=given.port, log_level="warning", timeout_graceful_shutdown=3)


if __name__ == "__main__":
    main()
