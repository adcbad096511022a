"""The docs say what the code does: the reference is made from it, every link leads somewhere, every command exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

import k4_pipeline
from k4_pipeline.cli import Commands, app
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


def commands_in_blocks(text: str) -> list[str]:
    """The command lines of k4 in the indented blocks of a page, in order."""
    return [found.strip() for found in re.findall(r"^    (?:\.venv/bin/)?(k4 [^#|\n]+)", text, flags=re.MULTILINE)]


def commands_in(text: str) -> list[str]:
    """Those, and what stands in backticks."""
    return [*re.findall(r"`(?:\.venv/bin/)?(k4 [^`\n]+)`", text), *commands_in_blocks(text)]


def told_of(command: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The subcommand that `words` lead to, and what is left of them."""
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        found = command.get_command(None, words[0])
        if found is None:
            break
        command, words = found, words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_option_of_every_command_exists(page):
    wrong, group = [], typer.main.get_command(app)
    for line in commands_in(page.read_text()):
        command, words = told_of(group, shlex.split(line.replace("...", "").replace("…", ""))[1:])
        known = {option for parameter in command.params for option in parameter.opts}
        known |= {"--help", "--install-completion", "--show-completion"}
        given = [word.partition("=")[0] for word in words if word.startswith("-") and not word.lstrip("-").isdigit()]
        wrong += [f"{line}: {option}" for option in given if option not in known]
    assert wrong == []
