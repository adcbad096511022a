"""`python -m k4_pipeline.bench scan --json`: the benchmarks on a machine without Dagster, typer or rich.

The same functions as `k4 bench`; only the options differ in that a benchmark refuses those it has no use for.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import sys
from typing import Any

NAMES = ("reading", "features", "sequences", "memory", "scan", "train", "processes", "architectures")


def main(arguments: list[str] | None = None) -> int:
    """Run one benchmark and print its result, as JSON or one `name value` a line; 2 for an option it does not know."""
    parser = argparse.ArgumentParser(prog="python -m k4_pipeline.bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--device", help="cpu or cuda (scan, train); default: what is there")
    parser.add_argument("--bars", help="a long Parquet table of bars (all but scan and train); default: simulated")
    parser.add_argument("--repeats", type=int, help="repeats; medians are reported")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = vars(parser.parse_args(arguments))
    name, as_json = given.pop("name"), given.pop("json")
    options = {key: value for key, value in given.items() if value is not None}
    run = importlib.import_module(f"k4_pipeline.bench.{name}").run
    unknown = sorted(set(options) - set(inspect.signature(run).parameters))
    if unknown:
        parser.error(f"{name} has no option {', '.join('--' + key for key in unknown)}")
    result = run(**options)
    if os.environ.get("RANK", "0") != "0":  # one of several processes prints
        return 0
    if as_json:
        print(json.dumps(result, indent=2, default=str))
    else:
        _print(result)
    return 0


def _print(values: dict[str, Any], prefix: str = "") -> None:
    for key, value in values.items():
        if isinstance(value, dict):
            _print(value, f"{prefix}{key}.")
        else:
            print(f"{prefix}{key}", f"{value:.4g}" if isinstance(value, float) else value)


if __name__ == "__main__":
    sys.exit(main())
