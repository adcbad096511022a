"""What a setting is for, read from the comments beside the fields of the config classes: one text, many readers.

The launchpad of the UI and docs/reference.md show these texts, so that they cannot say something else than the code.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap


def field_comments(section: type) -> dict[str, str]:
    """name -> its comment (behind the field, or in the lines above it); "" where it has none."""
    lines = textwrap.dedent(inspect.getsource(section)).splitlines()
    body = ast.parse("\n".join(lines)).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for node in body.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        last = (node.end_lineno or node.lineno) - 1
        _, mark, behind = lines[last][node.end_col_offset or 0 :].partition("#")
        above: list[str] = []
        at = node.lineno - 2
        while at >= 0 and lines[at].lstrip().startswith("#"):
            above.insert(0, lines[at].lstrip(" #"))
            at -= 1
        found[node.target.id] = " ".join([*above, behind.strip()] if mark else above).strip()
    return {f.name: found.get(f.name, "") for f in dataclasses.fields(section)}
