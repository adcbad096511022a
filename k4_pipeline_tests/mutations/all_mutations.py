"""Every mutation there is: importing a file of leaks registers what it holds."""

from __future__ import annotations

from k4_pipeline_tests.mutations import (  # noqa: F401
    audit_leaks,
    bar_leaks,
    feature_leaks,
    fit_leaks,
    hindsight_leaks,
    label_leaks,
    pattern_leaks,
    prediction_leaks,
    sequence_leaks,
    split_leaks,
)
from k4_pipeline_tests.mutations.registry import MUTATIONS, STAGES, Mutation


def load_mutations() -> dict[str, Mutation]:
    """The registry in the order of the pipeline."""
    return dict(sorted(MUTATIONS.items(), key=lambda item: STAGES.index(item[1].stage)))
