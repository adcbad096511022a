"""What a terminal shows while a run works."""

from __future__ import annotations

import io
import json
import re
import time

import pytest
from rich.console import Console

from k4_pipeline.cli.progress import RunProgress, clock


def shown(tmp_path, steps, work) -> tuple[RunProgress, str]:
    """The progress after `work(progress)`, and everything it drew on a terminal of 80 columns."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, color_system=None)
    with RunProgress(console, steps, tmp_path / "times.json") as progress:
        work(progress)
    return progress, stream.getvalue()


def test_a_named_bar_with_an_estimate_stands_before_the_first_step(tmp_path):
    _, text = shown(tmp_path, ["daily_bars"], lambda progress: progress.bars.refresh())
    assert "starting" in text
    assert re.search(r"ETA \d+:\d\d", text)


def test_every_step_and_its_parts_get_their_names_and_no_line_is_wider_than_the_terminal(tmp_path):
    def work(progress):
        for name in ("daily_bars", "daily_bars_checks"):
            with progress.step(name):
                report = progress.of("a label that is far too long for one line of a narrow terminal window")
                report(1, 2)
                progress.bars.refresh()
                report(2, 2)

    _, text = shown(tmp_path, ["daily_bars", "daily_bars_checks"], work)
    assert "daily bars" in text
    assert "checks of daily bars" in text
    assert "step 2 of 2" in text
    lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))
    assert max(map(len, lines)) <= 80


def test_the_next_run_starts_from_the_times_of_this_one(tmp_path):
    def work(progress):
        with progress.step("trained_model"):
            time.sleep(0.05)

    shown(tmp_path, ["trained_model"], work)
    took = json.loads((tmp_path / "times.json").read_text())["trained_model"]
    assert 0.05 <= took < 5
    again, _ = shown(tmp_path, ["trained_model"], lambda progress: None)
    assert again.left() == took


def test_a_spoilt_file_of_times_is_no_obstacle(tmp_path):
    (tmp_path / "times.json").write_text("[1, 2")
    progress, _ = shown(tmp_path, ["trained_model"], lambda progress: None)
    assert progress.left() > 0


def test_clocks():
    assert [clock(5), clock(65), clock(3725)] == ["0:05", "1:05", "1:02:05"]


def test_a_step_that_takes_longer_than_last_time_does_not_promise_to_end_at_once(tmp_path, monkeypatch):
    """90 of 100 after 90 s leave 10 s, whatever was expected; and the estimate grows while nothing moves."""
    moment = [0.0]
    (tmp_path / "times.json").write_text('{"validation_report": 15.0}')
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with RunProgress(console, ["validation_report"], tmp_path / "times.json") as progress:
        monkeypatch.setattr("k4_pipeline.cli.progress.time.monotonic", lambda: moment[0])
        with progress.step("validation_report"):
            assert progress.left() == 15.0
            moment[0] = 90.0
            progress.moved(90, 100)
            assert progress.left() == pytest.approx(10.0)
            moment[0] = 180.0
            assert progress.left() == pytest.approx(20.0)
