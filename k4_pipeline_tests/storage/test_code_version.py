"""The fingerprint of the code that makes an asset changes with that code, and with nothing else."""

from __future__ import annotations

import shutil

import pytest

from k4_pipeline.defs.graph import ASSET_ORDER
from k4_pipeline.errors import StaleArtifactError
from k4_pipeline.storage import ArtifactStore, artifacts, code_version
from k4_pipeline.storage.sealed import read_sealed, write_sealed


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The package's source in a folder that may be edited; `forget` drops what was read of it."""
    folder = tmp_path / "k4_pipeline"
    shutil.copytree(code_version.ROOT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "ROOT", folder)

    def forget():
        for cached in (code_version.modules_of, code_version._source, code_version._file_of, code_version.installed):
            cached.cache_clear()

    forget()
    yield folder, forget
    forget()


def _changed_by(copied, edits: dict[str, tuple[str, str]]) -> set[str]:
    folder, forget = copied
    before = {asset: code_version.code_fingerprint(asset) for asset in ASSET_ORDER}
    for name, (old, new) in edits.items():
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))
    forget()
    return {asset for asset in ASSET_ORDER if code_version.code_fingerprint(asset) != before[asset]}


def test_every_asset_has_a_fingerprint_and_other_names_have_none():
    assert all(len(code_version.code_fingerprint(asset)) == 64 for asset in ASSET_ORDER)
    assert code_version.code_fingerprint("champion_archive") == ""
    assert code_version.code_record("champion_archive") == {}
    assert code_version.code_record("daily_bars")["version"] == code_version.k4_pipeline.__version__


def test_an_edit_of_the_report_makes_nothing_but_the_report_stale(copied):
    assert _changed_by(copied, {"report/text.py": ("**What to do next**", "**Next**")}) == {"validation_report"}


def test_an_edit_of_a_check_a_command_or_the_store_makes_nothing_stale(copied):
    edits = {
        "defs/checks/market.py": ("from __future__", "import os\nfrom __future__"),
        "cli/run.py": ("RUN_TEST_MONTHS = 12", "RUN_TEST_MONTHS = 9"),
        "storage/artifacts.py": ("HISTORY_EVENTS = 500", "HISTORY_EVENTS = 400"),
    }
    assert _changed_by(copied, edits) == set()


def test_an_edit_of_the_labels_reaches_the_assets_that_use_them(copied):
    changed = _changed_by(copied, {"patterns/labels.py": ("best = 0", "best = 1")})
    assert "labeled_snapshots" in changed
    assert not changed & {"market_features", "sequences", "trained_model", "predictions"}


def test_an_edit_of_the_training_loop_makes_the_model_stale_and_no_table_before_it(copied):
    changed = _changed_by(copied, {"training/loop.py": ("self.train_seconds = 0.0", "self.train_seconds = 1.0")})
    assert "trained_model" in changed
    assert not changed & {
        "daily_bars",
        "snapshots",
        "labeled_snapshots",
        "market_features",
        "sequences",
        "dataset_split",
    }


def test_comments_docstrings_and_layout_do_not_count(copied):
    edits = {
        "patterns/labels.py": ("    best = 0\n", "    # a comment\n\n    best  =  0\n"),
        "features/compute.py": ('"""', '"""Other words. '),
    }
    assert _changed_by(copied, edits) == set()


def _store_with_bars(tmp_path):
    store = ArtifactStore(tmp_path / "artifacts")
    with store.stage("daily_bars") as staged:
        (staged.dir / "value.txt").write_text("a")
        ref = staged.commit(kind="daily_bars")
    store.promote("daily_bars", None, ref.fingerprint)
    return store, ref


def test_a_version_made_by_other_code_is_refused_naming_stored_and_installed(tmp_path, monkeypatch):
    store, ref = _store_with_bars(tmp_path)
    store.verify_chain([ref])
    made_by = ref.code["fingerprint"]
    monkeypatch.setattr(artifacts, "code_fingerprint", lambda asset: "f" * 64)
    monkeypatch.setattr(artifacts, "code_record", lambda asset: {"fingerprint": "f" * 64, "version": "9.9"})
    with pytest.raises(StaleArtifactError, match=rf"{made_by[:12]}.*installed is code ffffffffffff.*[Mm]aterialize"):
        store.verify_chain([store.current("daily_bars")])


def test_the_same_bytes_made_again_by_new_code_keep_what_was_made_from_them(tmp_path, monkeypatch):
    store, bars = _store_with_bars(tmp_path)
    with store.stage("own_table") as staged:
        (staged.dir / "value.txt").write_text("b")
        table = staged.commit(kind="own_table", inputs={"daily_bars": bars.fingerprint})
    store.promote("own_table", None, table.fingerprint)
    for module in (artifacts,):
        monkeypatch.setattr(module, "code_fingerprint", lambda asset: "e" * 64 if asset == "daily_bars" else "")
        monkeypatch.setattr(
            module, "code_record", lambda asset: {"fingerprint": "e" * 64} if asset == "daily_bars" else {}
        )
    with pytest.raises(StaleArtifactError, match="daily_bars was made by"):
        store.verify_chain([table])
    with store.stage("daily_bars") as staged:
        (staged.dir / "value.txt").write_text("a")
        again = staged.commit(kind="daily_bars")
    store.promote("daily_bars", None, again.fingerprint)
    assert again.fingerprint == bars.fingerprint
    store.verify_chain([table])


def test_a_version_without_recorded_code_is_refused(tmp_path):
    store, ref = _store_with_bars(tmp_path)
    manifest = ref.dir / "manifest.json"
    write_sealed(manifest, {**read_sealed(manifest), "code": {}})
    with pytest.raises(StaleArtifactError, match="code that was not recorded"):
        store.verify_chain([store.current("daily_bars")])
