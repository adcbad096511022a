"""The leaks of the path in memory, on the real path: the command replaces the function first, as an edit would."""

from __future__ import annotations

from k4_pipeline_tests.mutations.all_mutations import load_mutations
from k4_pipeline_tests.mutations.patch_tools import SourceLeak
from k4_pipeline_tests.mutations.registry import Mutation

COMMAND, MAIN = "cli/__main__.py", "from k4_pipeline.cli import main\n"


def planted(leak: Mutation) -> SourceLeak:
    """The leak planted before the command line is read; every step and every check sees the replaced function."""
    registry = "from k4_pipeline_tests.mutations.all_mutations import load_mutations\n"
    code = f"{MAIN}{registry}\nload_mutations()[{leak.name!r}].patch().__enter__()\n"
    return SourceLeak(f"planted_{leak.name}", f"function: {leak.stage}", ((COMMAND, MAIN, code),))


LEAKS = tuple(planted(leak) for leak in load_mutations().values())
