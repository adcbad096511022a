"""The one resource of the project: settings and artifact store."""

import dataclasses
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from k4_pipeline.config import PipelineConfig, from_dict, to_dict
from k4_pipeline.defs.confine import confine
from k4_pipeline.options import apply_assignments
from k4_pipeline.settings import Settings, load_settings
from k4_pipeline.storage import ArtifactStore


class K4Resource(dg.ConfigurableResource):
    """Opens K4_HOME. Without configuration it follows `settings.json` and the `K4_*` variables of the moment."""

    home: str = Field(default="", description="Home folder; empty: K4_HOME, or .k4 in the working folder.")
    set_fields: list[str] = Field(
        default=[],
        description="Settings of this run alone, as section.field=value or name=value; for example training.epochs=5, "
        "labels=rare_30, labeling=first_breach.",
    )
    frozen_config: dict[str, Any] = Field(
        default={}, description="A complete configuration that replaces all stored settings; set by `k4 run`."
    )

    @classmethod
    def frozen(cls, settings: Settings) -> "K4Resource":
        """A resource that works with exactly these settings, whatever the environment says."""
        return cls(home=str(settings.home), frozen_config=to_dict(settings.config))

    def settings(self) -> Settings:
        """The settings of this run."""
        home = Path(self.home) if self.home else None
        if self.frozen_config:
            config = from_dict(PipelineConfig, self.frozen_config)
            settings = dataclasses.replace(load_settings(home, stored=False), config=config)
        else:
            settings = load_settings(home)
        config = apply_assignments(settings.config, self.set_fields)
        settings = dataclasses.replace(settings, config=config)
        confine(settings)
        return settings

    def store(self) -> ArtifactStore:
        """The artifact store below the home folder."""
        return ArtifactStore(self.settings().artifacts_dir)
