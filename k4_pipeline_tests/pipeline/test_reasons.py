"""Reasons add up for networks, trees and ensembles of both; similar patterns had ended; what lies outside is
refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from k4_pipeline.config import K4, N_FEATURES, ModelConfig
from k4_pipeline.evaluation.drift import Limits, ReferenceRange
from k4_pipeline.features.context import N_CONTEXT
from k4_pipeline.models import build_model
from k4_pipeline.models.ensemble import Corrected, Ensemble, TextModel
from k4_pipeline.models.tabular import Logit
from k4_pipeline.pipeline.reasons import contributions
from k4_pipeline.pipeline.reference import Reference


def a_row(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 50, N_FEATURES, generator=generator)
    context = torch.randn(1, N_CONTEXT, generator=generator)
    context[0, 3] = torch.nan
    return x, torch.ones(1, 50, dtype=torch.bool), context, torch.zeros(N_CONTEXT)


def logit() -> TextModel:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, N_FEATURES + N_CONTEXT + 1)).astype(np.float32)
    x[:, -1] = 1.0
    y = rng.integers(0, 6, 300)
    y[x[:, 5] > 1] = K4
    return TextModel("logit", Logit().fit(x, y).to_json())


def network(kind: str) -> Corrected:
    torch.manual_seed(0)
    config = ModelConfig(architecture=kind, preset="micro")
    return Corrected(build_model(config, N_FEATURES, n_context=N_CONTEXT).eval())


@pytest.mark.parametrize("kinds", [("mamba_attention",), ("tabm", "no_sequence", "logit"), ("bilstm",)])
def test_reasons_add_up_for_every_kind_of_member(kinds):
    members = [logit() if kind == "logit" else network(kind) for kind in kinds]
    model = Ensemble(list(kinds), members)
    x, mask, context, average = a_row()
    made = contributions(model, x, mask, context, average)
    with torch.no_grad():
        whole, base = (
            float(torch.softmax(model(a, mask, c).double(), -1)[0, K4])
            for a, c in ((x, context), (torch.zeros_like(x), torch.where(context.isnan(), context, average)))
        )
    assert (made["value"], made["base"]) == pytest.approx((whole, base), abs=1e-6)
    assert abs(made["gap"]) <= 0.01 * max(abs(whole - base), 0.01)
    assert made["contributions"][N_FEATURES + 3] == 0.0  # not available: nothing is said of it


def test_a_network_without_context_gives_it_no_part():
    torch.manual_seed(0)
    model = build_model(ModelConfig(architecture="bilstm", preset="micro"), N_FEATURES).eval()
    x, mask, context, average = a_row()
    made = contributions(Ensemble(["network"], [model]), x, mask, context, average)
    assert abs(made["gap"]) <= 0.01 * max(abs(made["value"] - made["base"]), 0.01)
    assert not made["contributions"][N_FEATURES:].any()


def test_the_channel_that_decides_is_the_strongest_reason():
    x, mask, context, average = a_row()
    x[0, -1, 5] = 3.0
    made = contributions(Ensemble(["logit"], [logit()]), x, mask, context, average)
    assert np.argmax(np.abs(made["contributions"])) == 5


def reference() -> Reference:
    rng = np.random.default_rng(2)
    inputs = rng.normal(size=(400, 6)).astype(np.float32)
    days = pd.date_range("2020-01-01", periods=400)
    table = pd.DataFrame({"ticker": "A", "start_date": days, "snapshot_date": days, "outcome_class": 4})
    table["pattern_id"] = [f"A|{i // 2}" for i in range(400)]
    table["label_end_date"] = days + pd.Timedelta(days=100)
    return Reference(tuple("abcdef"), table, inputs, ReferenceRange.of(inputs), Limits(), np.zeros(0))


def test_similar_patterns_had_ended_before_the_day_and_each_is_named_once():
    known = reference()
    day = pd.Timestamp("2020-06-01")
    similar = known.similar(known.inputs[399], day, most=5)
    assert len(similar) == 5
    assert all(s["known_on"] < "2020-06-01" for s in similar)
    later = known.similar(known.inputs[399], pd.Timestamp("2030-01-01"))
    assert later[0]["distance"] == 0.0
    assert later[0]["snapshot_date"] == str(known.table["snapshot_date"][399].date())
    assert known.similar(known.inputs[0], pd.Timestamp("2019-01-01")) == []


def test_a_row_far_outside_is_refused_by_name_and_train_rows_are_not():
    known = reference()
    rows = np.vstack([known.inputs[:50], np.full((1, 6), 9.0), np.full((1, 6), np.nan)]).astype(np.float32)
    said = known.refusals(rows)
    assert said[:50].count("") >= 49
    assert said[50].startswith("6 of 6 inputs lie outside the train rows: ")
    assert said[51] == ""  # what is not available is not outside
