"""How a long call reports how far it is; what becomes of the numbers is up to the caller (defs/progress.py)."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[int, int], None]  # called with (done, total)
