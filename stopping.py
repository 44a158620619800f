"""SIGINT and SIGTERM: the first asks for an end, a second ends the process at once."""

import contextlib
import os
import signal
import threading

__all__ = ["Stopped", "asked", "check", "deferred", "watch"]

NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_asked = None  # the number of the first signal
_deferred = False


class Stopped(KeyboardInterrupt):
    """A signal asked for the end. `status` is what a shell expects: 128 and its number.

    No `Exception`, so that nothing which mends failures takes it for one.
    """

    def __init__(self, number):
        super().__init__(NAMES[number])
        self.status = 128 + number


def watch():
    """From now on a first signal raises `Stopped`, within `deferred` only where `check` is
    called. A second one ends the process as it stands."""
    global _asked
    _asked = None
    if threading.current_thread() is threading.main_thread():
        for number in NAMES:
            signal.signal(number, _handle)


def _handle(number, frame):
    global _asked
    if _asked is not None:
        os._exit(128 + number)
    _asked = number
    if not _deferred:
        raise Stopped(number)


@contextlib.contextmanager
def deferred():
    """Within it, a first signal waits for `check`: what is under way is done first."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False


def asked():
    """Whether a signal has asked for the end."""
    return _asked is not None


def check():
    """Raises `Stopped` if a signal has asked for the end."""
    if asked():
        raise Stopped(_asked)
