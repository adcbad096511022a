"""The docs say what the code does: the reference is made from it, every link leads somewhere, every command exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import k4_pipeline
from k4_pipeline.cli import Commands
from k4_pipeline.cli.reference import lines

ROOT = Path(k4_pipeline.__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_reference_is_up_to_date():
    stored = (ROOT / "docs" / "reference.md").read_text()
    assert stored == "\n".join(lines()) + "\n", "run: k4 reference > docs/reference.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere_and_every_command_exists(page):
    text = page.read_text()
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
    named = {name for name in re.findall(r"`(?:\.venv/bin/)?k4 ([a-z][a-z-]+)", text)}
    assert named - set(Commands.table) == set()
