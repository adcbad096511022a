"""The small universe for these tests."""

from k4_pipeline_tests.small_universe import context, one_thread

__all__ = ["context", "one_thread"]
