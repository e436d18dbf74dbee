"""Ctrl-C and SIGTERM: once to stop in order, twice to stop at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from benchmark.errors import Interrupted

_SAME = 0.5
"""Seconds in which a second signal is still the first one: a terminal and a program in between may both pass it on."""


@contextmanager
def stoppable(message: str) -> Iterator[None]:
    """A signal stops the block: Interrupted, with this message. A second one ends the process, with the same status.

    What is half written then is discarded by the next run, as after a kill.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            _say(b"\nstopping; what is finished is kept (again: stop at once)\n")
            raise KeyboardInterrupt
        if time.monotonic() - first > _SAME:
            _say(b"stopped at once; the same command continues\n")
            os._exit(Interrupted.status)

    # a signal that is ignored, as of a job in the background, stays so
    mine = [s for s in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(s) != signal.SIG_IGN]
    before = [signal.signal(number, handle) for number in mine]
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(message) from None
    finally:
        for number, handler in zip(mine, before, strict=True):
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes in the block is acted on at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in handlers.items() if callable(handler)}
    for number in ours:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
        for missed in came:
            signal.raise_signal(missed)


def _say(line: bytes) -> None:
    # not by the console, which the interrupted code may hold
    os.write(2, line)
