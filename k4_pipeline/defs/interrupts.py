"""Whether this process was asked to stop, whatever became of the exception.

Dagster takes over the signal handlers while it runs a job in this process. It turns an interrupt inside of a step into
a failed run that returns like any other, and forgets one that arrives between two steps. The wake-up pipe of the
interpreter sees every signal, whoever handles it.

Dagster also gives SIGTERM the handler of SIGINT. A shell script that starts a command in the background makes it ignore
SIGINT, so that SIGTERM would be ignored, too: nobody could end the run but with SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

STOPS = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


@contextlib.contextmanager
def watching_for_stop() -> Iterator[Callable[[], bool]]:
    """A function that says whether one of `STOPS` came since the block began; always no outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    came = False

    def asked() -> bool:
        nonlocal came
        with contextlib.suppress(BlockingIOError):
            while numbers := os.read(reader, 4096):
                came = came or not STOPS.isdisjoint(numbers)
        return came

    handlers = {number: handler for number in STOPS if (handler := signal.getsignal(number)) is not None}
    if handlers.get(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield asked
    finally:
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)
