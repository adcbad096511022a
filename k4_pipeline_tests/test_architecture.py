"""The import rules and the rule of time, read from the source: an AST walk against a table."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import k4_pipeline

ROOT = Path(k4_pipeline.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# package -> packages of this project it may import (itself and what stands in ALWAYS always)
MAY_IMPORT = {
    "storage": set(),
    "simd": set(),
    "schemas": set(),
    "market": {"storage"},
    "features": {"simd", "storage", "market"},
    "patterns": {"market", "features"},
    "sequences": {"simd", "storage", "market", "features"},
    "splits": {"market"},
    "kernels": {"simd"},
    "models": {"kernels"},
    "losses": set(),
    "training": {"storage", "features", "sequences", "kernels", "models", "losses"},
    "evaluation": {"storage", "market", "features", "patterns", "models"},
    "pipeline": {
        "storage",
        "market",
        "features",
        "patterns",
        "sequences",
        "splits",
        "models",
        "training",
        "evaluation",
    },
    "leakage": {
        "storage",
        "market",
        "features",
        "patterns",
        "sequences",
        "splits",
        "models",
        "training",
        "evaluation",
        "pipeline",
    },
    "report": {"storage"},
    "alerts": {"storage"},
}
ANYTHING = {"defs", "definitions", "cli", "settings", "options", "bench"}
ALWAYS = {"config", "errors", "verdict", "progress", "markdown", "_numba"}
DAGSTER_HOMES = ("defs", "definitions", "cli")
TORCH_HOMES = (
    "kernels",
    "models",
    "losses",
    "training",
    "sequences",
    "evaluation",
    "bench",
    "defs",
    "cli",
    "leakage",
    "pipeline",
)
LIGHT = ("kernels", "models", "losses", "training", "sequences", "features", "market/bars", "storage")
FORWARD = ("bfill", "backfill", "train_test_split")


def package_of(path: Path) -> str:
    """`market` for market/bars.py, `cli` for everything below cli/."""
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports_of(path: Path, *, top_level_only: bool = False) -> list[tuple[str, int]]:
    """(module, line) of every import; `if TYPE_CHECKING` blocks do not count."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, int]] = []

    def walk(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((a.name, child.lineno) for a in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and child.level == 0:
                found.append((child.module, child.lineno))
                found.extend((f"{child.module}.{a.name}", child.lineno) for a in child.names)
            if top_level_only and isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
                continue
            walk(child)

    walk(tree)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    package = package_of(path)
    if path.name == "__main__.py":  # an entry point, which nothing imports
        return
    if package in ANYTHING | ALWAYS | {"__init__"}:
        return
    assert package in MAY_IMPORT, f"{package} has no row in the import table"
    wrong = []
    for module, line in imports_of(path):
        parts = module.split(".")
        if parts[0] == "k4_pipeline" and len(parts) > 1:
            target = parts[1]
            if target not in MAY_IMPORT[package] | ALWAYS | {package, "__version__"}:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    assert not wrong


def test_every_allowed_import_is_used_and_there_is_no_circle_of_packages():
    used: dict[str, set[str]] = {name: set() for name in MAY_IMPORT}
    for path in FILES:
        for module, _ in imports_of(path):
            parts = module.split(".")
            if package_of(path) in used and parts[0] == "k4_pipeline" and len(parts) > 1:
                used[package_of(path)] |= {parts[1]} & MAY_IMPORT.keys() - {package_of(path)}
    assert {name: allowed - used[name] for name, allowed in MAY_IMPORT.items() if allowed - used[name]} == {}
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())  # raises CycleError on a circle


def dotted(path: Path) -> str:
    """`k4_pipeline.market.bars` for market/bars.py, `k4_pipeline.market` for market/__init__.py."""
    return ".".join(("k4_pipeline", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def test_no_two_files_import_each_other_even_through_others():
    """Imports inside of functions and under TYPE_CHECKING count, too: a circle of files is a circle of ideas."""
    names = {dotted(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom) and n.module]
        whole = {n.module for n in found if any(f"{n.module}.{a.name}" not in names for a in n.names)}
        parts = {f"{n.module}.{a.name}" for n in found for a in n.names}
        graph[name] = ((whole | parts) & names.keys()) - {name}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, with the circle


MIRRORS_NO_PACKAGE = {"browser", "deploy", "docs", "faults", "mutations"}  # tests of the whole
# through the command line; through the helper that writes and reads snapshot files
ELSEWHERE = {"market/test_vendor_cases.py", "market/sources/test_stores.py", "patterns/test_external_dates.py"}


def test_a_test_stands_where_its_module_stands():
    here = Path(__file__).parent
    for test in here.rglob("test_*.py"):
        place = test.relative_to(here)
        if len(place.parts) == 1 or place.parts[0] in MIRRORS_NO_PACKAGE:
            continue
        assert (ROOT / place.parent).is_dir(), f"{place}: there is no such folder in the package"
        package, text = ".".join(place.parent.parts), test.read_text()
        whole = " import ".join(f"k4_pipeline.{package}".rsplit(".", 1))  # from k4_pipeline.evaluation import trading
        if place.as_posix() not in ELSEWHERE:
            assert f"k4_pipeline.{package}" in text or whole in text, f"{place} tests nothing of {package}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_stay_where_they_belong(path):
    name, package = path.name, package_of(path)
    wrong = []
    top = {m.split(".")[0] for m, _ in imports_of(path, top_level_only=True)}
    for module, line in imports_of(path):
        root = module.split(".")[0]
        if root == "dagster" and package not in DAGSTER_HOMES:
            wrong.append(f"line {line}: dagster in {package}")
        if root == "torch" and package not in TORCH_HOMES:
            wrong.append(f"line {line}: torch in {package}")
        if root == "triton" and not (package == "kernels" and name.startswith("triton_")) and package != "bench":
            wrong.append(f"line {line}: triton outside kernels/**/triton_*.py")
        if root == "mamba_ssm" and not (package == "kernels" and name.startswith("mamba_ssm")) and package != "bench":
            wrong.append(f"line {line}: mamba_ssm outside kernels/**/mamba_ssm*.py")
        if root in ("pickle", "joblib", "cloudpickle", "dill"):
            wrong.append(f"line {line}: {root}; nothing here is pickled")
    relative = path.relative_to(ROOT).as_posix()
    if relative.startswith(LIGHT) and top & {"pandera", "talib", "rich", "typer", "plotly", "sklearn"}:
        wrong.append(f"imports {top & {'pandera', 'talib', 'rich', 'typer', 'plotly', 'sklearn'}} at module level")
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_but_the_labels_looks_forward(path):
    if path.relative_to(ROOT).as_posix() == "patterns/labels.py":
        return
    wrong = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            arguments = [*node.args, *(k.value for k in node.keywords)]
            negative = any(isinstance(a, ast.UnaryOp) and isinstance(a.op, ast.USub) for a in arguments)
            if node.func.attr in ("shift", "diff", "pct_change") and negative:
                wrong.append(f"line {node.lineno}: {node.func.attr} with a negative period")
            if node.func.attr in FORWARD:
                wrong.append(f"line {node.lineno}: {node.func.attr}")
        if isinstance(node, ast.keyword) and isinstance(node.value, ast.Constant):
            if node.arg == "center" and node.value.value is True:
                wrong.append(f"line {node.value.lineno}: center=True")
            if node.arg == "method" and node.value.value in ("bfill", "backfill"):
                wrong.append(f"line {node.value.lineno}: method={node.value.value}")
            if node.arg == "direction" and node.value.value in ("forward", "nearest"):
                wrong.append(f"line {node.value.lineno}: a join that looks {node.value.value}")
        if isinstance(node, (ast.Name, ast.alias)) and getattr(node, "id", getattr(node, "name", "")) in FORWARD:
            wrong.append(f"{FORWARD} named")
    assert not wrong


def test_the_domain_imports_with_dagster_absent():
    code = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('dagster', 'dagster_webserver'):
            raise ImportError('dagster is absent in this test')
sys.meta_path.insert(0, Refuse())
import importlib, pkgutil, k4_pipeline
skip = ('k4_pipeline.defs', 'k4_pipeline.definitions', 'k4_pipeline.cli', 'k4_pipeline.bench', 'k4_pipeline.kernels')
names = [m.name for m in pkgutil.walk_packages(k4_pipeline.__path__, 'k4_pipeline.', onerror=lambda n: None)
         if not m.name.startswith(skip) and not m.name.endswith('__main__')]
for name in names:
    importlib.import_module(name)
print(len(names))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 40


def test_training_imports_on_a_machine_with_only_the_light_libraries():
    code = """
import sys
absent = {'dagster', 'pandera', 'talib', 'rich', 'typer', 'plotly', 'exchange_calendars', 'apprise', 'markdown'}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in absent:
            raise ImportError(f'{name} is absent in this test')
sys.meta_path.insert(0, Refuse())
import importlib
for name in ('training.loop', 'training.predict', 'training.checkpoint', 'training.__main__',
             'models', 'losses.asymmetric', 'kernels.selective_scan'):
    importlib.import_module('k4_pipeline.' + name)
print('ok')
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_file_has_grown_beyond_400_lines():
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 400}
    assert not long
