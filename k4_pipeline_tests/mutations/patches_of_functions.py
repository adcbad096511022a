"""The leaks of the path in memory, on the real path: the command replaces the function first, as an edit would."""

from __future__ import annotations

from k4_pipeline_tests.mutations.all_mutations import load_mutations
from k4_pipeline_tests.mutations.patch_tools import SourceLeak
from k4_pipeline_tests.mutations.registry import Mutation

COMMAND, MAIN = "cli/__main__.py", "from k4_pipeline.cli import main\n"


def planted(leak: Mutation) -> SourceLeak:
    """The leak planted before the command line is read; every step and every check sees the replaced function."""
    registry = "from k4_pipeline_tests.mutations.all_mutations import load_mutations\n"
    # Held by a name: a context manager that is collected takes the leak out again.
    code = f"{MAIN}{registry}\nplanted = load_mutations()[{leak.name!r}].patch()\nplanted.__enter__()\n"
    return SourceLeak(f"planted_{leak.name}", f"function: {leak.stage}", ((COMMAND, MAIN, code),))


LEAKS = tuple(planted(leak) for leak in load_mutations().values())
