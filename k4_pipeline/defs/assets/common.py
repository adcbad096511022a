"""The settings every asset shares: group, owner, partitions, freshness, automation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg

from k4_pipeline.defs.freshness import policy_of
from k4_pipeline.defs.graph import GROUPS, PARTITIONED_ASSETS
from k4_pipeline.defs.partitions import as_of_partitions
from k4_pipeline.storage.code_version import code_fingerprint

OWNERS = ["team:k4-research"]
# Runs by itself when something upstream changed and no blocking check upstream objects (switched on in the UI).
AUTOMATION = dg.AutomationCondition.eager() & dg.AutomationCondition.all_deps_blocking_checks_passed()


def k4_asset(
    *, deps: tuple[str, ...] = (), kinds: set[str], description: str, automatic: bool = True, pool: str | None = None
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dagster.asset` with this project's conventions; the asset is named as its function."""

    def wrap(body: Callable[..., Any]) -> dg.AssetsDefinition:
        name = body.__name__
        partitioned = name in PARTITIONED_ASSETS
        return dg.asset(
            name=name,
            deps=list(deps),
            group_name=GROUPS[name],
            description=description,
            kinds=kinds,
            pool=pool,
            owners=OWNERS,
            code_version=code_fingerprint(name)[:12],
            freshness_policy=policy_of(name),
            partitions_def=as_of_partitions if partitioned else None,
            # A partition of the past is remade on purpose only: a backfill, not every change of the bars.
            automation_condition=AUTOMATION if automatic and not partitioned and deps else None,
        )(body)

    return wrap
