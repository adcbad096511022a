"""Which code made an artifact: a fingerprint of the source that an asset's body reaches, and the installed version.

The files are found by following the imports from `defs/assets/<asset>.py`, so that no list has to be kept. What only
stores, draws, schedules or prints (`PLUMBING`) is left out, and so is the proof (`leakage`, `report`) except for the
report itself: editing a plot does not make the bars stale. Comments, docstrings and layout do not count, nor do the
defaults in config/ (the values used are stored beside every artifact); its constants do, by value.
"""

from __future__ import annotations

import ast
import atexit
import contextlib
import functools
import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import k4_pipeline
from k4_pipeline import config
from k4_pipeline.storage.atomic import atomic_write_text

ROOT = Path(k4_pipeline.__file__).parent
PACKAGE = "k4_pipeline"
PLUMBING = (
    "config",
    "errors",
    "markdown",
    "progress",
    "settings",
    "options",
    "definitions",
    "alerts",
    "bench",
    "cli",
    "defs",
    "storage",
    "pipeline.sharded",  # where and in which order the same domain functions run; equal byte for byte (a test)
)
PROOF = ("leakage", "report")
REPORT = "validation_report"


def code_fingerprint(asset: str) -> str:
    """sha256 over the code that makes `asset`; "" for a name that is no asset of this package."""
    entry = f"defs.assets.{asset}"
    if not (ROOT / "defs" / "assets" / f"{asset}.py").is_file():
        return ""
    digest = hashlib.sha256(_constants().encode())
    for module in sorted(modules_of(asset)):
        digest.update(f"{'' if module == entry else module}\0{_source(module)[0]}\0".encode())
    return digest.hexdigest()


def code_record(asset: str) -> dict[str, str]:
    """What a manifest keeps of the code: fingerprint, package version and, in a checkout, the commit."""
    fingerprint = code_fingerprint(asset)
    return {"fingerprint": fingerprint, **installed()} if fingerprint else {}


@functools.cache
def modules_of(asset: str) -> frozenset[str]:
    """Modules (below the package, dotted) whose code an asset's result depends on."""
    skipped = PLUMBING if asset == REPORT else PLUMBING + PROOF
    todo, found = [f"defs.assets.{asset}"], set()
    while todo:
        module = todo.pop()
        if module not in found:
            found.add(module)
            todo += [target for target in _source(module)[1] - found if not _below(target, skipped)]
    return frozenset(found)


@functools.cache
def _below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == name or module.startswith(name + ".") for name in packages)


@functools.cache
def installed() -> dict[str, str]:
    """Version of the package and, where its folder is a git checkout, the commit (`+` when files differ from it)."""
    out = {"version": k4_pipeline.__version__}
    if (ROOT.parent / ".git").exists():
        commit = _git("rev-parse", "--short=12", "HEAD")
        if commit:
            out["commit"] = commit + ("+" if _git("status", "--porcelain", "--", PACKAGE) else "")
    return out


def described(record: dict[str, str]) -> str:
    """A code record in words."""
    if not record:
        return "code that was not recorded"
    commit = f", commit {record['commit']}" if record.get("commit") else ""
    return f"code {record['fingerprint'][:12]} (version {record.get('version', 'unknown')}{commit})"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT.parent), *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


@functools.cache
def _constants() -> str:
    return "\n".join(f"{name}={value!r}" for name, value in sorted(vars(config).items()) if name.isupper())


@functools.cache
def _file_of(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split(".")) if module else ROOT
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


@functools.cache
def _source(module: str) -> tuple[str, frozenset[str]]:
    """(sha256 of a module's code, modules of this package that it imports)."""
    file = _file_of(module)
    if file is None:
        raise FileNotFoundError(f"{PACKAGE}.{module} has no source file")
    digest, names = _read(file.read_bytes())
    return digest, frozenset(target for name in names for target in _modules_in(name))


def _read(data: bytes) -> tuple[str, list[str]]:
    """(sha256 of the code, dotted names it imports) of a source file; read once per content, ever."""
    key = hashlib.sha256(data).hexdigest()
    kept = _kept()
    if key not in kept:
        tree = ast.parse(data)
        digest = hashlib.sha256("".join(_canonical(tree)).encode()).hexdigest()
        kept[key] = (digest, sorted({name for node in ast.walk(tree) for name in _imported(node)}))
    return kept[key]


@functools.cache
def _kept() -> dict[str, tuple[str, list[str]]]:
    """What was read before, by the sha256 of the source; kept beside the compiled files, as far as one may write there.

    Reading 350 sources as syntax trees takes a second, which every command that loads the code location would pay.
    """
    this = Path(__file__)
    file = this.parent / "__pycache__" / f"sources-{hashlib.sha256(this.read_bytes()).hexdigest()[:16]}.json"
    try:
        found = {key: (digest, names) for key, (digest, names) in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        found = {}
    atexit.register(_keep, file, found, len(found))
    return found


def _keep(file: Path, found: dict[str, tuple[str, list[str]]], known: int) -> None:
    if len(found) > known:
        with contextlib.suppress(OSError):
            atomic_write_text(file, json.dumps(found))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _modules_in(name: str) -> Iterator[str]:
    head, _, rest = name.partition(".")
    parts = rest.split(".") if head == PACKAGE and rest else []
    # A package's own __init__ runs as well.
    for n in range(1, len(parts) + 1):
        module = ".".join(parts[:n])
        if _file_of(module) is not None:
            yield module


def _canonical(node: Any) -> Iterator[str]:
    """A syntax tree as text without positions, docstrings and empty fields, alike under every Python version."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(value, list) and isinstance(node, _DOCUMENTED) and _is_text(value[:1]):
                value = value[1:]
            if value is None or value == [] or name in ("ctx", "kind", "type_comment"):
                continue
            yield f" {name}="
            yield from _canonical(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _canonical(item)
            yield ","
    else:
        yield repr(node)


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _is_text(first: list[ast.stmt]) -> bool:
    return bool(
        first
        and isinstance(first[0], ast.Expr)
        and isinstance(first[0].value, ast.Constant)
        and isinstance(first[0].value.value, str)
    )
