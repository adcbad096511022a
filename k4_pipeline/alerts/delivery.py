"""Delivery through Apprise: any of its services by URL (mail, Slack, Telegram, a plain web hook, ...)."""

from __future__ import annotations

from collections.abc import Sequence

from k4_pipeline.alerts.messages import Alert
from k4_pipeline.errors import ConfigError


class Messenger:
    """Sends alerts to every configured URL."""

    def __init__(self, urls: Sequence[str]) -> None:
        import apprise

        self._apprise = apprise.Apprise()
        for i, url in enumerate(urls, 1):
            if not self._apprise.add(url):
                # The URL itself may hold a password, so only its kind is shown.
                kind = url.partition("://")[0]
                raise ConfigError(
                    f"alert URL number {i} (kind {kind!r}) is not one Apprise knows; see https://appriseit.com/services"
                )

    def send(self, alert: Alert) -> bool:
        """Whether every service accepted the message."""
        import apprise

        return bool(self._apprise.notify(title=alert.title, body=alert.body, notify_type=apprise.NotifyType.FAILURE))
