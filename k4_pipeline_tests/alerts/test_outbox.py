"""The outbox: recorded once, delivered per target, nothing lost by crashes, damage or clocks."""

from __future__ import annotations

import json

import pytest

from k4_pipeline.alerts.cursor import FIRST_LOOK_BACK_S, LOOK_AGAIN_S, Cursor
from k4_pipeline.alerts.facts import Fact
from k4_pipeline.alerts.journal import Journal
from k4_pipeline.alerts.outbox import BACK_OFF_S, Outbox

NOW = 1_000_000.0


def fact(number: int, at: float = NOW, subject: str = "", **changes) -> Fact:
    return Fact("check_failed", subject or f"s{number}", f"e{number}", at, f"check {number}", **changes)


def test_a_fact_is_recorded_once_however_often_it_is_seen(tmp_path):
    outbox = Outbox(tmp_path)
    assert len(outbox.record([fact(1), fact(2)])) == 2
    assert outbox.record([fact(1), fact(2)]) == []
    again = Outbox(tmp_path)
    assert again.record([fact(1), fact(2)]) == []
    assert len(again.facts) == 2


def test_a_good_state_is_told_once_and_only_after_trouble(tmp_path):
    outbox = Outbox(tmp_path)
    good = fact(2, NOW + 5, subject="s1", good=True)
    assert outbox.record([good]) == []
    outbox.record([fact(1)])
    (told,) = outbox.record([good])
    assert told.kind == "recovered"
    assert "check 1" in told.title
    assert outbox.record([fact(3, NOW + 9, subject="s1", good=True)]) == []
    assert Outbox(tmp_path).open_trouble == {}


def test_an_older_good_state_does_not_end_newer_trouble(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.record([fact(1)])
    assert outbox.record([fact(2, NOW - 5, subject="s1", good=True)]) == []
    assert list(outbox.open_trouble) == ["s1"]


def test_each_target_has_its_own_deliveries(tmp_path):
    outbox = Outbox(tmp_path)
    for target in ("a", "b"):
        outbox.meet(target, NOW)
    outbox.record([fact(1)])
    outbox.delivered("a", [fact(1).id], NOW)
    outbox.failed("b", NOW, "down")
    again = Outbox(tmp_path)
    assert again.pending("a") == []
    assert [f.id for f in again.pending("b")] == [fact(1).id]
    assert again.targets["b"].error == "down"


def test_the_pause_after_failures_doubles_up_to_a_limit_and_ends_with_a_success(tmp_path):
    outbox = Outbox(tmp_path)
    state = outbox.meet("a", NOW)
    pauses = []
    for _ in range(12):
        outbox.failed("a", NOW, "down")
        pauses.append(state.due_at() - NOW)
    assert pauses[:4] == [15.0, 30.0, 60.0, 120.0]
    assert pauses[-1] == BACK_OFF_S[1]
    assert not state.is_due(NOW + 1)
    assert state.is_due(NOW + BACK_OFF_S[1])
    assert state.is_due(NOW - 30 * 86400), "the clock went back: try at once"
    outbox.delivered("a", [], NOW)
    assert state.is_due(NOW)


def test_a_new_target_is_not_told_what_is_long_past(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.record([fact(1, NOW - 2 * FIRST_LOOK_BACK_S), fact(2)])
    outbox.meet("a", NOW)
    assert [f.title for f in outbox.pending("a")] == ["check 2"]


def test_a_torn_last_line_is_seen_and_what_follows_is_whole(tmp_path):
    journal = Journal(tmp_path / "j")
    journal.append([{"n": 1}, {"n": 2}])
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-4])
    journal.append([{"n": 3}])
    records, problems = journal.read()
    assert [r["n"] for r in records] == [1, 3]
    assert len(problems) == 1
    assert "line 2" in problems[0]


def test_every_flipped_bit_of_a_journal_is_seen(tmp_path):
    journal = Journal(tmp_path / "j")
    expected = [{"n": i, "text": "abc"} for i in range(3)]
    journal.append(expected)
    data = journal.path.read_bytes()
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        journal.path.write_bytes(bytes(flipped))
        records, problems = journal.read()
        assert problems
        assert all(record in expected for record in records)


def test_every_flipped_bit_of_a_cursor_is_seen(tmp_path):
    path = tmp_path / "cursor.json"
    Cursor(NOW, NOW, "v1", "v2").save(path)
    data = path.read_bytes()
    assert Cursor.load(path, NOW) == (Cursor(NOW, NOW, "v1", "v2"), "")
    for position in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        path.write_bytes(bytes(flipped))
        cursor, problem = Cursor.load(path, NOW)
        assert problem or cursor == Cursor(NOW, NOW, "v1", "v2")  # white space between the values may differ
        if problem:
            assert cursor.seen_until == NOW - LOOK_AGAIN_S


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"seen_until": "x"}', "[" * 100_000, '{"sha256": ""}'])
def test_an_unreadable_cursor_is_said_and_starts_far_back(tmp_path, text):
    path = tmp_path / "cursor.json"
    path.write_text(text)
    cursor, problem = Cursor.load(path, NOW)
    assert str(path) in problem
    assert cursor.seen_until == NOW - LOOK_AGAIN_S


def test_a_cursor_beyond_now_is_not_used(tmp_path):
    path = tmp_path / "cursor.json"
    Cursor(NOW + 30 * 86400).save(path)
    cursor, problem = Cursor.load(path, NOW)
    assert "future" in problem
    assert cursor.seen_until < NOW


def test_damaged_journals_are_mended_and_kept(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.record([fact(1), fact(2), fact(3)])
    lines = (tmp_path / "facts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "facts.jsonl").write_text(lines[0] + lines[1].replace("check", "chekc") + lines[2])
    damaged = Outbox(tmp_path)
    assert len(damaged.problems) == 1
    damaged.mend()
    assert "chekc" in (tmp_path / "facts.jsonl.damaged").read_text()
    mended = Outbox(tmp_path)
    assert mended.problems == []
    assert sorted(f.event for f in mended.facts.values()) == ["e1", "e3"]
    assert [f.event for f in mended.record([fact(1), fact(2), fact(3)])] == ["e2"]


def test_only_one_process_holds_the_outbox(tmp_path):
    with Outbox.open(tmp_path / "alerts") as first, Outbox.open(tmp_path / "alerts") as second:
        assert first is not None
        assert second is None


def test_no_secret_of_a_target_is_in_the_files(tmp_path):
    from k4_pipeline.alerts.delivery import deliver, targets_of

    targets, _ = targets_of(["json://user:geheim@127.0.0.1:9/"])
    outbox = Outbox(tmp_path)
    outbox.record([fact(1)])
    deliver(outbox, targets, "http://x", NOW)
    text = "".join(p.read_text() for p in tmp_path.glob("*"))
    assert "geheim" not in text
    assert json.loads((tmp_path / "deliveries.jsonl").read_text().splitlines()[-1].partition(" ")[2])["error"]
