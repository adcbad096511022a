"""The kind of a security by the form of its ticker and by its bars."""

from __future__ import annotations

import numpy as np
import pytest

from k4_pipeline.market.bars import Bars
from k4_pipeline.market.kinds import kind_by_form, kind_of


@pytest.mark.parametrize(
    "ticker, kind",
    [
        *(
            (t, "preferred")
            for t in ("BAC_C", "BAC-PL", "BAC.PRL", "BAC^C", "BAC PRC", "NTRSP", "BPOPM", "CHSCN", "GOODO", "MTL_")
        ),
        *((t, "warrant") for t in ("BAC-WS-A", "KODK-WS", "AGFSW", "GE+", "FPP.WS")),
        *((t, "unit") for t in ("GRP-U", "CFCOU", "ABC.U")),
        *((t, "right") for t in ("ABC-RT", "ABCDR")),
        *(
            (t, "")
            for t in (
                "A",
                "AAPL",
                "BRK-A",
                "BRK.B",
                "CRD-B",
                "GOOGL",
                "ARTNA",
                "S0001",
                "BTC-USD",
                "SAP.DE",
                "7203.T",
                "UPS",
            )
        ),
    ],
)
def test_the_form_tells_preferred_shares_warrants_units_and_rights(ticker, kind):
    assert kind_by_form(ticker) == kind


def test_what_hardly_moves_is_bond_like():
    steps = np.random.default_rng(0).normal(size=300)
    closes = [50 * np.exp(np.cumsum(size / np.sqrt(252) * steps)) for size in (0.02, 0.25)]
    close = np.concatenate(closes)
    days = np.tile(np.arange(300, dtype=np.int32), 2)
    offsets = np.array([0, 300, 600])
    bars = Bars(np.array(["FUND", "STOCK"], dtype=object), offsets, days, close, close, close, close, close)
    assert [kind_of(bars, t) for t in bars.tickers] == ["bond_like", ""]
