"""Messages, delivery and the memory of what was sent, without Dagster."""

from __future__ import annotations

import http.server
import json
import threading
from typing import ClassVar

import pytest

from k4_pipeline.alerts.cursor import FIRST_LOOK_BACK_S, MAX_ATTEMPTS, OVERLAP_S, AlertCursor
from k4_pipeline.alerts.delivery import Messenger
from k4_pipeline.alerts.messages import BODY_LIMIT, check_alert, run_alert
from k4_pipeline.errors import ConfigError


def _check(**changes):
    values = {
        "run_id": "r1",
        "event": "1.5",
        "job": "nightly",
        "asset": "daily_bars",
        "check": "no_bar_lies_in_the_future",
        "partition": None,
        "blocking": True,
        "severity": "ERROR",
        "description": "AAA 2031-01-01",
    }
    return check_alert(**{**values, **changes})


def test_a_check_message_names_asset_check_partition_cause_and_effect():
    alert = _check(partition="2020-01-01")
    assert "no_bar_lies_in_the_future" in alert.title
    assert "daily_bars, as_of 2020-01-01" in alert.title
    assert "AAA 2031-01-01" in alert.body
    assert "not published" in alert.body
    assert "not blocking" in _check(blocking=False).body


def test_two_evaluations_of_one_check_have_different_keys_and_one_has_always_the_same():
    assert _check().key == _check().key
    assert len({_check().key, _check(event="2.5").key, _check(run_id="r2").key, _check(partition="p").key}) == 4


def test_a_run_message_names_steps_and_error_and_long_texts_are_cut():
    alert = run_alert(run_id="r", job="retrain", partition=None, steps=["daily_bars"], error="x" * 10_000)
    assert "daily_bars" in alert.body
    assert len(alert.body) <= BODY_LIMIT


def test_a_cursor_survives_storage_and_an_unreadable_one_starts_afresh():
    cursor = AlertCursor(100.0)
    cursor.mark_sent("r", "k")
    again = AlertCursor.load(cursor.dump(), now=5.0)
    assert again.was_sent("r", "k")
    assert again.seen_until == 100.0
    for broken in (None, "", "{", "[]", '{"seen_until": "x"}'):
        assert AlertCursor.load(broken, now=10_000.0).seen_until == 10_000.0 - FIRST_LOOK_BACK_S


def test_the_cursor_looks_again_over_an_overlap_and_forgets_only_runs_out_of_view():
    cursor = AlertCursor(1000.0)
    cursor.mark_sent("old", "a")
    cursor.mark_sent("new", "b")
    cursor.advance(2000.0, ["new"])
    assert cursor.look_from == 2000.0 - OVERLAP_S
    assert not cursor.was_sent("old", "a")
    assert cursor.was_sent("new", "b")


def test_the_cursor_waits_for_undelivered_messages_and_gives_up_in_the_end():
    cursor = AlertCursor(1000.0)
    assert not cursor.mark_failed("r", "k")
    cursor.advance(9000.0, ["r"])
    assert cursor.seen_until == 1000.0, "moving on would lose the message that waits"
    for _ in range(MAX_ATTEMPTS - 2):
        assert not cursor.mark_failed("r", "k")
    assert cursor.mark_failed("r", "k"), "given up after the last attempt"
    assert cursor.was_sent("r", "k")
    cursor.advance(9000.0, ["r"])
    assert cursor.seen_until == 9000.0


def test_the_memory_of_the_cursor_is_bounded():
    cursor = AlertCursor(0.0)
    for run in range(200):
        for key in range(100):
            cursor.mark_sent(f"r{run}", f"k{key}")
    cursor.advance(1.0, [f"r{run}" for run in range(200)])
    assert len(cursor.dump()) < 200_000


class _Receiver(http.server.BaseHTTPRequestHandler):
    status = 200
    got: ClassVar[list[dict]] = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append(json.loads(body))
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def receiver():
    handler = type("Handler", (_Receiver,), {"got": [], "status": 200})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"json://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_a_message_arrives_over_http_with_title_and_body(receiver):
    handler, url = receiver
    assert Messenger([url]).send(_check())
    assert len(handler.got) == 1
    assert handler.got[0]["title"].startswith("K4: check failed")
    assert "AAA 2031-01-01" in handler.got[0]["message"]


def test_a_refused_message_counts_as_not_sent(receiver):
    handler, url = receiver
    handler.status = 500
    assert not Messenger([url]).send(_check())


def test_an_unknown_kind_of_url_is_refused_without_showing_its_secret():
    with pytest.raises(ConfigError) as error:
        Messenger(["nosuch://user:geheim@host"])
    assert "nosuch" in str(error.value)
    assert "geheim" not in str(error.value)
