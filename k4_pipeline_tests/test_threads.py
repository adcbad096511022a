"""`run_chunks`: every range once and in order, errors in the caller's thread, safe to nest and after a fork."""

from __future__ import annotations

import os
import threading

import pytest

from k4_pipeline._numba import run_chunks


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n, chunk", [(0, 4), (1, 4), (17, 4), (16, 4)])
def test_every_range_is_handed_out_once_and_results_keep_their_order(threads: int, n: int, chunk: int) -> None:
    assert [
        i for start, stop in run_chunks(lambda a, b: (a, b), n, chunk, threads) for i in range(start, stop)
    ] == list(range(n))


def test_several_threads_work_and_they_are_not_made_anew_for_every_call() -> None:
    seen: set[str] = set()
    together = threading.Barrier(2, timeout=30)

    def meet(start: int, stop: int) -> None:
        together.wait()
        seen.add(threading.current_thread().name)

    for _ in range(30):
        run_chunks(meet, 2, 1, 2)
    assert 2 <= len(seen) < 10


def test_the_first_error_reaches_the_caller_and_the_threads_live_on() -> None:
    def fail(start: int, stop: int) -> int:
        if start >= 3:
            raise ValueError(f"chunk {start}")
        return start

    with pytest.raises(ValueError, match="chunk 3"):
        run_chunks(fail, 4, 1, 2)
    assert run_chunks(lambda a, b: a, 4, 1, 2) == [0, 1, 2, 3]


def test_calls_may_nest_deeper_than_there_are_threads() -> None:
    def nested(depth: int) -> int:
        return 1 if depth == 0 else sum(run_chunks(lambda a, b: nested(depth - 1), 3, 1, 3))

    assert nested(5) == 3**5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_works_with_threads_of_its_own() -> None:
    run_chunks(lambda a, b: a, 4, 1, 2)
    child = os.fork()
    if child == 0:
        os._exit(0 if run_chunks(lambda a, b: a, 4, 1, 2) == [0, 1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
