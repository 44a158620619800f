"""One process at a time."""

import contextlib
import sys

import filelock


@contextlib.contextmanager
def one_at_a_time(path, name, cancelled=None):
    """Holds the lock file `path`; says once, on standard error, if another process has it.

    The operating system lets go of the lock when a process ends, however it ends.

    Args:
        path: Of the lock file, which stays.
        name: What is waited for, as `"downloads disc 1"`.
        cancelled: `threading.Event` that ends the waiting.

    Raises:
        filelock.Timeout: If `cancelled` was set while waiting.
    """
    mutex = filelock.FileLock(path)
    try:
        mutex.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Waiting for another process that {name}", file=sys.stderr)
        mutex.acquire(cancel_check=cancelled.is_set if cancelled else None)
    try:
        yield
    finally:
        mutex.release()
