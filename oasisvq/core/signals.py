"""Handles SIGINT and SIGTERM: the first requests a stop, the second ends the process at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator

NAMES: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_requested: int | None = None  # the number of the first signal
_deferred = False


class Stopped(KeyboardInterrupt):
    """Raised when a signal has requested a stop; `status` is 128 plus its number, as in a shell.

    It is not an `Exception`, so code that handles errors does not catch it.
    """

    def __init__(self, number: int):
        super().__init__(NAMES[number])
        self.status = 128 + number


def watch() -> None:
    """Installs the handler: from now on a first signal raises `Stopped`.

    Within `deferred`, it is raised only by `raise_if_requested`. A second signal ends the process
    at once.
    """
    global _requested
    _requested = None
    if threading.current_thread() is threading.main_thread():
        for number in NAMES:
            signal.signal(number, _handle)


def _handle(number, frame) -> None:
    global _requested
    if _requested is not None:
        os._exit(128 + number)
    _requested = number
    if not _deferred:
        raise Stopped(number)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Delays a first signal until `raise_if_requested`, or the end of the block.

    So a step can finish, and a signal that comes after the last one is obeyed all the same.
    """
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False
    raise_if_requested()


def stop_requested() -> bool:
    """Returns whether a signal has requested a stop."""
    return _requested is not None


def raise_if_requested() -> None:
    """Raises `Stopped` if a signal has requested a stop."""
    if stop_requested():
        raise Stopped(_requested or signal.SIGINT)
