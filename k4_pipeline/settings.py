"""Where a run keeps its files and with which settings it works: the only place that reads the environment.

Order of precedence: command-line options, then `K4_*` variables, then `K4_HOME/settings.json` (written by `k4 run`, so
that the UI goes on with the same data), then the defaults of config/. Secrets (alert URLs) come from the environment or
from a file that only its owner may read; they are never stored here.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from k4_pipeline import __version__
from k4_pipeline.config import PipelineConfig, from_dict, to_dict
from k4_pipeline.errors import ConfigError
from k4_pipeline.options import apply_options, options_from_environment

HOME_VARIABLE = "K4_HOME"
ALERT_VARIABLE = "K4_ALERT_URLS"
SECRETS = "alert_urls"
MAX_SECRET_BYTES = 100_000
DEFAULT_HOME = ".k4"


@dataclass(frozen=True)
class Settings:
    """One run's home folder and configuration."""

    home: Path
    config: PipelineConfig = field(default_factory=PipelineConfig)
    alert_urls: tuple[str, ...] = field(default=(), repr=False)  # Apprise URLs, secret; none: no messages are sent
    dropped: tuple[str, ...] = ()  # what settings.json of another version says and this one does not know

    @property
    def dagster_dir(self) -> Path:
        """DAGSTER_HOME: runs, events, schedules."""
        return self.home / "dagster"

    @property
    def artifacts_dir(self) -> Path:
        """Root of the `ArtifactStore`."""
        return self.home / "artifacts"

    @property
    def unfinished_dir(self) -> Path:
        """State of work that a killed run left behind and the next one continues."""
        return self.home / "unfinished"

    @property
    def reports_dir(self) -> Path:
        """Rendered reports, one folder per as_of."""
        return self.home / "reports"

    @property
    def raw_dir(self) -> Path:
        """What vendors sent, as sent."""
        return self.home / "raw"

    @property
    def logs_dir(self) -> Path:
        """Full logs of shell runs."""
        return self.home / "logs"

    @property
    def settings_file(self) -> Path:
        """The stored settings."""
        return self.home / "settings.json"


def home_dir(environ: Mapping[str, str] | None = None) -> Path:
    """`K4_HOME`, or `.k4` in the working folder; always absolute. For `s3://bucket/prefix` its working copy here."""
    environ = os.environ if environ is None else environ
    place = environ.get(HOME_VARIABLE, "") or DEFAULT_HOME
    if "://" in place:
        return _working_copy(place)
    return Path(place).expanduser().absolute()


@functools.cache
def _working_copy(url: str) -> Path:
    """Brought up to date once a process, unless a run writes into it now."""
    from k4_pipeline.storage.remote_home import RemoteHome, working_copy
    from k4_pipeline.storage.writer_lock import writer_of

    home = working_copy(url)
    home.mkdir(parents=True, exist_ok=True)
    if writer_of(home) is None:
        RemoteHome(home, url).pull()
    return home


def stored_settings(home: Path) -> Settings:
    """What `settings.json` of this home says; the defaults when there is none. Raises `ConfigError` naming the file.

    A file without its sha256 was written by hand: it is accepted when every value passes the schema. In one that
    another version of this package wrote, settings that are no more are dropped (`Settings.dropped` names them).
    """
    from k4_pipeline.storage.sealed import is_sealed, read_sealed

    path = home / "settings.json"
    if not os.path.lexists(path):
        return Settings(home)
    try:
        stored = read_sealed(path, by_hand=True)
        if stored.pop("alert_urls", []):
            raise ConfigError(
                f"it holds alert_urls, which are secret: move them to {ALERT_VARIABLE} or {home / SECRETS}"
            )
        dropped: list[str] | None = [] if is_sealed(path) else None
        unknown = sorted(set(stored) - {"config", "version"})
        if unknown and dropped is None:
            raise ConfigError(f"it has no entry {', '.join(unknown)}; it has config")
        config = from_dict(PipelineConfig, stored.get("config", {}), dropped=dropped)
        return Settings(home, config, dropped=tuple(dropped or ()))
    except (OSError, ValueError, ConfigError) as problem:
        raise ConfigError(
            f"{path} cannot be used: {problem}; mend it, or delete it to go back to the defaults. A hand-written file "
            "has no sha256 line"
        ) from problem


def secret_urls(home: Path) -> tuple[str, ...]:
    """The alert URLs in `<home>/alert_urls`, one a line; `ConfigError` when others than its owner may read the file."""
    from k4_pipeline.storage.sealed import read_limited

    path = home / SECRETS
    if not os.path.lexists(path):
        return ()
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigError(f"{path} holds secrets and others may read it; run: chmod 600 {path}")
        return tuple(read_limited(path, MAX_SECRET_BYTES).decode().split())
    except (OSError, ValueError) as problem:
        # Never the text itself: it is secret.
        what = "it is no UTF-8 text" if isinstance(problem, UnicodeDecodeError) else str(problem)
        raise ConfigError(f"{path} cannot be read: {what}; it holds one alert address a line") from None


def load_settings(
    home: Path | None = None, environ: Mapping[str, str] | None = None, *, stored: bool = True
) -> Settings:
    """Defaults, then the stored settings (unless `stored` is False), then the `K4_*` variables of `environ`."""
    environ = os.environ if environ is None else environ
    home = home_dir(environ) if home is None else Path(home).expanduser().absolute()
    kept = stored_settings(home) if stored else Settings(home)
    config = apply_options(kept.config, options_from_environment(environ))
    urls = tuple(environ.get(ALERT_VARIABLE, "").split()) or secret_urls(home)
    return dataclasses.replace(kept, config=config, alert_urls=urls)


def save_settings(settings: Settings) -> Path:
    """Write `settings.json`, sealed and atomically, readable by its owner alone; secrets are not in it."""
    from k4_pipeline.storage.sealed import write_sealed

    settings.home.mkdir(parents=True, exist_ok=True)
    stored = {"version": __version__, "config": to_dict(settings.config)}
    write_sealed(settings.settings_file, stored, mode=0o600)
    return settings.settings_file
