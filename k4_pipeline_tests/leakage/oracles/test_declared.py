"""The list of defaults that is written a second time is that of the settings: whoever changes one changes both."""

from __future__ import annotations

import pytest

from k4_pipeline.config import PipelineConfig, to_dict
from k4_pipeline.leakage.oracles.declared import DEFAULTS

# Where bars come from, what a list shows and where work is done are no part of what a model is judged by.
OF_THE_USER = {"source", "serving", "execution"}
PLACES = {"training": {"where", "processes"}}
HAVE = to_dict(PipelineConfig())


@pytest.mark.parametrize("section", sorted(HAVE.keys() - OF_THE_USER))
def test_every_default_is_declared_a_second_time(section: str) -> None:
    own = {name: value for name, value in HAVE[section].items() if name not in PLACES.get(section, ())}
    assert own == DEFAULTS[section], "change k4_pipeline/leakage/oracles/declared.py with the setting"
