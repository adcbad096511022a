"""What a mutation is, the registry of all of them, and the one way in which they are applied.

A leak replaces one production function for the time of a `with` block, everywhere the package knows that function:
the effect is that of an edit of its source. The recorder (recorder.py) only listens, for leaks
that need to know what passed before.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

PACKAGE = "k4_pipeline"
STAGES = ("bars", "features", "patterns", "labels", "sequences", "split", "fit", "predictions", "audit")

Wrapper = Callable[..., Any]  # (original, *args, **kwargs) -> what the function returns instead
Patch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Mutation:
    """A leak planted in the pipeline, and its benign mutant.

    `where`: dotted name, below the package, of what is replaced. `expected_checks`: who is expected to notice, for
    readers and for the order of a quick run; any blocking check may detect it. `patch` leaks; `benign` intervenes
    at the same place as deeply, but causally.
    """

    name: str
    description: str
    stage: str
    where: str
    expected_checks: tuple[str, ...]
    patch: Patch
    benign: Patch
    benign_does: str

    @property
    def needs_model(self) -> bool:
        """Whether the leak can only show in something fitted, predicted or reported."""
        return self.stage in ("fit", "predictions", "audit")


MUTATIONS: dict[str, Mutation] = {}


def resolve(where: str) -> tuple[Any, str]:
    """The module or class that holds `where`, and the name in it."""
    parts = where.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            holder: Any = importlib.import_module(".".join([PACKAGE, *parts[:cut]]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:-1]:
            holder = getattr(holder, name)
        return holder, parts[-1]
    raise ImportError(f"{PACKAGE}.{where} does not exist")


def _holders(holder: Any, name: str, original: Any, everywhere: bool) -> list[tuple[Any, str]]:
    """Every (module, name) below the package under which `original` is known."""
    found = [(holder, name)]
    if everywhere:
        for module_name, module in list(sys.modules.items()):
            if not module_name.startswith(PACKAGE + "."):
                continue
            found += [(module, k) for k, v in list(vars(module).items()) if v is original and module is not holder]
    return found


@contextmanager
def replaced(where: str, wrapper: Wrapper, *, everywhere: bool = True) -> Iterator[None]:
    """Call `wrapper(original, ...)` instead of `where`, under every name by which the package knows it.

    `everywhere=False` replaces the name in the one module only, as an edit of that caller would.
    """
    holder, name = resolve(where)
    original = getattr(holder, name)

    def instead(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    with ExitStack() as stack:
        for owner, attribute in _holders(holder, name, original, everywhere):
            stack.enter_context(mock.patch.object(owner, attribute, instead))
        yield


def patching(where: str, wrapper: Wrapper, *, everywhere: bool = True) -> Patch:
    """A patch that replaces one function by a wrapper without memory."""
    return lambda: replaced(where, wrapper, everywhere=everywhere)


def register(
    name: str,
    *,
    stage: str,
    where: str,
    description: str,
    expected: tuple[str, ...],
    leak: Wrapper | Patch,
    benign: Wrapper | Patch,
    benign_does: str,
    everywhere: bool = True,
    patches: bool = False,
) -> None:
    """Add a leak. `leak` and `benign` are wrappers of `where`, or with `patches=True` patches of their own."""
    if name in MUTATIONS or stage not in STAGES:
        raise ValueError(f"planted leak {name!r} is duplicated, or its stage {stage!r} is not one of {STAGES}")
    patch: Patch = leak if patches else patching(where, leak, everywhere=everywhere)
    clean: Patch = benign if patches else patching(where, benign, everywhere=everywhere)
    MUTATIONS[name] = Mutation(name, description, stage, where, expected, patch, clean, benign_does)
