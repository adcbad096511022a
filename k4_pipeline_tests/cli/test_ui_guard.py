"""The guard of the web server, request by request, and the roots a run of the UI may read."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from k4_pipeline.cli.ui_guard import Guard, allowed_hosts
from k4_pipeline.defs.resources import K4Resource
from k4_pipeline.errors import ConfigError

HOST = "127.0.0.1:3000"
JSON = {"content-type": "application/json"}


async def _app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"reached"})


def ask(method="GET", path="/", *, host=HOST, token="", **headers):
    """The response of the guarded application."""
    guard = Guard(_app, allowed_hosts("127.0.0.1", 3000), token)
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    async def request():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guard), base_url=f"http://{host}") as client:
            return await client.request(method, path, headers=named)

    return asyncio.run(request())


@pytest.mark.parametrize("host", [HOST, "localhost:3000", "[::1]:3000"])
def test_our_own_pages_reach_the_application(host):
    assert ask(host=host).text == "reached"
    assert ask("POST", "/graphql", host=host, origin=f"http://{host}", **JSON).status_code == 200


@pytest.mark.parametrize(
    "method, path, headers, status",
    [
        ("GET", "/", {"host": "evil.example:3000"}, 403),
        ("GET", "/", {"host": "127.0.0.1:3001"}, 403),
        ("POST", "/graphql", {"origin": "http://evil.example", **JSON}, 403),
        ("POST", "/graphql", {"origin": "null", **JSON}, 403),
        ("POST", "/report_asset_materialization/daily_bars", {"origin": "https://evil.example"}, 403),
        ("POST", "/graphql", {"sec_fetch_site": "cross-site", **JSON}, 403),
        ("GET", "/graphql", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors"}, 403),
        ("GET", "/graphql?query=mutation{x}", {}, 405),
        ("GET", "/graphql/?query=%7Bversion%7D", {}, 405),
        ("GET", "/graphql?query=mutation{x}", {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 405),
        ("PUT", "/graphql", {}, 405),
        ("POST", "/graphql?query=mutation{x}", {"content-type": "text/plain"}, 415),
        ("POST", "/graphql", {"content-type": "application/graphql"}, 415),
        ("POST", "/graphql?query=mutation{x}", {}, 415),
    ],
)
def test_what_a_foreign_page_could_send_does_not_reach_it(method, path, headers, status):
    response = ask(method, path, **headers)
    assert response.status_code == status
    assert "reached" not in response.text


def test_a_link_from_another_site_may_open_a_page():
    assert ask(path="/runs/1", sec_fetch_site="cross-site", sec_fetch_mode="navigate").text == "reached"


def test_with_a_token_every_request_brings_it_and_the_browser_gets_a_cookie_for_it():
    assert ask(token="geheim").status_code == 401
    assert ask(token="geheim", authorization="Bearer other").status_code == 401
    assert ask(token="geheim", authorization="Bearer geheim").text == "reached"
    assert ask(path="/?token=other", token="geheim").status_code == 401
    welcome = ask(path="/?token=geheim", token="geheim")
    assert welcome.status_code == 303
    cookie = welcome.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert ask(token="geheim", cookie=f"a=b; {cookie.partition(';')[0]}").text == "reached"


def _websocket(origin):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})

    scope = {"type": "websocket", "path": "/graphql", "headers": [(b"host", HOST.encode()), (b"origin", origin)]}
    asyncio.run(Guard(app, allowed_hosts("127.0.0.1", 3000))(scope, receive, send))
    return sent[0]["type"]


def test_a_web_socket_is_opened_by_our_pages_alone():
    assert _websocket(b"http://127.0.0.1:3000") == "websocket.accept"
    assert _websocket(b"http://evil.example") == "websocket.close"


@pytest.fixture
def confined(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    (home / "link").symlink_to("/etc")
    monkeypatch.setenv("K4_HOME", str(home))
    monkeypatch.setenv("K4_ALLOWED_ROOTS", str(tmp_path / "data"))
    return tmp_path


@pytest.mark.parametrize(
    "config",
    [
        {"home": "/tmp/elsewhere"},
        {"set_fields": ["source.path=/etc/passwd"]},
        {"set_fields": ["source.snapshots_path=/etc/passwd"]},
        {"set_fields": ["path=../../etc"]},
        {"set_fields": ["source.path=file:///etc/passwd"]},
        {"set_fields": ["path=http://169.254.169.254/latest"]},
        {"source": {"source": "table", "path": "/etc/passwd"}},
    ],
)
def test_run_config_cannot_lead_outside_of_the_allowed_roots(confined, config):
    with pytest.raises(ConfigError, match="K4_ALLOWED_ROOTS"):
        K4Resource(**config).settings()
    link = confined / "home" / "link" / "passwd"
    with pytest.raises(ConfigError, match="outside"):
        K4Resource(set_fields=[f"source.path={link}"]).settings()


def test_the_executor_makes_no_lock_outside_of_them(confined):
    from k4_pipeline.defs.confine import confine_home

    confine_home(confined / "home")
    with pytest.raises(ConfigError, match="outside of"):
        confine_home(confined / "elsewhere")


def test_run_config_may_name_what_lies_below_them(confined):
    inside = str(confined / "data" / "bars.parquet")
    assert K4Resource(set_fields=[f"source.path={inside}"]).settings().config.source.path == inside
    assert K4Resource(home=str(confined / "home")).settings().home == confined / "home"
