"""Pipes and folders where files should be, secrets in addresses, orders in texts, process numbers that come again."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from typer.testing import CliRunner

from k4_pipeline.alerts.delivery import MAX_TARGETS, targets_of
from k4_pipeline.alerts.messages import Message, digest, single
from k4_pipeline.alerts.outbox import FIRST_LOOK_BACK_S, Outbox
from k4_pipeline.cli import app
from k4_pipeline.config import PipelineConfig
from k4_pipeline.errors import BadInputError, ConfigError, DamagedArtifactError, K4Error
from k4_pipeline.evaluation.trials import count_trials, keep_result
from k4_pipeline.settings import load_settings
from k4_pipeline.storage import ArtifactStore, atomic_write_text
from k4_pipeline.storage.os_errors import in_words
from k4_pipeline.storage.writer_lock import writing
from k4_pipeline_tests.alerts.test_outbox import NOW, fact

DAY = 86400.0
FORMS = {"pipe": os.mkfifo, "folder": os.mkdir}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["settings.json", "alert_urls"])
def test_what_is_no_file_is_neither_waited_for_nor_passed_over(tmp_path: Path, name: str, form: str) -> None:
    FORMS[form](tmp_path / name)
    (tmp_path / name).chmod(0o600)
    with pytest.raises(ConfigError, match=name):
        load_settings(tmp_path, {})


@pytest.mark.parametrize("form", FORMS)
def test_a_state_or_lock_that_is_no_file_is_named(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "artifacts" / "table" / "_"
    folder.mkdir(parents=True)
    FORMS[form](folder / "state.json")
    with pytest.raises(K4Error, match=r"state\.json"):
        ArtifactStore(tmp_path / "artifacts").last_good("table")
    FORMS[form](tmp_path / "writer.lock")
    with pytest.raises((BadInputError, IsADirectoryError)) as caught, writing(tmp_path):
        pass
    assert "writer.lock" in str(caught.value)


def test_a_secrets_file_that_is_no_text_is_refused_without_showing_it(tmp_path: Path) -> None:
    (tmp_path / "alert_urls").write_bytes(b"json://geheim\xff")
    (tmp_path / "alert_urls").chmod(0o600)
    with pytest.raises(ConfigError, match="no UTF-8 text") as caught:
        load_settings(tmp_path, {})
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "url",
    [
        "json://user:geheim-1@127.0.0.1:9/services/T0123/geheim-2?x=geheim-3",
        "json://127.0.0.1:9/geheim%2D4",
        "slack://T1JJ3T3L2/geheim5xx/TIiajkdnlazkcOXrIdevi7FQ/",
    ],
)
def test_neither_name_nor_error_of_a_target_shows_a_secret(url: str) -> None:
    targets, problems = targets_of([url])
    shown = "".join(problems) + "".join(t.name for t in targets)
    if url.startswith("json"):
        shown += targets[0].send(Message("title", "body", ()))
        assert "127.0.0.1" in shown
    assert "geheim" not in shown
    assert "T0123" not in shown


def test_targets_are_served_once_and_their_number_is_limited() -> None:
    targets, problems = targets_of(["json://a/", "json://a/", *(f"json://h{i}/" for i in range(60))])
    assert len(targets) == MAX_TARGETS
    assert "61 alert URLs" in problems[0]


def test_no_text_of_a_message_gives_orders_to_a_terminal_a_mail_or_a_table() -> None:
    bad = fact(1, cause="a\x1b[31mred\x00\u202e <b>x</b>\nBcc: all@example.org", subject="s")
    bad = type(bad)(**{**bad.to_dict(), "title": "x\r\nBcc: all@example.org [/nonsense]"})
    for message in (single(bad, ""), *digest([bad] * 4, "", 2000)):
        assert "\n" not in message.title
        assert not {"\x1b", "\x00", "\r", "\u202e"} & set(message.title + message.body)


def test_the_status_shows_text_that_looks_like_markup(tmp_path: Path) -> None:
    (tmp_path / "alerts").mkdir()
    Outbox(tmp_path / "alerts").record([fact(1, time.time(), cause="[/red] [bold]as it is[/bold]")])
    done = CliRunner().invoke(app, ["alerts", "status", "--home", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "[/red]" in done.stdout


def test_a_target_met_while_the_clock_was_ahead_is_told_what_happens_now(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.meet("target", NOW + 30 * DAY)
    outbox.meet("target", NOW)
    outbox.record([fact(1, NOW), fact(2, NOW - FIRST_LOOK_BACK_S - 1)])
    for again in (outbox, Outbox(tmp_path)):
        assert [f.id for f in again.pending("target")] == [fact(1).id]


def test_what_a_dead_writer_left_goes_though_its_process_number_has_an_owner_again(tmp_path: Path) -> None:
    left = tmp_path / f".x.json.{os.getpid()}-abc.tmp"
    left.write_text("half")
    atomic_write_text(tmp_path / "x.json", "whole")
    assert left.exists(), "young: its writer may be about to lock it"
    os.utime(left, (0, 0))
    atomic_write_text(tmp_path / "x.json", "whole")
    assert not left.exists()


def test_a_damaged_run_history_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_text("no database, " * 100)
    with pytest.raises(sqlite3.DatabaseError) as caught, sqlite3.connect(tmp_path / "runs.db") as connection:
        connection.execute("select 1 from runs")
    assert "move that folder away" in (in_words(caught.value, tmp_path) or "")


@pytest.mark.parametrize("link", ["home", "home/writer.lock"])
def test_a_symbolic_link_that_leads_nowhere_is_named_with_its_target(tmp_path: Path, link: str) -> None:
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to("/gone/away")
    with pytest.raises(OSError) as caught, writing(tmp_path / "home"):
        pass
    said = in_words(caught.value, tmp_path / "home") or ""
    assert said.startswith(f"{tmp_path / link} is a symbolic link to /gone/away, which is not there")


def test_a_name_that_is_too_long_is_named_in_short(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as caught, writing(tmp_path / ("a" * 300)):
        pass
    assert "is longer than the file system takes" in (in_words(caught.value) or "")


def test_a_kept_result_of_a_walk_forward_is_counted_or_named(tmp_path: Path) -> None:
    config = PipelineConfig()
    path = keep_result(tmp_path, config, {"log_loss": 1.0}, counts_as=3)
    assert count_trials(tmp_path, config) == 3
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"counts_as": 3', b'"counts_as": 1'))
    with pytest.raises(DamagedArtifactError, match=path.name):
        count_trials(tmp_path, config)
    path.write_bytes(whole.replace(b'"sha256"', b'"sha257"'))
    with pytest.raises(DamagedArtifactError, match="sha257"):
        count_trials(tmp_path, config)
    earlier = json.loads(whole)
    del earlier["sha256"]  # as versions before the seal wrote it
    path.write_text(json.dumps(earlier))
    assert count_trials(tmp_path, config) == 3


def test_a_home_that_may_only_be_read_shows_its_writer_and_settings(tmp_path: Path) -> None:
    code = f"""
import io, os, sys
from pathlib import Path
real = os.open
def only_reading(path, flags, *a, **k):
    if str(path).startswith({str(tmp_path)!r}) and flags & (os.O_WRONLY | os.O_RDWR):
        raise OSError(30, "Read-only file system", str(path))
    return real(path, flags, *a, **k)
os.open = only_reading
from k4_pipeline.cli import app
app(["status", "--home", {str(tmp_path)!r}])
"""
    with writing(tmp_path):
        pass
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "never made" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_any_command_with_one_line(tmp_path: Path, number: int) -> None:
    code = """
import os, signal, sys, time
from k4_pipeline.cli.common import explained
signal.signal(int(sys.argv[1]), signal.SIG_DFL)  # whatever nohup or a shell's & left ignored
@explained
def command():
    os.kill(os.getpid(), int(sys.argv[1]))
    time.sleep(5)
try:
    command()
except BaseException as end:
    sys.exit(end.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code, str(int(number))], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.startswith("k4: interrupted")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "path",
    ["../settings.json", "..%2fsettings.json", "%2e%2e/settings.json", "..%5csettings.json", "x/../../settings.json"],
)
def test_no_path_leads_out_of_the_served_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    from k4_pipeline.cli.ui_server import pages

    monkeypatch.setenv("K4_HOME", str(tmp_path))
    (tmp_path / "settings.json").write_text("geheim")
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "link.json").symlink_to(tmp_path / "settings.json")
    client = TestClient(Starlette(routes=pages()))
    for name in (path, "link.json"):
        answer = client.get(f"/k4/reports/{name}")
        assert answer.status_code == 404
        assert "geheim" not in answer.text
