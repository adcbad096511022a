"""Where the data stages are computed. No result depends on it, so it is no part of what is stored beside one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExecutionConfig:
    """`local`: in the process of the step. `ray`: as Ray tasks over shards of whole tickers (extra `ray`)."""

    engine: Literal["local", "ray"] = "local"  # where the data stages work
    address: str = ""  # of a Ray cluster; "": one on this machine for the time of the step
    store: str = ""  # fsspec address that every node reaches, for the shards; "": <home>/shards
    shard_bars: int = 500_000  # of one shard at least, whole tickers
