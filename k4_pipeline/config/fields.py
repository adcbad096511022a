"""One schema for every way a setting comes in: `--set`, `K4_*`, settings.json, run configuration, a stored record.

A value is converted to the declared type of its field or refused with the field's name; NaN, infinity and numbers below
the field's least value never get in.
"""

from __future__ import annotations

import math
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from k4_pipeline.errors import ConfigError

# Fields of which less makes no sense; every other number of this name or type may be 0 but not negative.
AT_LEAST_ONE = frozenset(
    {
        "n_tickers",
        "n_bars",
        "test_months",
        "validation_months",
        "epochs",
        "batch_size",
        "patience",
        "horizon_bars",
        "shard_bars",
        "max_positions",
        "entry_bars",
        "random_draws",
        "processes",
        "champion_max_age_days",
        "drift_nights",
        "drift_lasting_nights",
        "list_rows",
        "lookback_bars",
    }
)
AT_MOST = {
    "test_months": 240,
    "list_frac": 1,
    "max_participation": 1,
    "commission": 1,
    "slippage": 1,
    "trailing_stop": 1,
}
MAY_BE_NEGATIVE = frozenset({"strong_ev", "good_ev", "moderate_ev"})
MAX_ITEMS = 100_000
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def converted(dotted: str, value: Any, hint: Any, *, text: bool) -> Any:
    """`value` as the declared type `hint` of the field `dotted`. With `text` it may be text, as from a command line.

    Raises `ConfigError` naming the field, the value and what is allowed.
    """
    origin = get_origin(hint)
    if origin is Literal:
        choices = get_args(hint)
        if value not in choices or isinstance(value, bool) != any(isinstance(c, bool) for c in choices):
            raise ConfigError(f"{dotted} is {value!r}; use one of {', '.join(map(str, choices))}")
        return value
    if origin in (Union, UnionType):
        if value is None and NoneType in get_args(hint):
            return None
        return converted(dotted, value, next(a for a in get_args(hint) if a is not NoneType), text=text)
    if origin is tuple:
        return _items(dotted, value, get_args(hint), text=text)
    if hint is bool:
        return _truth(dotted, value, text=text)
    if hint in (int, float):
        return _number(dotted, value, hint, text=text)
    if hint is str:
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(f"{dotted} is {value!r}; expected a text")
        return value
    raise ConfigError(f"{dotted} cannot be set from here")


def _items(dotted: str, value: Any, kinds: tuple[Any, ...], *, text: bool) -> tuple[Any, ...]:
    if text and isinstance(value, str):
        value = value.replace(",", " ").split()
    if not isinstance(value, list | tuple) or len(value) > MAX_ITEMS:
        raise ConfigError(f"{dotted} is {str(value)[:80]!r}; expected a list of at most {MAX_ITEMS:,} entries")
    if kinds[-1] is not Ellipsis:
        if len(value) != len(kinds):
            raise ConfigError(f"{dotted} has {len(value)} entries; expected {len(kinds)}")
        return tuple(converted(dotted, v, kind, text=text) for v, kind in zip(value, kinds, strict=True))
    return tuple(converted(dotted, v, kinds[0], text=text) for v in value)


def _truth(dotted: str, value: Any, *, text: bool) -> bool:
    if text and isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if not isinstance(value, bool):
        raise ConfigError(f"{dotted} is {value!r}; use true or false")
    return value


def _number(dotted: str, value: Any, kind: type, *, text: bool) -> Any:
    wrong = ConfigError(f"{dotted} is {str(value)[:80]!r}; expected {kind.__name__}")
    if isinstance(value, bool) or not isinstance(value, (int, float, str) if text else (int, float)):
        raise wrong
    try:
        number = float(value) if kind is float or isinstance(value, float) else int(value)
    except (TypeError, ValueError, OverflowError) as problem:
        raise wrong from problem
    if not math.isfinite(number) or (kind is int and number != int(number)):
        raise ConfigError(f"{dotted} is {value!r}; expected a finite {kind.__name__}")
    name = dotted.rpartition(".")[2]
    least = 1 if name in AT_LEAST_ONE else 0
    if number < least and name not in MAY_BE_NEGATIVE:
        raise ConfigError(f"{dotted} is {value!r}; it must be at least {least}")
    if number > AT_MOST.get(name, number):
        raise ConfigError(f"{dotted} is {value!r}; it must be at most {AT_MOST[name]}")
    return int(number) if kind is int else number
