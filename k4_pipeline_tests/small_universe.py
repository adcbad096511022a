"""One run of the small universe, shared by the tests of the audit, with one thread: so small that threads only wait."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from k4_pipeline.leakage.engine import audit
from k4_pipeline.leakage.engine.small import SMALL_AS_OF, small_config
from k4_pipeline.market.sources import read_bars


@pytest.fixture(autouse=True, scope="package")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K4_THREADS", "1")
        yield
    torch.set_num_threads(before)


def make(seed: int, **sample: object) -> audit.AuditContext:
    """The small universe of `seed`, run through the path."""
    config = small_config(seed)
    raw = read_bars(config.source, config.simulation)
    chosen = dataclasses.replace(audit.AuditSample(), **sample)
    return audit.make_context(raw, config, SMALL_AS_OF, sample=chosen)


@pytest.fixture(scope="package")
def context() -> audit.AuditContext:
    """The context of seed 0."""
    audit.load_checks()
    return make(0)
