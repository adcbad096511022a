"""`k4 features`: the declarations of the 69 channels."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from k4_pipeline.cli.common import JsonOption, explained, out_console, plain_table, print_json
from k4_pipeline.errors import ConfigError


@explained
def features(
    group: Annotated[str | None, typer.Option(help="Only this group: core, ebp or derived.")] = None,
    page: Annotated[bool, typer.Option("--markdown", help="Print docs/features.md, which is made from this.")] = False,
    json_: bool = JsonOption,
) -> None:
    """List the 69 channels: name, group, look-back and warm-up in bars, scale class, formula."""
    from k4_pipeline.features.spec import FEATURES, feature_list_hash
    from k4_pipeline.features.table import markdown

    groups = list(dict.fromkeys(spec.group for spec in FEATURES))
    if group is not None and group not in groups:
        raise ConfigError(f"--group {group!r}: there is no such group; use one of {', '.join(groups)}")
    if page:
        typer.echo(markdown(), nl=False)
        return
    chosen = [spec for spec in FEATURES if group in (None, spec.group)]
    if json_:
        print_json({"hash": feature_list_hash(), "features": [dataclasses.asdict(spec) for spec in chosen]})
        return
    names = ("#", "name", "group", "look-back", "warm-up", "scale", "formula")
    table = plain_table(*names, title=f"{len(chosen)} channels")
    for spec in chosen:
        lookback = "pattern" if spec.needs_pattern else str(spec.lookback_bars)
        table.add_row(str(spec.index), spec.name, spec.group, lookback, str(spec.warmup_bars), spec.scale, spec.formula)
    out_console().print(table)
