"""`k4 reference`: docs/reference.md, made from the commands, the settings, the tables and the checks themselves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import typer

from k4_pipeline.cli.common import explained


@explained
def reference() -> None:
    """Print docs/reference.md; a test keeps the file up to date."""
    typer.echo("\n".join(lines()))


def lines() -> Iterator[str]:
    """The page, line by line."""
    yield "# Reference"
    yield ""
    yield "Made by `k4 reference` from the code; do not edit."
    yield from _commands()
    yield from _settings()
    yield from _tables()
    yield from _checks()


def _cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _table(header: list[str], rows: list[list[Any]]) -> Iterator[str]:
    yield ""
    yield "| " + " | ".join(header) + " |"
    yield "|" + "---|" * len(header)
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"


def _commands() -> Iterator[str]:
    from k4_pipeline.cli import Commands, app

    yield ""
    yield "## Commands"
    group: Any = typer.main.get_command(app)
    context = group.make_context("k4", ["run", "--help"], resilient_parsing=True)
    for name in Commands.table:
        yield from _command(f"k4 {name}", group.get_command(context, name))


def _command(name: str, command: Any) -> Iterator[str]:
    yield ""
    yield f"### {name}"
    yield ""
    yield _cell(command.help or "")
    rows = []
    for parameter in command.params:
        if parameter.name in ("help", "install_completion", "show_completion"):
            continue
        opts = ", ".join(f"`{o}`" for o in parameter.opts) if parameter.param_type_name == "option" else parameter.name
        rows.append([opts, getattr(parameter, "help", "") or ""])
    if rows:
        yield from _table(["option", "meaning"], rows)
    for sub, inner in getattr(command, "commands", {}).items():
        yield from _command(f"{name} {sub}", inner)


def _settings() -> Iterator[str]:
    from k4_pipeline.config import PipelineConfig
    from k4_pipeline.config.describe import field_comments

    yield ""
    yield "## Settings"
    yield ""
    yield "`--set section.name=value` in the shell, the launchpad in the UI; `k4 run` keeps what it used."
    for section in dataclasses.fields(PipelineConfig):
        value = getattr(PipelineConfig(), section.name)
        comments = field_comments(type(value))
        yield ""
        yield f"### {section.name}"
        yield ""
        yield _cell((type(value).__doc__ or "").split("\n\n")[0])
        rows = []
        for field in dataclasses.fields(value):
            default = getattr(value, field.name)
            shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
            rows.append([f"`{field.name}`", f"`{shown}`" if shown != "" else "empty", comments[field.name]])
        yield from _table(["name", "default", "meaning"], rows)


def _tables() -> Iterator[str]:
    from k4_pipeline.defs.columns import schema_of
    from k4_pipeline.defs.graph import ASSET_ORDER

    yield ""
    yield "## Tables"
    for asset in ASSET_ORDER:
        schema = schema_of(asset)
        if schema is None:
            continue
        yield ""
        yield f"### {asset}"
        if schema.description:
            yield ""
            yield _cell(schema.description)
        rows = [
            [f"`{name}`", (column.metadata or {}).get("dtype", ""), column.description or ""]
            for name, column in schema.columns.items()
        ]
        yield from _table(["column", "type", "meaning"], rows)


def _checks() -> Iterator[str]:
    from k4_pipeline.definitions import defs
    from k4_pipeline.defs.graph import ASSET_ORDER

    yield ""
    yield "## Asset checks"
    graph = defs.resolve_asset_graph()
    rows = []
    for asset in ASSET_ORDER:
        for key in sorted((k for k in graph.asset_check_keys if k.asset_key.to_user_string() == asset), key=str):
            spec = graph.get_check_spec(key)
            rows.append(
                [asset, key.name.replace("_", " "), "blocks" if spec.blocking else "warns", spec.description or ""]
            )
    yield from _table(["asset", "proposition", "failing", "how"], rows)
