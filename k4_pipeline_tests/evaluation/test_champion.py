"""The champion: when it moves, what is kept, and the way back."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from k4_pipeline.cli import app
from k4_pipeline.config import IntegrityConfig, PipelineConfig
from k4_pipeline.errors import BadInputError, DamagedArtifactError, StaleArtifactError
from k4_pipeline.evaluation import champion
from k4_pipeline.evaluation.champion import Record
from k4_pipeline.evaluation.promotion import Comparison, compare, decide, needs_comparison
from k4_pipeline.options import apply_options
from k4_pipeline.storage import ArtifactStore

NOW = Record("2020-01-01", "model-a", "market")


def _candidate(**changes):
    return dataclasses.replace(Record("2020-04-01", "model-b", "market"), **changes)


BETTER = Comparison(200, 20, 1.4, 1.5, -0.1, -0.15, -0.05)
WORSE = Comparison(200, 20, 1.6, 1.5, 0.1, 0.05, 0.15)
UNDECIDED = Comparison(200, 20, 1.5, 1.5, 0.0, -0.1, 0.1)
UNUSABLE = Comparison(3, 0, unusable="3 labelled test rows, 100 are needed")
UNREADABLE = Comparison(unusable="its settings are not known", unreadable=True)
PROVISIONAL = dataclasses.replace(NOW, failed=("ev",))


@pytest.mark.parametrize(
    "current, candidate, comparison, moves",
    [
        (None, _candidate(), None, True),
        (None, _candidate(failed=("ev",)), None, True),  # provisionally
        (NOW, None, None, False),
        (NOW, _candidate(), BETTER, True),
        (NOW, _candidate(), UNDECIDED, False),
        (NOW, _candidate(), UNUSABLE, False),
        (NOW, _candidate(), None, False),
        (NOW, _candidate(), UNREADABLE, True),
        (NOW, _candidate(failed=("ev",)), UNREADABLE, False),
        (NOW, _candidate(), WORSE, False),
        (NOW, _candidate(as_of="2021-04-01"), UNDECIDED, True),  # the champion is too old
        (NOW, _candidate(as_of="2021-04-01"), UNUSABLE, True),
        (NOW, _candidate(as_of="2021-04-01"), WORSE, False),
        (NOW, _candidate(failed=("ev",)), BETTER, False),
        (NOW, _candidate(failed=(champion.ENOUGH_K4,)), BETTER, False),
        (NOW, _candidate(failed=("ev",), as_of="2025-01-01"), BETTER, False),
        (PROVISIONAL, _candidate(failed=("ev",)), UNDECIDED, True),
        (PROVISIONAL, _candidate(), UNUSABLE, True),
        (PROVISIONAL, _candidate(), WORSE, False),
        (NOW, _candidate(as_of="2019-10-01"), BETTER, False),
        (NOW, _candidate(as_of="2020-01-01"), BETTER, True),  # the same as_of, trained again
        (NOW, _candidate(model_fingerprint="model-a"), None, False),
        (PROVISIONAL, _candidate(model_fingerprint="model-a"), None, True),  # validated since
        (dataclasses.replace(NOW, held_back=("model-b",)), _candidate(), BETTER, False),
    ],
)
def test_the_champion_moves_by_the_rule(current, candidate, comparison, moves):
    decision = decide(current, candidate, comparison)
    assert decision.moves is moves
    assert decision.why


def test_only_what_a_decision_rests_on_is_compared():
    assert needs_comparison(NOW, _candidate())
    assert needs_comparison(PROVISIONAL, _candidate(failed=("ev",)))
    for current, candidate in (
        (None, _candidate()),
        (NOW, None),
        (NOW, _candidate(failed=("ev",))),
        (NOW, _candidate(as_of="2019-01-01")),
        (NOW, _candidate(model_fingerprint="model-a")),
        (dataclasses.replace(NOW, held_back=("model-b",)), _candidate()),
    ):
        assert not needs_comparison(current, candidate)


def _rows(candidate: float, n: int = 400) -> pd.DataFrame:
    """Rows of 20 tickers and 10 months on which the candidate gives the true class `candidate`, the champion 0.5."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 6, n)
    rows = pd.DataFrame({"outcome_class": y, "ticker": [f"T{i % 20}" for i in range(n)]})
    rows["snapshot_date"] = pd.Timestamp("2020-01-15") + pd.to_timedelta(30 * (np.arange(n) % 10), unit="D")
    for prefix, p in (("", candidate), ("champion_", 0.5)):
        for k in range(6):
            rows[f"{prefix}p_{k}"] = np.where(y == k, p, (1 - p) / 5) * draw.uniform(0.9, 1.1, n)
    return rows


def test_the_comparison_is_paired_and_says_better_worse_or_neither():
    config = IntegrityConfig(bootstrap_draws=200)
    better, worse, equal = (compare(_rows(p), config) for p in (0.6, 0.4, 0.5))
    assert better.better
    assert worse.worse
    assert not equal.better
    assert not equal.worse
    assert better.difference == pytest.approx(-np.log(0.6 / 0.5), abs=0.01)
    assert "400 rows" in better.in_words()
    assert compare(_rows(0.9, 50), config).unusable


def test_a_market_is_its_universe_and_rules_and_not_a_path():
    config = apply_options(PipelineConfig(), {"source": "table", "path": "/a/bars.csv"})
    moved = apply_options(PipelineConfig(), {"source": "folder", "path": "/b"})
    tickers = [f"T{i}" for i in range(1000)]
    here = champion.market_of(config, tickers)
    assert champion.same_market(here, champion.market_of(moved, [*tickers[:-50], "NEW1", "NEW2"]))
    assert not champion.same_market(here, champion.market_of(moved, [f"U{i}" for i in range(1000)]))
    assert not champion.same_market(here, champion.market_of(apply_options(moved, {"labels": "rare_30"}), tickers))
    assert len(here.universe) == champion.SKETCH
    with pytest.raises(StaleArtifactError, match="another market"):
        champion.require_market(dataclasses.replace(NOW, universe=here.universe), champion.market_of(config, ["X"]))


def test_without_champion_and_candidate_there_is_an_error_with_a_remedy():
    with pytest.raises(BadInputError, match="materialize"):
        decide(None, None)


def test_a_move_in_spite_of_a_failed_check_names_it():
    assert "ev_correlation" in decide(None, _candidate(failed=("ev_correlation",))).why


def test_two_markets_or_label_rules_are_not_the_same_and_model_settings_do_not_matter():
    base = PipelineConfig()
    identity = champion.market_identity(base)
    for options in ({"world": "null"}, {"labels": "rare_30"}, {"patterns": "strict"}, {"source": "table", "path": "x"}):
        assert champion.market_identity(apply_options(base, options)) != identity
    assert champion.market_identity(apply_options(base, {"preset": "tiny", "epochs": 3, "seed": 4})) == identity


def test_an_upgrade_that_adds_a_setting_makes_no_other_market(monkeypatch):
    base = apply_options(PipelineConfig(), {"source": "table", "path": "x"})
    first = champion.market_identity(base)
    assert first == "9947e939dc442d0d", "stored in the homes of version 0.1.0"
    without = champion.FIRST_FIELDS["labels"].replace("stop_loss ", "")  # as if stop_loss had come later
    monkeypatch.setitem(champion.FIRST_FIELDS, "labels", without)
    added = champion.market_identity(base)
    labels = dataclasses.replace(base.labels, stop_loss=0.2)
    assert champion.market_identity(dataclasses.replace(base, labels=labels)) != added


@pytest.fixture
def store(tmp_path):
    """A store in which two models served one after the other; written as before decisions were kept."""
    store = ArtifactStore(tmp_path / "artifacts")
    moves: list[dict] = []
    for as_of, text in (("2020-01-01", "old"), ("2020-04-01", "new")):
        with store.stage("trained_model", as_of) as staged:
            (staged.dir / "model.safetensors").write_text(text)
            model = staged.commit(kind="trained_model")
        store.promote("trained_model", as_of, model.fingerprint, {})
        record = Record(as_of, model.fingerprint, "market", ("ev",))
        moves.append(champion.move_entry(record, "moved"))
        champion.archive(store, model, record, list(moves))
        with store.stage(champion.CHAMPION) as staged:
            champion.copy_version(model, staged.dir)
            record.write(staged.dir)
            ref = staged.commit(kind=champion.CHAMPION, meta={"history": list(moves)})
        store.promote(champion.CHAMPION, None, ref.fingerprint, {})
    return store


def test_roll_back_serves_the_earlier_model_and_holds_the_later_one_back(store):
    rolled_from = Record.read(champion.serving(store))
    record = champion.roll_back(store)
    ref = store.current(champion.CHAMPION)
    assert record.as_of == "2020-01-01"
    assert (ref.dir / "model.safetensors").read_text() == "old"
    assert Record.read(ref) == record
    assert record.held_back == (rolled_from.model_fingerprint,)
    assert not decide(record, rolled_from).moves, "the model rolled back from is not chosen again"
    assert [m["as_of"] for m in champion.history(store)] == ["2020-01-01", "2020-04-01", "2020-01-01"]


def _k4(store, *arguments, ok=True):
    done = CliRunner().invoke(app, [*arguments, "--json", "--home", str(store.root.parent)])
    assert (done.exit_code == 0) == ok, done.output
    return json.loads(done.stdout)


def test_the_way_back_from_the_command_line(store):
    before = _k4(store, "champion", "show")
    assert (before["as_of"], before["previous"], before["provisional"]) == ("2020-04-01", "2020-01-01", True)
    assert before["last_decision"] is None
    assert before["past_the_age_limit"]
    done = _k4(store, "champion", "rollback", "--to", "previous")
    assert done["as_of"] == "2020-01-01"
    after = _k4(store, "champion", "show")
    assert (after["as_of"], after["previous"]) == ("2020-01-01", "2020-04-01")
    assert after["rolled_back_from"] == [before["model"]]
    assert after["last_decision"] == "rolled back from as_of 2020-04-01"
    assert [m["why"] for m in _k4(store, "champion", "list")] == ["rolled back from as_of 2020-04-01", "moved", "moved"]
    shutil.rmtree(store.root / champion.CHAMPION)
    assert _k4(store, "champion", "rebuild") == {**done, "set_aside": []}
    assert _k4(store, "champion", "show")["rolled_back_from"] == [before["model"]]
    again = _k4(store, "champion", "rollback", "--to", "1999-01-01", ok=False)
    assert "as_of served: 2020-01-01, 2020-04-01" in again["error"]["message"]


def test_an_alias_names_a_model_that_serves_or_served(store, tmp_path):
    assert champion.as_of_named(store, "champion") == "2020-04-01"
    assert champion.as_of_named(store, "previous") == "2020-01-01"
    assert champion.as_of_named(store, "2019-01-01") == "2019-01-01"
    with pytest.raises(BadInputError, match="nothing serves yet"):
        champion.as_of_named(ArtifactStore(tmp_path / "empty"), "champion")


def test_roll_back_to_a_date_that_never_served_names_those_that_did(store):
    with pytest.raises(BadInputError, match="2020-01-01, 2020-04-01"):
        champion.roll_back(store, "1999-01-01")


def test_roll_back_without_a_champion_says_so(tmp_path):
    with pytest.raises(BadInputError, match="no champion yet"):
        champion.roll_back(ArtifactStore(tmp_path))
    assert champion.history(ArtifactStore(tmp_path)) == []


def test_the_archive_survives_many_later_champions(store):
    first = champion.history(store)[0]["archive"]
    for text in "abc":
        with store.stage(champion.CHAMPION) as staged:
            (staged.dir / champion.RECORD).write_text(json.dumps({"x": text}))
            ref = staged.commit(kind=champion.CHAMPION)
        store.promote(champion.CHAMPION, None, ref.fingerprint, {})
    assert (store.current(champion.ARCHIVE, first).dir / "model.safetensors").read_text() == "old"


def _archived_champion(store: ArtifactStore, record: Record, text: str, moves: list, market: int = 1) -> list:
    """`record` becomes the champion, as the asset does it; returns the history."""
    with store.stage("trained_model", record.as_of) as staged:
        (staged.dir / "model.json").write_text(text)
        model = staged.commit(kind="trained_model")
    moves = [*moves, champion.move_entry(record, "test", market=market)]
    champion.archive(store, model, record, moves)
    with store.stage(champion.CHAMPION) as staged:
        champion.copy_version(model, staged.dir)
        record.write(staged.dir)
        ref = staged.commit(kind=champion.CHAMPION, meta={"history": moves})
    store.promote(champion.CHAMPION, None, ref.fingerprint)
    return moves


def test_each_market_read_in_a_home_keeps_its_champion(tmp_path):
    store = ArtifactStore(tmp_path / "artifacts")
    here, there = (champion.universe_of(t) for t in (["A", "B"], ["X", "Y"]))
    first = dataclasses.replace(NOW, model_fingerprint="1" * 64, universe=here)
    later = dataclasses.replace(first, as_of="2020-04-01", model_fingerprint="2" * 64)
    other = dataclasses.replace(first, as_of="2021-01-01", model_fingerprint="3" * 64, universe=there)
    moves: list = []
    for record, market in ((first, 1), (later, 1), (other, 2)):
        current = champion.champion_of(store, champion.serving(store), record)
        assert champion.market_number(moves, Record.read(current).model_fingerprint if current else "") == market
        moves = _archived_champion(store, record, record.model_fingerprint, moves, market)
    serving = champion.serving(store)
    assert Record.read(champion.champion_of(store, serving, other)) == other
    assert Record.read(champion.champion_of(store, serving, first)) == later
    assert champion.champion_of(store, serving, dataclasses.replace(first, market="another rule")) is None
    shown = _k4(store, "champion", "show")
    assert (shown["as_of"], shown["previous"]) == ("2021-01-01", None)
    assert shown["champions_of_other_markets"] == [f"market 1: as of 2020-04-01 (model {'2' * 12})"]
    assert (
        "only one that ever served"
        in _k4(store, "champion", "rollback", "--to", "previous", ok=False)["error"]["message"]
    )
    moves = _archived_champion(store, later, later.model_fingerprint, moves, 1)
    assert Record.read(champion.champion_of(store, champion.serving(store), other)) == other
    assert _k4(store, "champion", "rollback")["as_of"] == first.as_of
    assert [m["market"] for m in champion.history(store)] == [1, 1, 2, 1, 1]


@pytest.mark.parametrize("file", ["manifest.json", "champion.json", "model.json"])
def test_a_damaged_champion_is_refused_with_the_remedy_and_rebuilt_from_its_archive(tmp_path, file):
    store = ArtifactStore(tmp_path)
    moves = _archived_champion(store, NOW, "old", [])
    held = dataclasses.replace(_candidate(), held_back=("model-x",))
    moves = _archived_champion(store, held, "new", moves)
    path = store.last_good(champion.CHAMPION).dir / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedArtifactError, match=rf"{file}.*k4 champion rebuild"):
        champion.serving(store)
    assert champion.rebuild(store) == (held, [])
    ref = champion.serving(store)
    assert ref.path("model.json").read_text() == "new"
    assert Record.read(ref) == held
    assert [m["why"] for m in champion.history(store)] == ["test", "test", "rebuilt from its archive"]


@pytest.mark.parametrize("file", ["manifest.json", "model.json", "../state.json"])
def test_a_damaged_archived_champion_of_another_market_is_refused_and_never_forgotten(tmp_path, file):
    store = ArtifactStore(tmp_path / "artifacts")
    here, there = (champion.universe_of(t) for t in (["A", "B"], ["X", "Y"]))
    first = dataclasses.replace(NOW, model_fingerprint="1" * 64, universe=here)
    other = dataclasses.replace(first, as_of="2021-01-01", model_fingerprint="3" * 64, universe=there)
    moves = _archived_champion(store, first, "first", [], 1)
    _archived_champion(store, other, "other", moves, 2)
    path = store.last_good(champion.ARCHIVE, champion.archive_key(first)).dir / file
    path.write_bytes(path.read_bytes()[:-3] + b"x" + path.read_bytes()[-2:])
    serving = champion.serving(store)
    assert Record.read(champion.champion_of(store, serving, other)) == other
    with pytest.raises(DamagedArtifactError, match=rf"{path.name}.*k4 champion rebuild.*its market begins anew"):
        champion.champion_of(store, serving, first)
    done = _k4(store, "champion", "rebuild")
    assert done["as_of"] == other.as_of, "whoever serves and is whole goes on"
    assert [Path(p).parent for p in done["set_aside"]] == [tmp_path / "damaged"]
    assert champion.champion_of(store, champion.serving(store), first) is None, "given up by command"
    assert [m["why"] for m in champion.history(store)] == ["test", "test"]


def test_a_damaged_archive_of_the_champion_that_serves_is_made_anew(tmp_path):
    store = ArtifactStore(tmp_path / "artifacts")
    _archived_champion(store, NOW, "old", [])
    path = store.last_good(champion.ARCHIVE, champion.archive_key(NOW)).path("model.json")
    path.write_text("bad")
    assert len(champion.rebuild(store)[1]) == 1
    shutil.rmtree(store.root / champion.CHAMPION)
    assert champion.serving(store).path("model.json").read_text() == "old"


def test_the_way_back_never_leads_to_another_market(tmp_path):
    store = ArtifactStore(tmp_path / "artifacts")
    here, there = (champion.universe_of(t) for t in (["A", "B"], ["X", "Y"]))
    other = dataclasses.replace(NOW, model_fingerprint="3" * 64, universe=there)
    mine = dataclasses.replace(NOW, as_of="2020-07-01", model_fingerprint="1" * 64, universe=here)
    moves = _archived_champion(store, other, "other", [])
    _archived_champion(store, mine, "mine", moves)  # of one number, as versions before numbers wrote it
    with pytest.raises(BadInputError, match="no earlier champion"):
        champion.roll_back(store)


@pytest.mark.parametrize("lost", ["folder", "state"])
def test_a_lost_champion_is_not_forgotten(tmp_path, lost):
    store = ArtifactStore(tmp_path)
    _archived_champion(store, NOW, "old", [])
    home = tmp_path / champion.CHAMPION / "_"
    shutil.rmtree(home.parent) if lost == "folder" else (home / "state.json").unlink()
    assert Record.read(champion.serving(store)) == NOW
    failing = _candidate(failed=("ev",))
    assert not decide(Record.read(champion.serving(store)), failing).moves


def test_a_first_champion_whose_checks_never_passed_has_never_served(tmp_path):
    store = ArtifactStore(tmp_path)
    with store.stage(champion.CHAMPION) as staged:
        NOW.write(staged.dir)
        (staged.dir / "model.json").write_text("old")
        ref = staged.commit(kind=champion.CHAMPION, meta={"history": []})
    champion.archive(store, ref, NOW, [champion.move_entry(NOW, "test")])
    store.reject(champion.CHAMPION, None, ref.fingerprint, ["bad"])
    assert champion.serving(store) is None


def test_a_rollback_is_remembered_by_the_archive(tmp_path):
    store = ArtifactStore(tmp_path)
    moves = _archived_champion(store, NOW, "old", [])
    _archived_champion(store, _candidate(), "new", moves)
    champion.roll_back(store)
    shutil.rmtree(tmp_path / champion.CHAMPION)
    record, _ = champion.rebuild(store)
    assert record.as_of == NOW.as_of
    assert record.held_back == ("model-b",)
