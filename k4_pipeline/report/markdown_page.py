"""A page of the docs as HTML in the style of the reports: the model card beside them, and what `k4 ui` serves."""

from __future__ import annotations

import html
import re
from pathlib import Path

from k4_pipeline.report.page import ASSETS

DOCS = Path(__file__).parents[2] / "docs"  # of a checkout; an installed wheel has none


def markdown_page(file: Path, *, alone: bool = False) -> str:
    """The page of a Markdown file; `alone`: without the links to other pages, which are not beside it."""
    import markdown

    text = file.read_text(encoding="utf-8")
    body = markdown.markdown(text, extensions=["tables", "fenced_code", "toc"])
    if alone:
        body = re.sub(r'<a href="(?!https?:)[^"]*">(.*?)</a>', r"\1", body)
    body = body.replace("<table>", '<div class="scroll"><table>').replace("</table>", "</table></div>")
    # The rules for narrow windows are for the report's own tables, whose cells carry their column's name.
    style = (ASSETS / "report.css").read_text(encoding="utf-8").partition("@media (max-width: 640px)")[0]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    title = html.escape(text.partition("\n")[0].lstrip("# "))
    return f"<!doctype html><html lang=en><head>{head}<title>{title}</title><style>{style}</style></head>{body}</html>"
