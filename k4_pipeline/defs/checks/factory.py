"""One check op per asset: all its propositions on the newest version, then the verdict that promotes or rejects it.

A blocking check runs after its asset was stored, so storing alone publishes nothing: consumers read what was promoted,
and promotion happens here, exactly when every blocking proposition held. A proposition that raises, or finds nothing to
look at, has failed.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.graph import PARTITIONED_ASSETS
from k4_pipeline.defs.partitions import as_of_partitions
from k4_pipeline.defs.progress import progress_of_run
from k4_pipeline.defs.remedies import answer
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.defs.staging import load_json, load_table
from k4_pipeline.defs.verdicts import pack
from k4_pipeline.progress import Progress
from k4_pipeline.storage import ArtifactRef, ArtifactStore
from k4_pipeline.verdict import Verdict, guarded

warnings.filterwarnings("ignore", category=dg.PreviewWarning)  # partitions_def of AssetCheckSpec


@dataclass
class Evidence:
    """What a proposition may look at: the newest version of the asset and the very inputs it names."""

    ref: ArtifactRef
    store: ArtifactStore
    config: PipelineConfig
    _inputs: dict[str, ArtifactRef] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)  # what several propositions of one asset need, read once
    raw_dir: Path | None = None  # where vendors' files are kept

    def input(self, asset: str) -> ArtifactRef:
        """The input version that this version was made from, its fingerprint compared, its bytes verified."""
        if asset not in self._inputs:
            keys = [key for key in self.ref.inputs if key.partition("@")[0] == asset]
            if len(keys) != 1:
                raise LookupError(f"{self.ref.key} names {len(keys)} inputs called {asset}; one is expected")
            name, _, partition = keys[0].partition("@")
            ref = self.store.current(name, partition or None)
            if ref.fingerprint != self.ref.inputs[keys[0]]:
                raise LookupError(
                    f"{self.ref.key} was made from {keys[0]} {self.ref.inputs[keys[0]][:12]}; stored now is "
                    f"{ref.fingerprint[:12]}"
                )
            ref.verify()
            self._inputs[asset] = ref
        return self._inputs[asset]

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """The asset's own table."""
        return load_table(self.ref)

    def input_table(self, asset: str) -> pd.DataFrame:
        """The table of an input."""
        return load_table(self.input(asset))

    def json(self, name: str) -> Any:
        """A JSON file of the version under test."""
        return load_json(self.ref, name)


@dataclass(frozen=True)
class Proposition:
    """A sentence that must hold of a stored version.

    `objects` says of a failed verdict whether it blocks; without it every failure of a blocking proposition does.
    """

    name: str
    holds: Callable[[Evidence], Verdict]
    blocking: bool = True
    description: str = ""
    objects: Callable[[Verdict], bool] | None = None

    def blocks(self, verdict: Verdict) -> bool:
        """Whether this verdict keeps the version from being published."""
        return self.blocking and not verdict.holds and (self.objects is None or self.objects(verdict))


def schema_proposition(asset: str, schema_of: Callable[[Evidence], Any]) -> Proposition:
    """The blocking pandera check of a table: `schema_of` picks the schema for the settings it was made with."""
    name = f"{asset}_match_their_schema" if asset.endswith("s") else f"{asset}_matches_its_schema"

    def holds(evidence: Evidence) -> Verdict:
        from k4_pipeline.schemas import validate

        schema = schema_of(evidence)
        rows = len(evidence.table)
        # An empty table is evidence where the schema allows it.
        cases = rows or int((schema.metadata or {}).get("min_rows") == 0)
        return Verdict.of(name, cases, validate(schema, evidence.table), rows=rows)

    return Proposition(name, holds, description="Columns, dtypes, order, key, finite values and row rules (pandera).")


def bytes_proposition() -> Proposition:
    """Every file of the version is as its manifest says."""

    def holds(evidence: Evidence) -> Verdict:
        evidence.ref.verify()
        return Verdict.of("stored_bytes_are_those_written", len(evidence.ref.files), [])

    return Proposition(
        "stored_bytes_are_those_written", holds, description="sha256 of every stored file equals its manifest's."
    )


PROPOSITIONS: dict[str, list[Proposition]] = {}  # of every asset, filled by `checks_for`


def judge(
    evidence: Evidence, propositions: list[Proposition], progress: Progress = lambda done, total: None
) -> list[Verdict]:
    """Evaluate all propositions and promote or reject the version."""
    verdicts = []
    for done, p in enumerate(propositions):
        progress(done, len(propositions))
        verdicts.append(guarded(p.name, functools.partial(p.holds, evidence)))
    progress(len(propositions), len(propositions))
    ref, failed = (
        evidence.ref,
        [
            f"{v.name}: {v.findings[0] if v.findings else 'failed'}"
            for p, v in zip(propositions, verdicts, strict=True)
            if p.blocks(v)
        ],
    )
    if failed:
        evidence.store.reject(ref.asset, ref.partition, ref.fingerprint, failed)
    else:
        evidence.store.promote(ref.asset, ref.partition, ref.fingerprint, pack(verdicts))
    return verdicts


def to_result(asset: str, proposition: Proposition, verdict: Verdict, home: Path | None = None) -> dg.AssetCheckResult:
    """A verdict as Dagster shows it; `home` is where the command that answers a failure has to look."""
    findings = "\n".join(f"- {f}" for f in verdict.findings)
    detail = {k: v for k, v in verdict.detail.items() if v is not None}
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=proposition.name,
        passed=verdict.holds,
        severity=_severity(proposition, verdict),
        description=(verdict.findings[0][:300] if verdict.findings else f"holds in {verdict.cases:,} cases"),
        metadata={
            "cases": verdict.cases,
            "findings": dg.MetadataValue.md(findings or "none"),
            **({} if verdict.holds else _answer(asset, home)),
            **_plain(detail),
        },
    )


def _answer(asset: str, home: Path | None) -> dict[str, Any]:
    said = answer(asset, home)
    return {
        "next_command": dg.MetadataValue.text(said["next_command"]),
        "docs": dg.MetadataValue.url(said["docs"]),
    }


def _severity(proposition: Proposition, verdict: Verdict) -> dg.AssetCheckSeverity:
    # Dagster stops a run for a failed blocking check of severity ERROR alone.
    error = proposition.blocking and (verdict.holds or proposition.blocks(verdict))
    return dg.AssetCheckSeverity.ERROR if error else dg.AssetCheckSeverity.WARN


def _plain(detail: dict[str, Any]) -> dict[str, Any]:
    return {
        k: v if isinstance(v, (int, float, str, bool)) else dg.MetadataValue.text(str(v)) for k, v in detail.items()
    }


def checks_for(asset: str, propositions: list[Proposition]) -> dg.AssetChecksDefinition:
    """The check op of one asset; it cannot be run in part, because its verdict is about all of them together."""
    propositions = PROPOSITIONS[asset] = [bytes_proposition(), *propositions]
    partitions = as_of_partitions if asset in PARTITIONED_ASSETS else None
    specs = [
        dg.AssetCheckSpec(
            p.name, asset=asset, blocking=p.blocking, description=p.description or None, partitions_def=partitions
        )
        for p in propositions
    ]

    @dg.multi_asset_check(name=f"{asset}_checks", specs=specs, description=f"Propositions about {asset}.")
    def run_checks(context: dg.AssetCheckExecutionContext, k4: K4Resource) -> Iterator[dg.AssetCheckResult]:
        partition = context.partition_key if asset in PARTITIONED_ASSETS else None
        progress = progress_of_run(context.log.info)
        with progress.step(f"{asset}_checks"):
            found = evaluate(asset, partition, k4, progress.of(f"checking {asset}"))
        for proposition, verdict in found:
            yield to_result(asset, proposition, verdict, k4.settings().home)

    return run_checks


def evaluate(
    asset: str, partition: str | None, k4: K4Resource, progress: Progress = lambda done, total: None
) -> list[tuple[Proposition, Verdict]]:
    """Judge the newest version of an asset by all its propositions, and promote or reject it."""
    propositions, store, settings = PROPOSITIONS[asset], k4.store(), k4.settings()
    try:
        evidence = Evidence(store.newest(asset, partition), store, settings.config, raw_dir=settings.raw_dir)
        verdicts = judge(evidence, propositions, progress)
    except Exception as error:  # a check that raises leaves no evaluation behind
        text = f"the check could not be evaluated: {type(error).__name__}: {error}"
        verdicts = [Verdict(p.name, False, 0, (text,)) for p in propositions]
    return list(zip(propositions, verdicts, strict=True))
