"""An S3 bucket as the place of a home: immutable blobs by content, and small records that change by compare-and-swap.

A store of objects has no rename and no locks. What takes their place is the conditional write (`If-None-Match: *`,
`If-Match: <etag>`): of two writers who read the same record one writes, the other is told. The clock is the server's.
"""

from __future__ import annotations

import datetime as dt
import email.utils
import hashlib
import json
import secrets
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from k4_pipeline.errors import BusyError, ConfigError, DamagedArtifactError, StaleArtifactError
from k4_pipeline.storage.atomic import atomic_path
from k4_pipeline.storage.owner import Owner

LEASE = "lease.json"
LEASE_S = 60.0
_LOST = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_MISSING = ("NoSuchKey", "404")


class LostRaceError(StaleArtifactError):
    """Another writer changed the record first."""


class ObjectStore:
    """Objects below `s3://bucket/prefix`; another server by AWS_ENDPOINT_URL, keys as boto3 finds them."""

    def __init__(self, url: str) -> None:
        """Raises `ConfigError` for another kind of address, and without the package boto3."""
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigError(f"{url} is no address of a home; use a folder or s3://bucket/prefix")
        try:
            import boto3
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError:
            raise ConfigError(f"a home in {url} needs the package boto3: pip install 'k4-pipeline[s3]'") from None
        self.url, self.bucket, self.prefix = url, parts.netloc, parts.path.strip("/")
        self._errors, self._refused = (BotoCoreError, ClientError), ClientError
        self._client = boto3.client("s3")

    def _call(self, name: str, key: str, **more: Any) -> dict[str, Any]:
        full = f"{self.prefix}/{key}" if self.prefix else key
        try:
            return getattr(self._client, name)(Bucket=self.bucket, Key=full, **more)
        except self._errors as problem:
            code = problem.response["Error"]["Code"] if isinstance(problem, self._refused) else ""
            if code in _MISSING:
                raise FileNotFoundError(f"{self.url}/{key}") from None
            if code in _LOST:
                raise LostRaceError(f"{self.url}/{key} was changed by another writer") from None
            raise ConfigError(f"{self.url}/{key}: the object store says: {problem}") from None

    # -- blobs --------------------------------------------------------------------------------------------------------

    def put_blob(self, path: Path, sha256: str) -> None:
        """Store the bytes of a file under their hash, unless they are there."""
        try:
            self._call("head_object", f"blobs/{sha256}")
        except FileNotFoundError:
            with path.open("rb") as handle:
                self._call("put_object", f"blobs/{sha256}", Body=handle)

    def get_blob(self, sha256: str, path: Path) -> None:
        """Write the bytes of a hash to `path`, whole or not at all; `DamagedArtifactError` when gone or others."""
        try:
            body = self._call("get_object", f"blobs/{sha256}")["Body"]
        except FileNotFoundError:
            raise DamagedArtifactError(f"{self.url} has lost the file with sha256 {sha256[:12]}") from None
        digest = hashlib.sha256()
        with atomic_path(path, mode=0o600 if path.name == "settings.json" else None) as temporary:
            with temporary.open("wb") as handle:
                for block in body.iter_chunks(1 << 20):
                    digest.update(block)
                    handle.write(block)
            if digest.hexdigest() != sha256:
                raise DamagedArtifactError(f"{self.url}: the file with sha256 {sha256[:12]} is damaged")

    # -- records ------------------------------------------------------------------------------------------------------

    def read(self, key: str) -> tuple[dict[str, Any] | None, str, dt.datetime]:
        """(record, etag, the server's clock); (None, "", clock) when there is none."""
        try:
            answer = self._call("get_object", key)
        except FileNotFoundError:
            return None, "", dt.datetime.now(dt.UTC)
        sent = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
        clock = email.utils.parsedate_to_datetime(sent) if sent else dt.datetime.now(dt.UTC)
        return json.loads(answer["Body"].read()), answer["ETag"], clock

    def swap(self, key: str, record: dict[str, Any], etag: str) -> str:
        """Replace the record with that etag ("": there must be none); its new etag, or `LostRaceError`."""
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        return self._call("put_object", key, Body=json.dumps(record).encode(), **condition)["ETag"]


class StoreLease:
    """The right to write, for `seconds` and renewed from a thread until it is released; who holds it stands in it."""

    def __init__(self, store: ObjectStore, owner: Owner, seconds: float = LEASE_S) -> None:
        self.store, self.owner, self.seconds, self.token = store, owner, seconds, secrets.token_hex(8)
        self._etag, self._end = "", threading.Event()
        self.lost = False

    def take(self) -> StoreLease:
        """Raises `BusyError` that names the holder, `LostRaceError` when another took it at this moment."""
        record, self._etag, clock = self.store.read(LEASE)
        if record is not None and dt.datetime.fromisoformat(record["until"]) > clock:
            raise BusyError(
                f"{self.store.url}: {Owner(**record['owner']).in_words()} writes there; wait until it ended"
            )
        self._write(clock)
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()
        return self

    def _write(self, clock: dt.datetime) -> None:
        until = clock + dt.timedelta(seconds=self.seconds)
        record = {"owner": asdict(self.owner), "token": self.token, "until": until.isoformat()}
        self._etag = self.store.swap(LEASE, record, self._etag)

    def _renew(self) -> None:
        while not self._end.wait(self.seconds / 3):
            try:
                record, etag, clock = self.store.read(LEASE)
                if record is None or record["token"] != self.token:
                    raise LostRaceError("taken over")
                self._etag = etag
                self._write(clock)
            except LostRaceError:
                self.lost = True
                return
            except ConfigError:  # the server is away: the next look, or the end of the lease
                continue

    def release(self) -> None:
        """Give it back, where it is still ours."""
        self._end.set()
        self._thread.join()
        record, etag, clock = self.store.read(LEASE)
        if record is not None and record["token"] == self.token:
            self.store.swap(LEASE, {**record, "until": clock.isoformat()}, etag)
