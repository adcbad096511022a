"""The ablation of the sequence: its variants differ in what they see and in nothing else."""

from __future__ import annotations

import dataclasses

from k4_pipeline.config import KEYS, PipelineConfig
from k4_pipeline.pipeline import ablation


def test_variants_score_the_same_rows_and_are_compared_in_pairs(context):
    config = dataclasses.replace(context.config, training=dataclasses.replace(context.config.training, epochs=1))
    path = context.full.unfitted(config=config)
    names = ("bars_50", "bars_10")
    scored = {name: ablation.run_variant(path, context.full.as_of, name) for name in names}
    assert scored["bars_50"][KEYS].equals(scored["bars_10"][KEYS])
    assert not scored["bars_50"]["p_4"].equals(scored["bars_10"]["p_4"])
    result = ablation.compared(scored, config)
    assert set(result["baselines"]) == {"bars_10"}
    said = ablation.answer(result)
    assert "what lies before the last 10 bars" in said
    assert "no_sequence" not in said


def test_no_two_variants_of_the_default_preset_are_the_same():
    models = {ablation.variant_config(PipelineConfig(), name).model for name in ablation.VARIANTS}
    assert len(models) == len(ablation.VARIANTS)


def test_every_variant_is_one_network_of_the_recipe(context):
    for name, changes in ablation.VARIANTS.items():
        config = ablation.variant_config(context.config, name)
        assert config.recipe.members == ("network",)
        assert all(getattr(config.model, field) == value for field, value in changes.items())
        assert config.training == context.config.training
