"""Delivery through Apprise: any of its services by URL (mail, Slack, Telegram, a plain web hook, ...), each by itself.

Targets are served side by side, so a dead one delays no other, and what each was told is recorded for it alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from k4_pipeline.alerts.messages import Message, to_messages
from k4_pipeline.alerts.outbox import Outbox
from k4_pipeline.errors import ConfigError

BODY_LIMIT = 20_000
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
        self.name = plugin.url(privacy=True).partition("?")[0]
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
            return f"{type(error).__name__}: {error}"
        finally:
            log.removeHandler(said)
        return "" if taken else (said.text() or "the service did not take the message")


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
        return " ".join(" ".join(self._lines).split())[:300]


def targets_of(urls: Sequence[str]) -> tuple[list[Target], list[str]]:
    """The targets, and a sentence for each URL that is none; one mistake does not silence the others."""
    targets, problems = [], []
    for position, url in enumerate(dict.fromkeys(urls), 1):
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
