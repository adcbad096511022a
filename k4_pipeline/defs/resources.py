"""The one resource of the project: settings and artifact store."""

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field, create_model

from k4_pipeline.config import PipelineConfig, from_dict, to_dict
from k4_pipeline.defs.confine import confine
from k4_pipeline.defs.run_config import SECTIONS, with_sections
from k4_pipeline.options import apply_assignments
from k4_pipeline.settings import Settings, load_settings
from k4_pipeline.storage import ArtifactStore


class _Opened(dg.ConfigurableResource):
    """What every form of the resource can do."""

    home: str = Field(default="", description="Home folder; empty: K4_HOME, or .k4 in the working folder.")
    set_fields: list[str] = Field(
        default=[],
        description="Presets of this run alone, as name=value: labels=rare_30, patterns=strict, model_preset=fast. "
        "They come before the single settings below.",
    )

    def settings(self) -> Settings:
        """The settings of this run."""
        settings = load_settings(Path(self.home) if self.home else None)
        config = apply_assignments(settings.config, self.set_fields)
        config = with_sections(config, {name: _values(getattr(self, name)) for name in SECTIONS})
        settings = dataclasses.replace(settings, config=config)
        confine(settings)
        return settings

    def store(self) -> ArtifactStore:
        """The artifact store below the home folder."""
        return ArtifactStore(self.settings().artifacts_dir)

    @classmethod
    def frozen(cls, settings: Settings) -> "FrozenK4":
        """A resource that works with exactly these settings, whatever the environment says."""
        return FrozenK4(home=str(settings.home), frozen_config=to_dict(settings.config))


def _values(section: Any) -> dict[str, Any]:
    return {} if section is None else section.model_dump()


_SECTION_FIELDS: dict[str, Any] = {
    name: (options, Field(default=options(), description=options.__doc__)) for name, options in SECTIONS.items()
}
_WITH_SECTIONS: Any = create_model("WithSections", __base__=_Opened, **_SECTION_FIELDS)


class K4Resource(_WITH_SECTIONS):
    """Opens K4_HOME. Without configuration it follows `settings.json` and the `K4_*` variables of the moment."""


class FrozenK4(_Opened):
    """The resource of `k4 run`: a complete configuration that replaces all stored settings."""

    frozen_config: dict[str, Any]

    def settings(self) -> Settings:
        """The settings of this run."""
        config = from_dict(PipelineConfig, self.frozen_config)
        settings = dataclasses.replace(load_settings(Path(self.home), stored=False), config=config)
        confine(settings)
        return settings
