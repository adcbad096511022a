"""The search inside a fold: what it may choose by, what it keeps, and that it reads no test row."""

from __future__ import annotations

import pytest

from k4_pipeline.errors import ConfigError
from k4_pipeline.pipeline import search


def test_trials_are_kept_and_the_best_is_returned(context, monkeypatch, tmp_path):
    seen = []

    def loss(path, config):
        seen.append((path.split["split"].eq("test").sum(), config.training.learning_rate))
        return abs(config.training.learning_rate - 1e-3) + 1.0

    monkeypatch.setattr(search, "validation_loss", loss)
    arguments = {"journal": tmp_path / "tune" / "trials.journal", "reserved_months": 1}
    first = search.search(context.full, context.full.as_of, trials=3, **arguments)
    again = search.search(context.full, context.full.as_of, trials=2, **arguments)
    assert (first["trials_in_journal"], again["trials_in_journal"]) == (3, 5)
    assert (
        first["log_loss_as_it_stands"]
        == again["log_loss_as_it_stands"]
        == pytest.approx(loss(context.full, context.config))
    )
    assert again["log_loss_best"] == min(abs(rate - 1e-3) + 1.0 for _, rate in seen)
    assert set(again["best"]) == set(search.SPACE)
    assert len({rate for _, rate in seen}) > 3


def test_the_loss_of_a_fold_changes_with_its_validation_labels_and_with_no_test_label(context):
    path = context.full.unfitted()
    before = search.validation_loss(path, path.config)
    for name, moved in (("test", False), ("validation", True)):
        split = context.full.split.copy()
        part = split["split"] == name
        split.loc[part, "outcome_class"] = (split.loc[part, "outcome_class"] + 1) % 6
        after = search.validation_loss(path.unfitted(split=split), path.config)
        assert (after != before) == moved


def test_a_fold_near_the_end_is_refused(context, tmp_path):
    verdict = search.fold_leaves_the_last_years_alone(context.full.labeled, context.full.as_of, 600)
    assert not verdict.holds
    with pytest.raises(ConfigError, match="kept for testing"):
        search.search(context.full, context.full.as_of, trials=1, journal=tmp_path / "j", reserved_months=600)
    assert not (tmp_path / "j").exists()
