"""Named settings a user can change from the shell or the environment, and where each lands in `PipelineConfig`.

`k4 run --tickers 40` and `K4_TICKERS=40` are the same entry of `OPTIONS`; `--set training.batch_size=128` reaches any
field that has no name here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from k4_pipeline.config import LabelConfig, PatternConfig, PipelineConfig, model_preset
from k4_pipeline.config.fields import converted
from k4_pipeline.errors import ConfigError


@dataclass(frozen=True)
class Option:
    """`field` is a dotted path into PipelineConfig; a `preset` option replaces a whole section."""

    field: str = ""
    preset: str = ""
    is_path: bool = False


OPTIONS: dict[str, Option] = {
    "source": Option("source.source"),
    "path": Option("source.path", is_path=True),
    "snapshots": Option("source.snapshots_path", is_path=True),
    "missing_tickers": Option("source.missing_tickers"),
    "universe": Option("source.tickers"),
    "start": Option("source.start"),
    "world": Option("simulation.world"),
    "tickers": Option("simulation.n_tickers"),
    "bars": Option("simulation.n_bars"),
    "market_seed": Option("simulation.seed"),
    "labels": Option(preset="labels"),
    "labeling": Option("labels.labeling"),
    "patterns": Option(preset="patterns"),
    "test_months": Option("split.test_months"),
    "model_preset": Option(preset="recipe"),
    "architecture": Option("model.architecture"),
    "preset": Option("model.preset"),
    "backend": Option("model.backend"),
    "device": Option("training.device"),
    "epochs": Option("training.epochs"),
    "seed": Option("training.seed"),
}
_PRESETS: dict[str, Any] = {"labels": LabelConfig, "patterns": PatternConfig}


def place_named(text: str, below: Path | None = None, *, source: str | None = None) -> str:
    """The absolute path of a file or folder, told from the working folder or from `below`; the address of a store
    (`s3://bucket/prefix`) as it stands: a `Path` would drop one of its slashes. Of `source` plugin it is a name."""
    if "://" in text or source == "plugin":
        return text
    path = ((below or Path()) / Path(text).expanduser()).absolute()
    return str(path.resolve() if ".." in path.parts else path)


def options_from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The `K4_<OPTION>` variables that are set and not empty."""
    found = {name: environ.get(f"K4_{name.upper()}", "") for name in OPTIONS}
    return {name: value for name, value in found.items() if value}


def apply_options(config: PipelineConfig, options: Mapping[str, Any]) -> PipelineConfig:
    """`config` with the named options that are not None; presets first, so that single fields refine them."""
    given = {name: value for name, value in options.items() if value is not None}
    unknown = sorted(set(given) - set(OPTIONS))
    if unknown:
        raise ConfigError(f"there is no option {', '.join(unknown)}; there are {', '.join(OPTIONS)}")
    for name, value in sorted(given.items(), key=lambda item: not OPTIONS[item[0]].preset):
        option = OPTIONS[name]
        if option.preset == "recipe":
            config = dataclasses.replace(config, **model_preset(str(value), config.training, config.model))
            continue
        if option.preset:
            section = _PRESETS[option.preset].preset(str(value))
            config = dataclasses.replace(config, **{option.preset: section})
            continue
        if option.is_path and value:
            value = place_named(str(value), source=config.source.source if name == "path" else None)
        config = set_field(config, option.field, value)
    return config


def apply_assignments(config: PipelineConfig, assignments: list[str]) -> PipelineConfig:
    """Apply texts in order: `section.field=value`, or `name=value` of an entry of `OPTIONS`, as in `labels=rare_30`."""
    for text in assignments:
        dotted, equals, value = (part.strip() for part in text.partition("="))
        if equals and dotted in OPTIONS:
            config = apply_options(config, {dotted: value})
            continue
        if not equals or "." not in dotted:
            raise ConfigError(
                f"--set {text!r}: expected section.field=value, for example training.batch_size=128, or name=value "
                f"with one of {', '.join(OPTIONS)}"
            )
        config = set_field(config, dotted, value)
    return config


def set_field(config: PipelineConfig, dotted: str, value: Any) -> PipelineConfig:
    """Replace one field, its value converted to the declared type; `ConfigError` names field, value and choices."""
    section, _, name = dotted.partition(".")
    sections = {f.name for f in dataclasses.fields(config)}
    if section not in sections:
        raise ConfigError(f"there is no section {section!r}; there are {', '.join(sorted(sections))}")
    part = getattr(config, section)
    hints = get_type_hints(type(part))
    if name not in hints:
        raise ConfigError(f"{section} has no setting {name!r}; it has {', '.join(hints)}")
    part = dataclasses.replace(part, **{name: converted(dotted, value, hints[name], text=True)})
    return dataclasses.replace(config, **{section: part})
