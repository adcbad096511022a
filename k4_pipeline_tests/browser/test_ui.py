"""A user in a browser: opens the UI, materializes the whole graph for one as-of date, reads the check results."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from k4_pipeline.config import PipelineConfig
from k4_pipeline.defs.graph import ASSET_ORDER
from k4_pipeline.options import apply_options
from k4_pipeline.settings import Settings, save_settings
from k4_pipeline.storage import ArtifactStore

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AS_OF = "2024-01-01"
START_S, RUN_S, PAGE_MS = 180, 900, 120_000
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def _chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no Chromium here: apt-get install chromium")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """A tiny simulated market, stored where the UI finds it."""
    options = {"tickers": 40, "bars": 1500, "preset": "tiny", "epochs": 2}
    settings = Settings(tmp_path_factory.mktemp("ui") / "home", apply_options(PipelineConfig(), options))
    save_settings(settings)
    return settings


@pytest.fixture(scope="module")
def url(settings) -> Iterator[str]:
    """The address of a running `k4 ui`."""
    port = _free_port()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("K4_")}
    log = settings.home / "ui.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "k4_pipeline.cli", "ui", "--port", str(port)],
            env={**environment, "K4_HOME": str(settings.home)},
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            deadline = time.monotonic() + START_S
            while True:
                assert server.poll() is None, log.read_text()[-3000:]
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                try:
                    urllib.request.urlopen(f"{address}/server_info", timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            os.killpg(server.pid, signal.SIGINT)
            try:
                server.wait(40)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def page(url):
    """A tab of a headless browser."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_chromium(), headless=True, args=CHROMIUM_FLAGS)
        page = browser.new_page(viewport={"width": 1700, "height": 1300})
        page.set_default_timeout(PAGE_MS)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def materialized(page, url) -> str:
    """The page of runs, after "Materialize all" for one partition was launched in the browser and has succeeded."""
    page.goto(f"{url}/asset-groups")
    page.get_by_role("button", name="Materialize all").first.click()
    page.get_by_text("Show all partitions").click()
    field = page.get_by_placeholder("ex: 2000-01-01")
    field.fill(AS_OF)
    field.press("Enter")
    page.get_by_role("button", name="Launch 1 run").click()
    page.wait_for_timeout(2000)
    page.goto(f"{url}/runs")
    deadline = time.monotonic() + RUN_S
    while True:
        text = page.inner_text("body")
        if "Success" in text:
            break
        assert "Failure" not in text, text[-2000:]
        assert time.monotonic() < deadline, text[-2000:]
        page.wait_for_timeout(3000)
        page.reload()
        page.get_by_text("Launched by").first.wait_for()
    return text


def _text_with(page, url: str, wanted: str) -> str:
    page.goto(url)
    page.get_by_text(wanted).first.wait_for()
    return page.inner_text("body")


def test_the_graph_shows_all_groups(page, url, materialized):
    text = _text_with(page, f"{url}/asset-groups", "Materialize all")
    for group in ("market", "patterns", "features", "training", "evaluation", "serving"):
        assert group in text


def test_every_asset_was_materialized_and_promoted(settings, materialized):
    store = ArtifactStore(settings.artifacts_dir)
    for name in ASSET_ORDER:
        partition = AS_OF if AS_OF in store.partitions(name) else None
        assert store.current(name, partition).fingerprint


@pytest.mark.parametrize(
    "asset, check",
    [
        ("daily_bars", "no_bar_lies_in_the_future"),
        ("sequences", "every_sequence_ends_at_its_snapshot"),
        ("dataset_split", "purge_holds"),
        ("predictions", "probabilities_sum_to_one"),
    ],
)
def test_check_results_are_read_from_the_page(page, url, materialized, asset, check):
    text = _text_with(page, f"{url}/assets/{asset}?view=checks&checkDetail={check}", "holds in")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert lines[lines.index("Evaluation result") + 1] == "Passed"
    assert any(line.startswith("holds in") for line in lines)
    assert "This is a blocking asset check." in text


def test_an_asset_page_shows_its_class_table_date_range_and_pictures(page, url, materialized):
    text = _text_with(page, f"{url}/assets/labeled_snapshots", "K4_EXCEPTIONAL")
    assert "Row count" in text
    assert "date_range" in text
    page.locator("img[src^='data:image/svg']").first.wait_for()
    assert page.locator("img[src^='data:image/svg']").count() >= 2


def test_the_report_page_links_to_the_report(page, url, materialized):
    text = _text_with(page, f"{url}/assets/validation_report?partition={AS_OF}&view=partitions", "report_path")
    assert "report.html" in text
    assert "labelled test snapshots" in text


@pytest.mark.parametrize("width", [1280, 700])
def test_every_plot_of_the_report_fills_its_place_and_no_more(page, settings, materialized, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto((settings.reports_dir / AS_OF / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for place in page.locator(".plot").all():
        place.scroll_into_view_if_needed()
    page.locator(".js-plotly-plot svg").nth(4).wait_for()
    widths = page.evaluate(
        """() => [...document.querySelectorAll(".js-plotly-plot")].map((plot) =>
            [plot.querySelector("svg"), plot.parentElement].map((part) => part.getBoundingClientRect().width))"""
    )
    assert len(widths) >= 5
    for drawn, place in widths:
        assert abs(drawn - place) <= 1


def test_jobs_schedules_and_sensor_are_shown_with_their_descriptions(page, url, materialized):
    assert "nightly" in _text_with(page, f"{url}/jobs", "full_pipeline")
    text = _text_with(page, f"{url}/automation", "quarterly_retraining")
    assert "nightly_signals" in text
    assert "alerts" in text


def test_a_shell_command_reads_what_the_ui_made(settings, materialized, tmp_path):
    from k4_pipeline.defs.export import export_asset

    written = export_asset(settings, "predictions", Path(tmp_path) / "predictions.csv", AS_OF)
    assert written["rows"] > 0
