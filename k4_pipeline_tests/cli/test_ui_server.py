"""What `k4 ui` serves beside Dagster's own pages: reports, and the docs as HTML."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from k4_pipeline.cli.ui_server import pages
from k4_pipeline.defs.market_homes import HOMES
from k4_pipeline.defs.remedies import ANSWERS, answer, page_path


@pytest.fixture
def client(tmp_path, monkeypatch) -> TestClient:
    monkeypatch.setenv("K4_HOME", str(tmp_path))
    (tmp_path / "reports" / "2015-01-01").mkdir(parents=True)
    (tmp_path / "reports" / "2015-01-01" / "report.html").write_text("a report")
    return TestClient(Starlette(routes=pages()))


def test_every_page_that_a_failed_check_names_is_served_as_html(client):
    for asset in ANSWERS:
        page = client.get(answer(asset)["docs"])
        assert page.headers["content-type"].startswith("text/html"), asset
        assert "<h1" in page.text
    assert "<table>" in client.get("/k4/docs/operations.md").text
    assert client.get("/k4/docs/benchmarks/features.md").status_code == 200


def test_reports_are_served_and_nothing_outside_is(client):
    assert client.get("/k4/reports/2015-01-01/report.html").text == "a report"
    for path in ("/k4/docs/nope.md", "/k4/docs/../pyproject.toml", "/k4/docs/..%2f..%2fREADME.md", "/k4/reports/../x"):
        assert client.get(path).status_code == 404


def test_reports_of_a_market_are_served_where_its_assets_link_to(client, tmp_path, monkeypatch):
    (tmp_path / "markets").mkdir()
    (tmp_path / "markets" / "tokyo.yaml").write_text("attributes: {name: tokyo, source: simulated}")
    page = tmp_path / "markets" / "tokyo" / "reports" / "2015-01-01" / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("of tokyo")
    home = tmp_path / "markets" / "tokyo"
    monkeypatch.setitem(HOMES, "tokyo", home)
    link = page_path(page, home)
    assert client.get(link).text == "of tokyo"
    assert page_path(page, tmp_path) == "/k4/reports/2015-01-01/report.html"
    assert client.get("/k4/reports/2015-01-01/report.html").text == "a report"
    for path in ("/k4/markets/kyoto/reports/2015-01-01/report.html", "/k4/markets/tokyo/reports/..%2f..%2ftokyo.yaml"):
        assert client.get(path).status_code == 404
    assert answer("validation_report", home)["next_command"] == f"k4 report --open --home {home}"
    assert answer("validation_report", tmp_path)["next_command"] == "k4 report --open"
