"""Every patch of the source fits the source as it is and leaves it readable; the leaks run by `make leaks`."""

from __future__ import annotations

import ast
import json
from dataclasses import asdict

import pytest

from k4_pipeline.leakage.engine.audit import load_checks
from k4_pipeline_tests.mutations.copies import SOURCE
from k4_pipeline_tests.mutations.real_path import Outcome, first_to_ask, read_outcomes, summary
from k4_pipeline_tests.mutations.source_patches import CLEAN, LEAKS
from k4_pipeline_tests.mutations.weakened_checks import WEAKENED


@pytest.mark.parametrize("leak", LEAKS, ids=lambda leak: leak.name)
def test_a_patch_fits_the_source(leak):
    texts = {}
    for file, old, new in leak.edits:
        text = texts.get(file) or (SOURCE / file).read_text()
        assert text.count(old) == 1, f"{file} has changed: renew the patch {leak.name}"
        texts[file] = text.replace(old, new)
    for text in texts.values():
        ast.parse(text)


@pytest.mark.parametrize("name", WEAKENED)
def test_a_weakening_fits_the_source(name):
    file, old, new, checks = WEAKENED[name]
    assert set(checks) <= set(load_checks())
    text = (SOURCE / file).read_text()
    assert old in text, f"{file} has changed: renew the weakening {name!r}"
    ast.parse(text.replace(old, new))


def test_names_are_given_once():
    names = [item.name for item in (*LEAKS, *CLEAN)]
    assert len(names) == len(set(names))


def test_a_leak_counts_as_found_by_its_exit_status_alone():
    found = Outcome("a", "page", 0, False, 0, 1)
    missed = Outcome("b", "page", 0, False, 0, 0)
    blocked = Outcome("c", "page", 0, False, 1, None)
    alarm = Outcome("d", "clean", 0, True, 0, 3)
    result = summary([found, missed, blocked, alarm])
    assert (result["found_runs"], result["found_by_run"], result["missed"]) == (2, 1, ["b [0]"])
    assert [o["name"] for o in result["false_alarms"]] == ["d"]


def test_what_says_nothing_counts_neither_way(tmp_path):
    killed = Outcome("a", "page", 0, False, 0, -9, not_tried="the audit ended with status -9")
    idle = Outcome("b", "page", 0, False, 0, 0, no_effect=True)
    result = summary([killed, idle])
    assert (result["leak_runs"], result["found_runs"], result["missed"]) == (0, 0, [])
    assert (result["not_tried"], result["without_effect"]) == (["a [0]"], ["b [0]"])
    assert result["never_with_effect"] == ["b"]
    # Tried again it counts, and the line of the first trial is forgotten, wherever it stands.
    again, file = Outcome("a", "page", 0, False, 0, 1, ["a_check"]), tmp_path / "outcomes.txt"
    file.write_text("".join(json.dumps(asdict(o)) + "\n" for o in (again, killed)))
    assert read_outcomes([file]) == [again]
    assert first_to_ask([again]) == {"a": "a_check"}
