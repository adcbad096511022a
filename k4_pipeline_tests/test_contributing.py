"""docs/contributing.md names, for each kind of change, files that exist and in which the change has its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "contributing.md").read_text()
SECTIONS = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", TEXT, re.S | re.M))

# change -> file -> what a maintainer finds there to add to
PLACES = {
    "A channel": {
        "features/spec.py": "_DERIVED:",
        "features/reference.py": "class MarketReference",
        "features/compute.py": "OTHER_KERNELS = (",
        "sequences/assemble.py": "def pattern_row(",
        "kernels/model_inputs/triton_op.py": "values = (",
        "config/constants.py": "N_MARKET_FEATURES = ",
    },
    "A source of bars": {
        "market/sources/__init__.py": "def read_bars(",
        "config/data.py": "SourceKind = Literal[",
        "cli/run.py": "Where the bars come from",
    },
    "A label rule": {
        "patterns/labels.py": "def _race(",
        "config/data.py": "labeling: Literal[",
        "leakage/oracles/labels.py": "def race(",
        "evaluation/truth.py": "_first_breach(",
    },
    "A head": {
        "models/head.py": "class DenseHead",
        "models/build.py": "config.architecture ==",
        "config/model.py": "architecture: Literal[",
    },
    "A baseline": {
        "evaluation/baselines/__init__.py": "class_mix as class_mix",
        "evaluation/headline.py": "NAMES = {",
        "report/figures.py": "STYLES:",
    },
    "An asset check": {"defs/checks/": "Proposition("},
    "A leak check": {"leakage/checks/": "@check(", "leakage/engine/check_modules.py": "MODULES = ("},
    "An alert text": {
        "alerts/facts.py": "TROUBLE = {",
        "alerts/messages.py": "def single(",
        "defs/run_facts.py": "Fact(",
    },
    "A class of signals (a tier)": {
        "config/constants.py": "SIGNAL_NAMES = (",
        "config/tiers.py": "multiples:",
        "config/model.py": "class SignalConfig",
        "evaluation/signals.py": "np.select(",
        "leakage/oracles/signals.py": "def signal_of(",
        "leakage/oracles/declared.py": '"signals": {',
        "report/glossary.py": '"signal":',
    },
    "A training option": {
        "config/model.py": "class TrainConfig",
        "config/recipe.py": "class RecipeConfig",
        "leakage/oracles/declared.py": '"training": {',
        "training/loop.py": "def _check(",
        "training/step.py": "self.config.",
    },
}


def test_ten_changes_are_described() -> None:
    assert list(SECTIONS) == list(PLACES)


@pytest.mark.parametrize("change", PLACES)
def test_the_files_of_a_change_are_named_and_hold_its_place(change: str) -> None:
    for name, place in PLACES[change].items():
        assert f"`k4_pipeline/{name}`" in SECTIONS[change], f"{name} is not named"
        path = ROOT / "k4_pipeline" / name
        text = path.read_text() if path.is_file() else "".join(p.read_text() for p in path.glob("*.py"))
        assert place in text, f"{name} has no {place!r} any more"


def test_every_file_that_is_named_exists_unless_it_is_the_new_one() -> None:
    named = re.findall(r"`((?:k4_pipeline|k4_pipeline_tests|docs)/[^`\s]+)`", TEXT)
    assert len(named) > 30
    missing = [name for name in named if "NAME" not in name and not (ROOT / name).exists()]
    assert not missing
