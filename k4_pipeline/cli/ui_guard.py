"""A small ASGI guard in front of the Dagster web server, which has no login and believes every request.

A page of another site can make a browser send requests to this machine. So: the Host header must be one of ours (a
foreign name that resolves here is DNS rebinding), an Origin header must be ours, nothing but POST with a JSON body may
reach GraphQL's execution, and where a token is set it must come with every request.
"""

from __future__ import annotations

import hmac
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
COOKIE = "k4_ui_token"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def allowed_hosts(host: str, port: int, more: Iterable[str] = ()) -> frozenset[str]:
    """Values of the Host header that are ours: loopback names and `host` with the port, and `more` as given."""
    names = {*LOOPBACK, f"[{host}]" if ":" in host else host} - {"0.0.0.0", "[::]"}
    with_port = {f"{name}:{port}" for name in names} | (names if port in (80, 443) else set())
    return frozenset(name.lower() for name in (*with_port, *more))


class Guard:
    """Passes on what is ours and answers the rest with one sentence."""

    def __init__(self, app: App, hosts: Iterable[str], token: str = "") -> None:
        self._app = app
        self._hosts = frozenset(hosts)
        self._origins = frozenset(f"{scheme}://{host}" for host in self._hosts for scheme in ("http", "https"))
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry point."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        status, sentence = self._refusal(scope, headers)
        if status:
            await _answer(scope, receive, send, status, sentence)
        elif self._token and not self._knows_token(headers):
            await self._ask_for_token(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str]:
        hosts = headers.get("host", [])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            known = ", ".join(sorted(self._hosts))
            return (
                403,
                f"The Host header {', '.join(hosts) or 'is missing and'!r} is not one of {known}; see --allow-host.",
            )
        for origin in headers.get("origin", []):
            if origin.lower() not in self._origins:
                return 403, f"Requests of pages of {origin!r} are not accepted."
        if scope["type"] == "websocket":
            return 0, ""
        method, site = scope["method"], headers.get("sec-fetch-site", ["none"])[0]
        navigates = method == "GET" and headers.get("sec-fetch-mode", [""])[0] == "navigate"
        if site in ("cross-site", "same-site") and not navigates:
            return 403, "Requests of pages of another site are not accepted."
        if scope["path"].rstrip("/").endswith("/graphql"):
            return self._graphql(scope, headers)
        return 0, ""

    @staticmethod
    def _graphql(scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str]:
        query = urllib.parse.parse_qs(scope.get("query_string", b"").decode("latin-1"))
        kind = headers.get("content-type", [""])[0].partition(";")[0].strip().lower()
        if scope["method"] == "POST":
            if kind != "application/json":
                return 415, "GraphQL is spoken here as POST with Content-Type: application/json."
        elif "query" in query or scope["method"] not in ("GET", "HEAD"):
            return 405, "GraphQL is spoken here as POST with Content-Type: application/json."
        return 0, ""

    def _knows_token(self, headers: dict[str, list[str]]) -> bool:
        given = [value.removeprefix("Bearer ") for value in headers.get("authorization", [])]
        for cookie in headers.get("cookie", []):
            pairs = (part.strip().partition("=") for part in cookie.split(";"))
            given += [urllib.parse.unquote(value) for name, _, value in pairs if name == COOKIE]
        return any(hmac.compare_digest(value.encode(), self._token.encode()) for value in given)

    async def _ask_for_token(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = urllib.parse.parse_qs(scope.get("query_string", b"").decode("latin-1"))
        given = query.get("token", [""])[0]
        if scope["type"] == "http" and hmac.compare_digest(given.encode(), self._token.encode()):
            cookie = f"{COOKIE}={urllib.parse.quote(given, safe='')}; Path=/; HttpOnly; SameSite=Strict"
            headers = [(b"location", b"/"), (b"set-cookie", cookie.encode("latin-1"))]
            await send({"type": "http.response.start", "status": 303, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        sentence = "This UI asks for a token: open /?token=... once, or send Authorization: Bearer ... ."
        await _answer(scope, receive, send, 401, sentence)


def _headers(scope: Scope) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


async def _answer(scope: Scope, receive: Receive, send: Send, status: int, sentence: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": sentence[:120]})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{sentence}\n".encode()})
