"""`rejects`: every bar that cleaning refused, as sent, with the reason. An empty table is sane."""

from __future__ import annotations

import pandera.pandas as pa

from k4_pipeline.schemas.base import table_schema, text


def _as_sent(description: str) -> pa.Column:
    # Infinities are among the reasons for a rejection, so this is the one table that may hold them.
    return pa.Column(None, nullable=True, description=description, metadata={"dtype": "float64"})


REJECTS = table_schema(
    "rejects",
    {
        "ticker": text("as sent; empty when that is the reason", empty=True),
        "date": text("the date as sent, as text", empty=True),
        **{name: _as_sent(f"{name} as sent; NaN when it was no number") for name in ("open", "high", "low", "close")},
        "volume": _as_sent("volume as sent; NaN when it was no number"),
        "reason": text("why the row was refused"),
        "value": text("the cell the reason is about, as sent; empty when it is about the row", empty=True),
        "row": text("the row as sent", empty=True),
        "source": text("file or table the row came from", empty=True),
    },
    min_rows=0,
    description="Bars that cleaning refused, as sent, each with its reason.",
)
