"""Delivery through Apprise: any of its services by URL (mail, Slack, Telegram, a plain web hook, ...), each by itself.

Targets are served side by side, so a dead one delays no other, and what each was told is recorded for it alone.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from k4_pipeline.alerts.messages import Message, to_messages
from k4_pipeline.alerts.outbox import Outbox
from k4_pipeline.errors import ConfigError

BODY_LIMIT = 20_000
MAX_TARGETS = 50
PLACES = (
    "json",
    "jsons",
    "xml",
    "xmls",
    "form",
    "forms",
    "http",
    "https",
    "mailto",
    "mailtos",
)  # the host is no secret
READ_TIMEOUT_S = 15.0
LOOK_BUDGET_S = 15.0  # no new message is begun after this; the rest waits for the next look
# At most this many looks within the window send at once; what comes later waits and goes out together.
BURST, WINDOW_S = 2, 300.0


class Target:
    """One service by its Apprise URL. Neither `name` nor `id` shows a secret."""

    def __init__(self, url: str, position: int) -> None:
        import apprise

        plugin = apprise.Apprise.instantiate(url, suppress_exceptions=True)
        if plugin is None:
            # The URL itself may hold a password, so only its kind is shown.
            kind = url.partition("://")[0] if "://" in url else "no scheme"
            raise ConfigError(
                f"alert URL number {position} (kind {kind[:20]!r}) is not one Apprise knows; see "
                "https://appriseit.com/services"
            )
        plugin.socket_read_timeout = READ_TIMEOUT_S
        self._plugin: Any = plugin
        self.id = hashlib.sha256(url.encode()).hexdigest()[:12]
        # Of web hooks the path is the secret, of mail the user and what follows.
        scheme, _, rest = url.partition("://")
        place = rest.partition("/")[0].partition("?")[0].rpartition("@")[2] if scheme.lower() in PLACES else ""
        self.name = f"{scheme.lower()}://{place or '…'}/ ({self.id[:4]})"
        self._secrets = _secrets_of(url, place)
        self.body_limit = min(int(plugin.body_maxlen), BODY_LIMIT)

    def send(self, message: Message, *, trouble: bool = True) -> str:
        """Empty when the service took the message, else what it said."""
        import apprise

        kind = apprise.NotifyType.FAILURE if trouble else apprise.NotifyType.INFO
        said, log = _Said(), logging.getLogger("apprise")
        log.setLevel(logging.DEBUG)
        log.propagate = False  # its debugging shows addresses
        log.addHandler(said)
        try:
            taken = self._plugin.notify(
                title=message.title, body=message.body, notify_type=kind, body_format=apprise.NotifyFormat.TEXT
            )
        except (OSError, TypeError, ValueError) as error:
            return self._without_secrets(f"{type(error).__name__}: {error}")
        finally:
            log.removeHandler(said)
        return "" if taken else (self._without_secrets(said.text()) or "the service did not take the message")

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text[:300]


def _secrets_of(url: str, place: str) -> list[str]:
    """Every part of an address that may be secret, as it stands there and decoded, longest first."""
    rest = url.partition("://")[2].replace(place, "", 1) if place else url.partition("://")[2]
    parts = {part for part in re.split(r"[/?&=:@#]+", rest) if len(part) > 2}
    decoded = {urllib.parse.unquote(part) for part in parts}
    return sorted(parts | decoded, key=len, reverse=True)


class _Said(logging.Handler):
    """Why it failed, in this thread: Apprise returns no reason, it logs one, and the exact error as debugging."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._thread = threading.get_ident()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.thread == self._thread and (record.levelno >= logging.WARNING or "Exception: " in text[:40]):
            self._lines.append(text)

    def text(self) -> str:
        return " ".join(" ".join(self._lines).split())


def targets_of(urls: Sequence[str]) -> tuple[list[Target], list[str]]:
    """The targets, and a sentence for each URL that is none; one mistake does not silence the others."""
    targets, problems = [], []
    given = list(dict.fromkeys(urls))
    if len(given) > MAX_TARGETS:
        problems.append(f"{len(given)} alert URLs are set; only the first {MAX_TARGETS} are used")
    for position, url in enumerate(given[:MAX_TARGETS], 1):
        try:
            targets.append(Target(url, position))
        except ConfigError as problem:
            problems.append(str(problem))
    return targets, problems


@dataclass(frozen=True)
class Delivered:
    """Messages sent, and facts that still wait, over all targets."""

    messages: int = 0
    waiting: int = 0


def deliver(outbox: Outbox, targets: Sequence[Target], ui: str, now: float) -> Delivered:
    """Bring each target what it has not been told and may be told now."""
    for target in targets:
        outbox.meet(target.id, now)
    with ThreadPoolExecutor(max(len(targets), 1), thread_name_prefix="k4-alert") as pool:
        counts = list(pool.map(lambda target: _serve(outbox, target, ui, now), targets))
    return Delivered(sum(counts), sum(len(outbox.pending(target.id)) for target in targets))


def _serve(outbox: Outbox, target: Target, ui: str, now: float) -> int:
    state, pending = outbox.targets[target.id], outbox.pending(target.id)
    recent = {at for at in state.messages if now - WINDOW_S < at <= now}
    if not pending or not state.is_due(now) or len(recent) >= BURST:
        return 0
    sent, began = 0, time.monotonic()
    for message in to_messages(pending, ui, target.body_limit):
        if time.monotonic() - began > LOOK_BUDGET_S:
            break
        trouble = any(outbox.facts[i].is_trouble for i in message.ids)
        error = target.send(message, trouble=trouble)
        if error:
            outbox.failed(target.id, now, error)
            break
        outbox.delivered(target.id, list(message.ids), now)
        sent += 1
    return sent
