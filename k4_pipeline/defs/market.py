"""A market as a Dagster component: a YAML file names source, universe and labels, and becomes a graph of its own.

Every asset and check of the project is built again under the market's own key prefix, resource and home folder, so
several markets live in one code location and never share a table. `k4 ui` loads `<home>/markets/*.yaml`; in another
Dagster project the same file is a `defs.yaml`.
"""

import datetime as dt
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import Field

from k4_pipeline.defs.assets import ASSETS
from k4_pipeline.defs.checks import CHECKS
from k4_pipeline.defs.confine import trust
from k4_pipeline.defs.jobs import SELECTIONS
from k4_pipeline.defs.market_homes import FOLDER, HOMES, SEPARATOR, home_of
from k4_pipeline.defs.partitions import quarters_of
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.schedules import FULL_CRON, NIGHTLY_CRON, ZONES, no_session, zone_of
from k4_pipeline.errors import ConfigError
from k4_pipeline.options import place_named
from k4_pipeline.settings import home_dir, save_settings

LINEAGE = "dagster/column_lineage"


class K4Market(dg.Component, dg.Model, dg.Resolvable):
    """One market: where its bars come from, which tickers, which labels. Everything else as in `k4 run --set`."""

    name: str = Field(description="Prefix of its assets, jobs and schedules: lower-case letters, digits, underscores.")
    source: str = Field(default="folder", description="folder, table, simulated, a vendor or plugin, as in `k4 run`.")
    path: str = Field(default="", description="Folder of files, or one table; relative to the YAML file's folder.")
    universe: list[str] = Field(default=[], description="Only these tickers; empty: all.")
    labels: str = Field(default="race_100", description="Label rule: race_100 or rare_30.")
    patterns: str = Field(default="standard", description="Pattern rule: standard or strict.")
    settings: list[str] = Field(default=[], description="Any other setting, as `section.field=value`.")
    home: str = Field(default="", description="Home folder; empty: markets/NAME below K4_HOME.")

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The graph of this market, for Dagster's loader of YAML files."""
        return self.definitions(Path(context.path))

    def definitions(self, folder: Path) -> dg.Definitions:
        """Assets, checks, jobs and schedules; `folder` is that of the YAML file. Raises `ConfigError`."""
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", self.name):
            raise ConfigError(f"market {self.name!r}: use lower-case letters, digits and single underscores")
        if self.source in ("folder", "table") and not self.path:
            raise ConfigError(f"market {self.name}: source {self.source} needs a path")
        resource = self._resource(folder)
        HOMES[self.name] = Path(resource.home)
        as_of = quarters_of(resource.settings())
        jobs = {
            name: dg.define_asset_job(
                f"{self.name}_{name}",
                selection=[self._key(asset) for asset in assets],
                description=f"{self.name}: {what}",
            )
            for name, (assets, what) in SELECTIONS.items()
        }
        return dg.Definitions(
            assets=[
                self._asset(asset, as_of)
                for asset in dg.with_source_code_references(ASSETS)
                if isinstance(asset, dg.AssetsDefinition)
            ],
            asset_checks=[self._checks(checks, as_of) for checks in CHECKS],
            jobs=list(jobs.values()),
            schedules=self._schedules(jobs, resource),
            resources={f"k4_{self.name}": resource},
        )

    def _resource(self, folder: Path) -> K4Resource:
        home = home_of(self.name, home_dir(), self.home)
        chosen = {"source": self.source, "universe": ",".join(self.universe), "labels": self.labels}
        chosen["patterns"] = self.patterns
        if self.path:
            chosen["path"] = place_named(self.path, below=folder, source=self.source)
            trust(chosen["path"])
        trust(str(home))
        fields = [f"{name}={value}" for name, value in chosen.items() if value]
        return K4Resource(home=str(home), set_fields=[*fields, *self.settings])

    def _key(self, asset: str) -> dg.AssetKey:
        return dg.AssetKey([self.name, asset])

    def _asset(self, made: dg.AssetsDefinition, as_of: dg.PartitionsDefinition) -> dg.AssetsDefinition:
        (spec,) = made.specs
        asset, body, resource = spec.key.path[-1], _body(made), f"k4_{self.name}"
        own = spec.replace_attributes(
            key=self._key(asset),
            deps=[self._key(dep.asset_key.path[-1]) for dep in spec.deps],
            group_name=f"{self.name}_{spec.group_name}",
            partitions_def=as_of if spec.partitions_def else None,
        )

        @dg.multi_asset(specs=[own], name=f"{self.name}{SEPARATOR}{asset}", required_resource_keys={resource})
        def of_market(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
            k4 = getattr(context.resources, resource)
            if not spec.deps:
                save_settings(k4.settings())  # so that `k4 … --home` goes on with the same market
            result = body(context, k4)
            lineage = (result.metadata or {}).get(LINEAGE)
            return result._replace(metadata={**result.metadata, LINEAGE: self._lineage(lineage)}) if lineage else result

        return of_market

    def _lineage(self, lineage: dg.TableColumnLineage) -> dg.TableColumnLineage:
        return dg.TableColumnLineage(
            {
                column: [dg.TableColumnDep(self._key(d.asset_key.path[-1]), d.column_name) for d in deps]
                for column, deps in lineage.deps_by_column.items()
            }
        )

    def _checks(self, made: dg.AssetChecksDefinition, as_of: dg.PartitionsDefinition) -> dg.AssetChecksDefinition:
        specs, body, resource = list(made.check_specs), _body(made), f"k4_{self.name}"
        asset = specs[0].asset_key.path[-1]

        @dg.multi_asset_check(
            name=f"{self.name}{SEPARATOR}{asset}_checks",
            specs=[
                dg.AssetCheckSpec(
                    spec.name,
                    asset=self._key(asset),
                    blocking=spec.blocking,
                    description=spec.description,
                    partitions_def=as_of if spec.partitions_def else None,
                )
                for spec in specs
            ],
            required_resource_keys={resource},
        )
        def of_market(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
            for result in body(context, getattr(context.resources, resource)):
                yield result._replace(asset_key=self._key(asset))

        return of_market

    def _schedules(self, jobs: dict[str, Any], resource: K4Resource) -> list[dg.ScheduleDefinition]:
        cleaning = resource.settings().config.cleaning
        exchange, zone = cleaning.default_exchange, zone_of(cleaning)
        ZONES.update({f"{self.name}_nightly_signals": zone, f"{self.name}_weekly_full_run": zone})

        @dg.schedule(
            name=f"{self.name}_nightly_signals",
            job=jobs["nightly"],
            cron_schedule=NIGHTLY_CRON,
            execution_timezone=zone,
            description=f"{self.name}: after every session of {exchange}, new bars to signals.",
        )
        def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            day = context.scheduled_execution_time.date() - dt.timedelta(days=1)
            why = no_session(exchange, day)
            return dg.SkipReason(why) if why else dg.RunRequest(run_key=f"{self.name}-night-{day}")

        weekly = dg.ScheduleDefinition(
            name=f"{self.name}_weekly_full_run",
            job=jobs["nightly_full"],
            cron_schedule=FULL_CRON,
            execution_timezone=zone,
            description=f"{self.name}: every Saturday the whole source to signals.",
        )
        return [nightly, weekly]


def _body(made: Any) -> Any:
    """The function that was decorated: `body(context, k4)`."""
    return made.op.compute_fn.decorated_fn


def stored_markets(home: Path | None = None) -> list[dg.Definitions]:
    """The markets of `<home>/markets/*.yaml`; `ConfigError` names the file and what is wrong in it."""
    found: dict[str, Path] = {}
    made = []
    for file in sorted(((home or home_dir()) / FOLDER).glob("*.yaml")):
        try:
            content = yaml.safe_load(file.read_text()) or {}
            market = K4Market.resolve_from_dict(content.get("attributes", content))
            if market.name in found:
                raise ConfigError(f"{found[market.name]} declares a market {market.name}, too")
            found[market.name] = file
            made.append(market.definitions(file.parent))
        except Exception as problem:  # whatever is wrong in it, the file has to be named
            raise ConfigError(f"market file {file} cannot be used: {problem}") from problem
    return made
