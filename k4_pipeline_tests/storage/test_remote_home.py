"""A home in an object store, on a local server of the S3 API: two machines, one writer, the old or the new home."""

from __future__ import annotations

import contextlib
import time

import pytest

from k4_pipeline.errors import BusyError, ConfigError, DamagedArtifactError
from k4_pipeline.settings import _working_copy, home_dir
from k4_pipeline.storage import ArtifactStore
from k4_pipeline.storage.object_store import LEASE, LostRaceError, ObjectStore, StoreLease
from k4_pipeline.storage.owner import Owner
from k4_pipeline.storage.remote_home import RemoteHome, working_copy
from k4_pipeline.storage.writer_lock import writing

URL = "s3://k4-test/homes/main"


@pytest.fixture(scope="module")
def server():
    """A server of the S3 API with a bucket."""
    moto = pytest.importorskip("moto.server", reason="moto is not installed")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield boto3.client("s3")
    server.stop()


@pytest.fixture
def machine(server, tmp_path, monkeypatch):
    """A function that gives the home as a machine of that name opens it; the bucket is empty at first."""
    with contextlib.suppress(server.exceptions.ClientError):
        for item in server.list_objects_v2(Bucket="k4-test").get("Contents", []):
            server.delete_object(Bucket="k4-test", Key=item["Key"])
    with contextlib.suppress(server.exceptions.ClientError):
        server.create_bucket(Bucket="k4-test")

    def on(name: str):
        monkeypatch.setenv("K4_CACHE", str(tmp_path / name))
        _working_copy.cache_clear()  # another process
        return home_dir({"K4_HOME": URL})

    return on


def make(home, text):
    """A new promoted version of an asset, as a run makes it."""
    store = ArtifactStore(home / "artifacts")
    with store.stage("daily_bars") as staged:
        (staged.dir / "bars.txt").write_text(text)
        ref = staged.commit(kind="daily_bars")
    store.promote("daily_bars", None, ref.fingerprint)


def read(home):
    """The verified content of the current version."""
    return ArtifactStore(home / "artifacts").current("daily_bars").path("bars.txt").read_text()


def test_what_one_machine_wrote_another_reads_and_goes_on_with(machine, server):
    a = machine("a")
    (a / "alert_urls").write_text("secret")
    with writing(a):
        make(a, "one")
    b = machine("b")
    assert read(b) == "one"
    assert not (b / "alert_urls").exists()  # secrets stay
    with writing(b):
        make(b, "two")
    assert read(machine("a")) == "two"
    with writing(a):  # its head is that of b now
        make(a, "three")
    assert read(machine("b")) == "three"
    before = server.list_objects_v2(Bucket="k4-test")["KeyCount"]
    with writing(b):
        pass
    assert server.list_objects_v2(Bucket="k4-test")["KeyCount"] == before  # nothing new, nothing sent


def test_a_second_writer_is_refused_by_name_until_the_lease_is_given_back_or_has_run_out(machine):
    a, b = machine("a"), machine("b")
    with (
        writing(a, Owner("first-host", 1, "k4 run", "now")),
        pytest.raises(BusyError, match=r"`k4 run` \(process 1 on first-host"),
        writing(b),
    ):
        pass
    with writing(b):
        make(b, "one")
    store = ObjectStore(URL)
    dead = StoreLease(store, Owner("dead-host", 2, "k4 run", "now"), seconds=2.0)
    dead.take()
    dead._end.set()  # its process dies: nobody renews
    with pytest.raises(BusyError, match="dead-host"):
        StoreLease(store, Owner.this_process()).take()
    time.sleep(3.1)  # the server's clock has whole seconds
    with writing(b, wait=True):
        assert StoreLease(store, dead.owner).store.read(LEASE)[0]["token"] != dead.token


def test_a_writer_that_lost_its_lease_publishes_nothing_and_its_work_is_set_aside(machine, tmp_path):
    a = machine("a")
    with writing(a):
        make(a, "one")
    b = machine("b")
    slow = RemoteHome.of(a)
    make(a, "never published")
    with writing(b):
        make(b, "two")
    with pytest.raises(LostRaceError, match="changed by another machine"):
        slow.publish()
    assert read(machine("a")) == "two"
    (aside,) = (tmp_path / "a").glob("*.unpublished-*")
    assert read(aside) == "never published"


@pytest.mark.parametrize("fails_at", range(6))
def test_a_writer_killed_at_any_write_leaves_the_old_home_whole(machine, monkeypatch, fails_at):
    a = machine("a")
    with writing(a):
        make(a, "one")
    make(a, "two")
    remote, calls = RemoteHome.of(a), []
    real = remote.store._call

    def dying(name, key, **more):
        if name == "put_object":
            calls.append(key)
            if len(calls) > fails_at:
                raise KeyboardInterrupt
        return real(name, key, **more)

    monkeypatch.setattr(remote.store, "_call", dying)
    try:
        remote.publish()
        expected = "two"
        assert len(calls) <= fails_at
    except KeyboardInterrupt:
        expected = "one"
    assert read(machine("b")) == expected
    assert read(machine("a")) == "two"  # and here it is not lost
    with writing(a):
        pass
    assert read(machine("b")) == "two"


def test_damage_and_wrong_addresses_are_said(machine, server):
    a = machine("a")
    with writing(a):
        make(a, "one")
    for item in server.list_objects_v2(Bucket="k4-test", Prefix="homes/main/blobs/")["Contents"]:
        server.put_object(Bucket="k4-test", Key=item["Key"], Body=b"other bytes")
    with pytest.raises(DamagedArtifactError, match="is damaged"):
        machine("b")
    with pytest.raises(ConfigError, match=r"use a folder or s3://bucket/prefix"):
        home_dir({"K4_HOME": "gs://bucket/home"})
    with pytest.raises(ConfigError, match="NoSuchBucket"):
        home_dir({"K4_HOME": "s3://no-such-bucket/home"})
    assert working_copy(URL) != working_copy("s3://other/homes/main")
