"""Commands that are imported when they are called: `k4 --help` needs none of them."""

from __future__ import annotations

import importlib
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from k4_pipeline.cli.ending import ending


class LazyGroup(TyperGroup):
    """A group whose commands are named in `table`: name -> (module, attribute, one line of help)."""

    table: ClassVar[dict[str, tuple[str, str, str]]] = {}
    _listing = False
    _as_json = False

    def make_context(self, info_name: str | None, args: list[str], *others: Any, **extra: Any) -> Any:
        """The context of the command line `args`."""
        self._as_json = "--json" in args
        with ending(as_json=self._as_json):
            return super().make_context(info_name, args, *others, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the context names."""
        with ending(as_json=self._as_json):
            return super().invoke(ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, its module imported; while help is printed, a stand-in that knows its one line."""
        if cmd_name not in self.table:
            return None
        module, attribute, line = self.table[cmd_name]
        if self._listing:
            return TyperCommand(cmd_name, help=line)
        made = getattr(importlib.import_module(module), attribute)
        if isinstance(made, typer.Typer):
            command: Any = typer.main.get_group(made)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            alone.command(cmd_name)(made)
            command = typer.main.get_command(alone)
        command.name = cmd_name
        return command

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, none of them imported."""
        self._listing = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listing = False

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Names and help lines for the shell, none of them imported."""
        self._listing = True
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self._listing = False
