"""Writes the generated parts of docs/leakage.md.

`python -m k4_pipeline_tests.mutations.publish [demo.md]`

The list of checks is renewed; with the output of `k4 audit --demo --markdown` also the demo.
"""

from __future__ import annotations

import sys
from pathlib import Path

from k4_pipeline.storage import atomic_write_text
from k4_pipeline_tests.mutations.table import checks_in_words, published

DOCUMENT = Path(__file__).parents[2] / "docs" / "leakage.md"


def publish(document: Path, demo: Path | None = None) -> None:
    """Renew the parts of `document` for which there is something new."""
    text = published(document.read_text(), "checks", checks_in_words())
    if demo is not None:
        text = published(text, "demo", demo.read_text())
    atomic_write_text(document, text)


if __name__ == "__main__":
    publish(DOCUMENT, *map(Path, sys.argv[1:2]))
