"""One HTML page from sections of tables, figures and cards; the template escapes every value. Computes nothing."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from k4_pipeline.report.glossary import GLOSSARY

ASSETS = Path(__file__).parent / "assets"
CARD_FILE = "model-card.html"
CARD_LINK = f"[model card](../{CARD_FILE})"


@dataclass
class Grid:
    """A table; a cell is a text, or a dict with text and, optionally, small, kind (CSS class) and style."""

    header: list[str]
    rows: list[list[Any]]
    title: str = ""
    kind: str = ""


@dataclass
class Section:
    """A part of a page; `folded` hides it behind its title."""

    title: str
    lead: list[str] = field(default_factory=list)
    tables: list[Grid] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)
    cards: list[dict[str, Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folded: bool = False


def _json(figure: dict[str, Any]) -> Markup:
    """JSON for a script element: no `<` in it, so no text of a value can end the element."""
    text = json.dumps(figure, allow_nan=False, default=str, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _with_code(text: Any) -> Markup:
    """Escaped text in which `what stands in backticks` is set as code, and the model card is a link."""
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
    return Markup(coded.replace(CARD_LINK, f'<a href="../{CARD_FILE}">model card</a>'))


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ASSETS), autoescape=True, trim_blocks=True)
    environment.filters["with_code"] = _with_code
    return environment.get_template("report.html.j2")


def plotly_source() -> Path:
    """The Plotly library for browsers that the plotly package brings."""
    import importlib.util

    spec = importlib.util.find_spec("plotly")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "package_data" / "plotly.min.js"


def plotly_file() -> str:
    """Its name beside the reports, with the version, so that a browser's copy is never too old."""
    import importlib.metadata

    return f"plotly-{importlib.metadata.version('plotly')}.min.js"


def render_page(
    title: str, sections: list[Section], headline: dict[str, Any] | None = None, *, plotly_folder: str | None = ".."
) -> str:
    """The page; `plotly_folder` holds the shared Plotly file, None puts the library into the page."""
    count = 0
    for section in sections:
        for figure in [*section.figures, *(card["figure"] for card in section.cards)]:
            count += 1
            figure.update(id=f"f{count}", json=_json(figure["figure"]), note=figure.get("note", ""))
    single = plotly_folder is None
    return _template().render(
        title=title,
        headline=headline,
        sections=sections,
        glossary=GLOSSARY,
        style=Markup((ASSETS / "report.css").read_text()),
        script=Markup((ASSETS / "report.js").read_text()),
        plotly_inline=Markup(plotly_source().read_text(encoding="utf-8")) if single else "",
        plotly_src="" if single else f"{plotly_folder}/{plotly_file()}",
    )
