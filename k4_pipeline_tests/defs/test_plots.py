"""Charts of the asset pages."""

from __future__ import annotations

import base64
import math
from xml.etree import ElementTree

import pytest

from k4_pipeline.defs.plots import ALL_LABELS, HEIGHT, bar_image


@pytest.mark.parametrize("n", [1, 6, 27, 50])
def test_a_chart_is_short_enough_to_be_drawn_in_place(n):
    image = bar_image(
        "sequences by number of valid bars", [f"2015-01-{i:02d}" for i in range(n)], [123.0 + i for i in range(n)]
    )
    assert len(image) < 1000  # of Dagster's page


def test_heights_are_in_proportion_and_nan_is_no_bar():
    image = bar_image("a", ["<x>", "y", "z"], [2.0, math.nan, 1.0])
    svg = base64.b64decode(image.split("base64,")[1].rstrip(")")).decode()
    path, *texts = ElementTree.fromstring(svg)
    tops = [int(part.split("h")[0]) for part in path.attrib["d"].split("V")[1::2] if "h" in part]
    assert tops[:3] == [4, HEIGHT, HEIGHT - (HEIGHT - 4) // 2]
    assert [t.text for t in texts] == ["<x>", "y", "z"]
    assert "highest bar: 2" in image


def test_many_bars_carry_the_first_and_the_last_label():
    n = ALL_LABELS + 1
    svg = base64.b64decode(bar_image("a", list(map(str, range(n))), [1.0] * n).split("base64,")[1].rstrip(")")).decode()
    assert [t.text for t in ElementTree.fromstring(svg)][1:] == ["0", str(n - 1)]
