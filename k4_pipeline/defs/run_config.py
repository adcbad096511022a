"""Run config of the UI: every setting as a typed, described, optional field, made from the config classes."""

from __future__ import annotations

import dataclasses
import enum
from types import NoneType, UnionType
from typing import Any, Literal, Optional, Union, get_args, get_origin, get_type_hints

import dagster as dg
from pydantic import Field, create_model

from k4_pipeline.config import PipelineConfig
from k4_pipeline.config.describe import field_comments
from k4_pipeline.options import set_field


def _plain(owner: str, hint: Any) -> Any:
    """The type of a field as Dagster's config knows it: choices as Enum, tuples as lists."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return enum.Enum(owner, {str(choice): choice for choice in inner})
    if origin in (Union, UnionType):
        return _plain(owner, next(a for a in inner if a is not NoneType))
    if origin is tuple:
        kind = inner[0]
        return list[str] if get_origin(kind) is Literal else list[kind]  # type: ignore[valid-type]
    return hint


def _section(name: str, section: Any) -> type[dg.Config]:
    """The options of one section; what is left out stays as stored."""
    comments, hints = field_comments(type(section)), get_type_hints(type(section))
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        hint = _plain(f"{name}_{field.name}", hints[field.name])
        default = getattr(section, field.name)
        text = f"{comments[field.name]} Default: {list(default) if isinstance(default, tuple) else default!r}.".strip()
        fields[field.name] = (Optional[hint], Field(default=None, description=text[:1].upper() + text[1:]))  # noqa: UP045
    made = create_model(f"{name.title()}Options", __base__=dg.Config, **fields)
    made.__doc__ = f"{(type(section).__doc__ or '').strip().splitlines()[0]} What is left out stays as stored."
    return made


DEFAULTS = PipelineConfig()
SECTIONS: dict[str, type[dg.Config]] = {
    field.name: _section(field.name, getattr(DEFAULTS, field.name)) for field in dataclasses.fields(PipelineConfig)
}


def with_sections(config: PipelineConfig, given: dict[str, Any]) -> PipelineConfig:
    """`config` with what was chosen; `given`: section -> {field: value} as Dagster stores it, None where left out."""
    for section, values in given.items():
        for name, value in (values or {}).items():
            if value is not None:
                plain = value.value if isinstance(value, enum.Enum) else value
                config = set_field(config, f"{section}.{name}", plain)
    return config
