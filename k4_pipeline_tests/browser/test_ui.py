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
from k4_pipeline.defs.remedies import ANSWERS
from k4_pipeline.defs.verdicts import stored_verdicts
from k4_pipeline.options import apply_assignments, apply_options
from k4_pipeline.settings import Settings, save_settings
from k4_pipeline.storage import ArtifactStore

pytestmark = [pytest.mark.browser, pytest.mark.slow]

AS_OF = "2024-01-01"
START_S, RUN_S, PAGE_MS = 180, 900, 120_000
DESK = {"width": 1700, "height": 1300}
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
    options = {"tickers": 40, "bars": 1500, "model_preset": "fast", "preset": "tiny", "epochs": 1}
    light = ["controls.max_rows=400", "controls.epochs=1", "proof.demo_epochs=1", "proof.demo_rows=400"]
    config = apply_assignments(apply_options(PipelineConfig(), options), light)
    settings = Settings(tmp_path_factory.mktemp("ui") / "home", config)
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
        page = browser.new_page(viewport=DESK)
        page.set_default_timeout(PAGE_MS)
        yield page
        browser.close()


@pytest.fixture(scope="module")
def materialized(page, url) -> str:
    """The page of runs, after "Materialize all" for one partition was launched in the browser and has succeeded."""
    page.goto(f"{url}/asset-groups")
    page.get_by_role("button", name="Materialize all").first.click()
    field = page.get_by_placeholder("ex: ")
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
    page.set_viewport_size(DESK)
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


def test_the_page_of_the_report_leads_to_the_report_and_that_to_the_model_card(page, url, materialized):
    text = _text_with(page, f"{url}/assets/validation_report?partition={AS_OF}&view=partitions", "report_path")
    assert "labelled test snapshots" in text
    link = page.get_by_role("link", name="report.html").first.get_attribute("href")
    assert link.endswith(f"/k4/reports/{AS_OF}/report.html")
    page.goto(f"{url}/k4/reports/{AS_OF}/report.html")
    page.locator(".headline .word").wait_for()
    page.get_by_role("link", name="model card").click()
    assert page.url == f"{url}/k4/reports/model-card.html"
    assert "2013" in page.inner_text("body")
    page.goto(f"{url}/k4/reports/monitor/monitor.html")
    assert page.locator("h1").inner_text() == "What was said, and what came"
    assert page.evaluate(MEASURE)["page"] == 0


def test_a_check_that_did_not_pass_says_why_what_to_do_and_where_it_is_explained(page, url, settings, materialized):
    store = ArtifactStore(settings.artifacts_dir)
    verdicts = stored_verdicts(store, [store.current("validation_report", AS_OF), store.current("champion_model")])
    missed = next(v for v in verdicts if not v.holds)  # so small a market cannot be judged in everything
    asset = missed.detail["asset"]
    text = _text_with(page, f"{url}/assets/{asset}?view=checks&checkDetail={missed.name}", "next_command")
    assert ANSWERS[asset][0] in text
    assert f"/k4/docs/{ANSWERS[asset][1]}" in text
    assert missed.findings[0][:40] in " ".join(text.split())


def test_the_launchpad_starts_from_valid_settings(page, url, materialized):
    text = _text_with(page, f"{url}/locations/k4_pipeline/jobs/full_pipeline/playground", "No errors")
    assert "set_fields" in text


WIDTHS = [1300, 360]
MEASURE = """() => {
    const wide = (place) => place.getBoundingClientRect().width;
    return {
        page: document.documentElement.scrollWidth - innerWidth,
        tables: [...document.querySelectorAll(".scroll")].filter((t) => t.scrollWidth > t.clientWidth + 1).length,
        plots: [...document.querySelectorAll(".js-plotly-plot")].map((plot) =>
            Math.abs(wide(plot.querySelector("svg")) - wide(plot.parentElement))),
        paper: getComputedStyle(document.body).backgroundColor,
    };
}"""


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_of_the_report_is_cut_off_and_it_follows_light_and_dark(page, settings, materialized, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto((settings.reports_dir / AS_OF / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    for place in page.locator(".plot").all():
        place.scroll_into_view_if_needed()
    page.locator(".js-plotly-plot svg").nth(4).wait_for()
    light = page.evaluate(MEASURE)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(MEASURE)
    for seen in (light, dark):
        assert (seen["page"], seen["tables"]) == (0, 0)
        assert len(seen["plots"]) >= 5
        assert max(seen["plots"]) <= 1
    assert light["paper"] != dark["paper"]
    page.emulate_media(color_scheme="light")
    term = page.locator("abbr[data-tip]:visible").first
    term.focus()
    shown = term.evaluate("(e) => getComputedStyle(e, '::after').content")
    assert shown.strip('"') == term.get_attribute("data-tip")


def test_jobs_schedules_and_sensor_are_shown_with_their_descriptions(page, url, materialized):
    assert "nightly" in _text_with(page, f"{url}/jobs", "full_pipeline")
    text = _text_with(page, f"{url}/automation", "quarterly_retraining")
    assert "nightly_signals" in text
    assert "alerts" in text


def test_a_shell_command_reads_what_the_ui_made(settings, materialized, tmp_path):
    from k4_pipeline.defs.export import export_asset

    written = export_asset(settings, "predictions", Path(tmp_path) / "predictions.csv", AS_OF)
    assert written["rows"] > 0
