"""JSON from a vendor: every failure is one of two kinds, an unknown ticker or no answer this time."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from k4_pipeline.errors import BadInputError
from k4_pipeline.market.sources.yfinance_source import UnknownTicker, VendorUnavailable

_TIMEOUT_S = 30.0

GetJson = Callable[[str, Mapping[str, str], Mapping[str, str]], Any]


def get_json(address: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Any:
    """The JSON at an address. Raises `UnknownTicker` (404) or `VendorUnavailable`; no message holds the query."""
    text = f"{address}?{urllib.parse.urlencode(query)}" if query else address
    request = urllib.request.Request(text, headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as problem:
        if problem.code == 404:
            raise UnknownTicker(f"{address} answers 404") from None
        if problem.code in (401, 403):
            raise BadInputError(f"{address} refuses the key (status {problem.code}); check the environment") from None
        raise VendorUnavailable(f"{address} answers {problem.code}") from None
    except (OSError, ValueError) as problem:
        raise VendorUnavailable(f"{address}: {type(problem).__name__}") from None


def secret(name: str) -> str:
    """A secret of the environment; `BadInputError` naming it when it is not set."""
    value = os.environ.get(name, "")
    if not value:
        raise BadInputError(f"this source needs the environment variable {name}; set it to your key")
    return value


def frame_of(rows: list[dict[str, Any]], date: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """Rows as a frame with the dates as sent in the index; `columns`: our name -> the vendor's. Empty without rows."""
    if not rows:
        return pd.DataFrame()
    try:
        index = pd.Index([row[date] for row in rows], dtype=object)
        return pd.DataFrame({own: [row.get(theirs) for row in rows] for own, theirs in columns.items()}, index=index)
    except (KeyError, TypeError, AttributeError) as problem:
        raise VendorUnavailable(f"the answer has another form than documented: {problem!r}") from problem
