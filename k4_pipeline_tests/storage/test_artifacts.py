"""ArtifactStore: staged, promoted, rejected, replaced, killed and raced."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from k4_pipeline.errors import BadInputError, DamagedArtifactError, StaleArtifactError
from k4_pipeline.storage import ArtifactRef, ArtifactStore
from k4_pipeline.storage.artifact_ref import fingerprint_of
from k4_pipeline.storage.sealed import read_sealed, write_sealed

REPO = Path(__file__).parents[2]


def _put(store: ArtifactStore, asset: str, text: str, *, partition: str | None = None, **more) -> ArtifactRef:
    with store.stage(asset, partition) as staged:
        (staged.dir / "a.txt").write_text(text)
        return staged.commit(kind="text", **more)


def _good(store: ArtifactStore, asset: str, text: str, **more) -> ArtifactRef:
    ref = _put(store, asset, text, **more)
    return store.promote(asset, ref.partition, ref.fingerprint)


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path)


def test_nothing_is_current_before_its_checks_passed(store):
    with pytest.raises(StaleArtifactError, match="snapshots has never been made"):
        store.current("snapshots")
    ref = _put(store, "snapshots", "one", meta={"rows": 3}, inputs={"daily_bars": "f" * 64})
    assert store.newest("snapshots").fingerprint == ref.fingerprint
    with pytest.raises(StaleArtifactError, match="has not passed its checks"):
        store.current("snapshots")
    store.promote("snapshots", None, ref.fingerprint, {"checks": 4})
    current = store.current("snapshots")
    assert (current.meta, current.inputs, current.kind) == ({"rows": 3}, {"daily_bars": "f" * 64}, "text")
    assert store.verdict(current) == {"checks": 4}
    assert current.path("a.txt").read_text() == "one"
    with pytest.raises(StaleArtifactError, match=r"holds no 'b\.txt'"):
        current.path("b.txt")


def test_a_failed_newest_version_is_refused_with_its_reasons_and_the_last_good_one_stays_readable(store):
    first = _good(store, "snapshots", "one")
    second = _put(store, "snapshots", "two")
    store.reject("snapshots", None, second.fingerprint, ["purge_holds does not hold"])
    with pytest.raises(StaleArtifactError, match="purge_holds") as caught:
        store.current("snapshots")
    assert first.fingerprint[:12] in str(caught.value)
    assert second.fingerprint[:12] in str(caught.value)
    assert store.last_good("snapshots").path("a.txt").read_text() == "one"
    third = _good(store, "snapshots", "three")
    assert store.current("snapshots").version == third.version


def test_a_promoted_version_whose_checks_fail_later_is_no_longer_good(store):
    first, second = _good(store, "a", "one"), _good(store, "a", "two")
    store.reject("a", None, second.fingerprint, ["found out later"])
    with pytest.raises(StaleArtifactError, match="found out later"):
        store.current("a")
    assert store.last_good("a").version == first.version
    store.promote("a", None, second.fingerprint)
    assert store.current("a").version == second.version


def test_a_late_verdict_on_an_older_version_does_not_move_the_pointer_back(store):
    first = _put(store, "a", "one")
    store.promote("a", None, first.fingerprint)
    second = _good(store, "a", "two")
    store.promote("a", None, first.fingerprint)
    assert store.current("a").version == second.version


def test_the_current_and_one_earlier_version_are_kept(store):
    made = [(ref.version, ref.fingerprint) for ref in (_good(store, "a", str(i)) for i in range(4))]
    kept = sorted(p.name for p in (store.root / "a" / "_").glob("v*"))
    assert kept == [made[2][0], made[3][0]]
    assert [e["event"] for e in store.history("a")] == ["committed", "promoted"] * 4
    with pytest.raises(StaleArtifactError, match="no stored version has fingerprint"):
        store.promote("a", None, made[0][1])


def test_a_version_that_someone_reads_is_not_removed_until_he_is_done(store):
    reader = _good(store, "a", "read")
    for i in range(3):
        _good(store, "a", str(i))
    reader.verify()
    assert reader.path("a.txt").read_text() == "read"
    folder = reader.dir
    del reader
    _good(store, "a", "last")
    assert not folder.exists()


def test_a_reader_in_another_process_keeps_its_version(store):
    _good(store, "a", "read")
    code = (
        "import sys; from k4_pipeline.storage import ArtifactStore; ref = ArtifactStore(sys.argv[1]).current('a'); "
        "print('reading', flush=True); sys.stdin.readline(); ref.verify(); print(ref.path('a.txt').read_text())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPO,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "reading\n"
    for i in range(3):
        _good(store, "a", str(i))
    assert process.communicate("\n")[0] == "read\n"
    assert process.returncode == 0


@pytest.mark.parametrize("version", ["../../elsewhere", "/etc", "..", "", 7])
def test_a_state_that_names_no_version_is_refused(store, version):
    path = _good(store, "labels", "a").dir.parent / "state.json"
    write_sealed(path, read_sealed(path) | {"current": version, "staged": version})
    with pytest.raises(DamagedArtifactError, match="is no version"):
        store.last_good("labels")


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/../b", "", ".", "a\\b", "manifest.json", "./a.txt"])
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(store, name):
    ref = _good(store, "a", "one")
    manifest = ref.dir / "manifest.json"
    values = read_sealed(manifest)
    values["files"] = {name: values["files"]["a.txt"]}
    write_sealed(manifest, {**values, "fingerprint": fingerprint_of("text", values["files"])})
    with pytest.raises(DamagedArtifactError, match="no name of a file inside"):
        store.current("a")


def test_a_link_that_leads_out_of_the_folder_is_refused(store, tmp_path):
    ref = _good(store, "a", "one")
    (tmp_path / "outside").write_text("one")
    (ref.dir / "a.txt").unlink()
    (ref.dir / "a.txt").symlink_to(tmp_path / "outside")
    with pytest.raises(DamagedArtifactError, match="leads out of its folder"):
        store.current("a").verify()


def test_a_manifest_of_another_asset_is_refused(store):
    ref, other = _good(store, "a", "one"), _good(store, "b", "two")
    (ref.dir / "manifest.json").write_bytes((other.dir / "manifest.json").read_bytes())
    with pytest.raises(DamagedArtifactError, match="it belongs to b"):
        store.current("a")


def test_after_a_kill_between_the_rename_and_the_state_checks_alone_bring_no_orphan_to_power(store):
    ref = _good(store, "a", "one")
    orphan = ref.dir.parent / "v20990101T000000.000000Z"
    shutil.copytree(ref.dir, orphan)  # the same bytes, as after a rerun
    store.promote("a", None, ref.fingerprint)
    assert store.current("a").version == ref.version
    assert not orphan.exists()


def test_a_damaged_state_is_set_aside_by_the_next_writer(store):
    ref = _good(store, "a", "one")
    state = ref.dir.parent / "state.json"
    state.write_text("[]")
    with pytest.raises(DamagedArtifactError, match=r"state\.json is damaged.*materialize a again"):
        store.current("a")
    _good(store, "a", "two")
    assert store.current("a").path("a.txt").read_text() == "two"
    assert (ref.dir.parent / "damaged-state.json").read_text() == "[]"


def test_the_fingerprint_tells_content_and_kind_but_not_time(store):
    one, two = _put(store, "a", "same"), _put(store, "a", "same")
    assert one.fingerprint == two.fingerprint
    assert one.version < two.version
    with store.stage("a") as staged:
        (staged.dir / "a.txt").write_text("same")
        assert staged.commit(kind="other").fingerprint != one.fingerprint


def test_leaving_without_commit_leaves_nothing(store):
    def fail_midway() -> None:
        with store.stage("a") as staged:
            (staged.dir / "a.txt").write_text("half")
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    with store.stage("a"):
        pass
    assert [p.name for p in (store.root / "a" / "_").iterdir()] == [".lock"]


def test_an_empty_or_repeated_commit_is_refused(store):
    with store.stage("a") as staged, pytest.raises(BadInputError, match="nothing was written"):
        staged.commit(kind="text")
    with store.stage("a") as staged:
        (staged.dir / "a.txt").write_text("x")
        staged.commit(kind="text")
        with pytest.raises(BadInputError, match="committed already"):
            staged.commit(kind="text")


def test_a_writer_that_lost_its_run_is_stopped_before_its_version_becomes_visible(store):
    def not_mine() -> None:
        raise StaleArtifactError("run 17 was taken over")

    with store.stage("a") as staged:
        (staged.dir / "a.txt").write_text("x")
        with pytest.raises(StaleArtifactError, match="taken over"):
            staged.commit(kind="text", guard=not_mine)
    assert store.history("a") == []
    assert list((store.root / "a" / "_").glob("v*")) == []


def test_verify_names_a_changed_a_missing_and_a_foreign_file(store):
    ref = _good(store, "a", "one")
    ref.verify()
    path = ref.path("a.txt")
    path.write_text("onE")
    with pytest.raises(StaleArtifactError, match=r"a\.txt is damaged"):
        ref.verify()
    path.unlink()
    with pytest.raises(StaleArtifactError, match=r"a\.txt is missing"):
        ref.verify()
    path.write_text("one")
    (ref.dir / "b.txt").write_text("x")
    with pytest.raises(StaleArtifactError, match=r"b\.txt, which its manifest lacks"):
        ref.verify()


def test_a_manifest_or_state_that_was_tampered_with_is_refused(store):
    ref = _good(store, "a", "one")
    manifest = ref.dir / "manifest.json"
    values = read_sealed(manifest)
    values["files"]["a.txt"]["sha256"] = "0" * 64
    write_sealed(manifest, values)
    with pytest.raises(DamagedArtifactError, match="does not match its own fingerprint"):
        store.current("a")
    for text in ("{", "[]", "null", "[" * 100_000, '{"files": NaN}'):
        manifest.write_text(text)
        with pytest.raises(DamagedArtifactError, match=r"manifest\.json is damaged"):
            store.current("a")
    (store.root / "a" / "_" / "state.json").write_text("{")
    with pytest.raises(StaleArtifactError, match=r"state\.json is damaged"):
        store.current("a")


def test_partitions_are_apart_and_listed_in_order(store):
    for key in ("2015-04-01", "2015-01-01"):
        _good(store, "model", key, partition=key)
    assert store.partitions("model") == ["2015-01-01", "2015-04-01"]
    assert store.current("model", "2015-01-01").key == "model@2015-01-01"
    assert store.partitions("daily_bars") == []
    with pytest.raises(StaleArtifactError, match="model has never"):
        store.current("model")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "_"])
def test_a_name_that_could_leave_the_folder_is_refused(store, name):
    with pytest.raises(BadInputError, match="cannot name"):
        store.current(name)
    with pytest.raises(BadInputError, match="cannot name"), store.stage("a", name):
        pass


class TestChain:
    def _graph(self, store) -> ArtifactRef:
        bars = _good(store, "daily_bars", "bars")
        snapshots = _good(store, "snapshots", "snapshots", inputs={"daily_bars": bars.fingerprint})
        model = _good(store, "champion_model", "model", inputs={"snapshots": snapshots.fingerprint})
        return _good(
            store, "signals", "s", inputs={"snapshots": snapshots.fingerprint, "champion_model": model.fingerprint}
        )

    def test_an_unbroken_chain_passes(self, store):
        store.verify_chain([self._graph(store)])

    def test_a_change_two_steps_upstream_names_asset_stored_and_expected(self, store):
        signals = self._graph(store)
        old = store.current("daily_bars").fingerprint
        new = _good(store, "daily_bars", "other bars").fingerprint
        with pytest.raises(StaleArtifactError, match="snapshots was made from daily_bars") as caught:
            store.verify_chain([signals])
        assert old[:12] in str(caught.value)
        assert new[:12] in str(caught.value)

    def test_a_frozen_asset_keeps_the_inputs_of_its_day_but_must_itself_be_current(self, store):
        signals = self._graph(store)
        bars = _good(store, "daily_bars", "new bars")
        snapshots = _good(store, "snapshots", "new", inputs={"daily_bars": bars.fingerprint})
        model = store.current("champion_model")
        fresh = _good(
            store, "signals", "t", inputs={"snapshots": snapshots.fingerprint, "champion_model": model.fingerprint}
        )
        store.verify_chain([fresh])
        with pytest.raises(StaleArtifactError, match="champion_model was made from snapshots"):
            store.verify_chain([fresh], frozen=())
        _good(store, "champion_model", "newer model", inputs={"snapshots": snapshots.fingerprint})
        with pytest.raises(StaleArtifactError, match="signals was made from champion_model"):
            store.verify_chain([fresh])
        assert signals.version != fresh.version

    def test_an_input_that_failed_or_is_gone_breaks_the_chain(self, store):
        signals = self._graph(store)
        failed = _put(store, "snapshots", "bad")
        store.reject("snapshots", None, failed.fingerprint, ["bad rows"])
        with pytest.raises(StaleArtifactError, match="bad rows"):
            store.verify_chain([signals])
        lonely = _good(store, "x", "x", inputs={"model@2015-01-01": "0" * 64})
        with pytest.raises(StaleArtifactError, match="model@2015-01-01 has never"):
            store.verify_chain([lonely])


_KILLED = """
import sys, time
from k4_pipeline.storage import ArtifactStore
with ArtifactStore(sys.argv[1]).stage("a") as staged:
    (staged.dir / "a.txt").write_text("half")
    if sys.argv[2] == "guard":
        def stall():
            print("ready", flush=True)
            time.sleep(60)
        staged.commit(kind="text", guard=stall)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("where", ["stage", "guard"])
def test_a_killed_writer_leaves_the_old_version_and_its_remains_are_removed(store, where):
    _good(store, "a", "one")
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(store.root), where], stdout=subprocess.PIPE, cwd=REPO
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    current = store.current("a")
    current.verify()
    assert current.path("a.txt").read_text() == "one"
    home = store.root / "a" / "_"
    assert len(list(home.glob(".tmp-*"))) == 2
    _good(store, "a", "two")
    assert list(home.glob(".tmp-*")) == []
    assert store.current("a").path("a.txt").read_text() == "two"


def test_a_version_no_pointer_names_is_removed_by_the_next_writer(store):
    ref = _good(store, "a", "one")
    orphan = ref.dir.parent / "v20990101T000000.000000Z"  # killed between the rename and the new state
    orphan.mkdir()
    _good(store, "a", "two")
    assert not orphan.exists()


_WRITER = """
import sys
from k4_pipeline.storage import ArtifactStore
store = ArtifactStore(sys.argv[1])
for i in range(15):
    with store.stage("a") as staged:
        (staged.dir / "a.txt").write_text(f"{sys.argv[2]} {i}")
        ref = staged.commit(kind="text")
    try:
        store.promote("a", None, ref.fingerprint)
    except Exception as problem:
        assert "no stored version" in str(problem), problem
"""


def test_concurrent_writers_leave_a_consistent_state(store):
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, str(store.root), str(i)], cwd=REPO) for i in range(2)]
    mine = [threading.Thread(target=lambda: [_put(store, "a", f"thread {i}") for i in range(15)]) for _ in range(2)]
    for thread in mine:
        thread.start()
    for thread in mine:
        thread.join()
    assert [w.wait() for w in writers] == [0, 0]
    newest = store.newest("a")
    newest.verify()
    events = [e for e in store.history("a") if e["event"] == "committed"]
    assert len(events) == 60
    assert [e["version"] for e in events] == sorted(e["version"] for e in events)
    assert newest.version == events[-1]["version"]
    home = store.root / "a" / "_"
    assert len(list(home.glob("v*"))) <= 3
    assert list(home.glob(".tmp-*")) == []
    assert _good(store, "a", "last").fingerprint == store.current("a").fingerprint
