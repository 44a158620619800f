"""Starts and ends every script: quiet TensorFlow, exit statuses and one-line errors."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from oasisvq.core import signals
from oasisvq.core.errors import UserError

try:
    import resource
except ImportError:  # on Windows
    resource = None


def run_script(main: Callable[[], None]) -> None:
    """Runs `main()` and ends the program.

    The exit status is 0, or 2 after an error that the user can fix, 130 after SIGINT, 143 after
    SIGTERM, and 1 after a failure of the disk or the memory; an error is one line on standard
    error. Any other exception is a bug and keeps its traceback. A script that succeeds ends with a
    line about its peak memory.
    """
    # TensorFlow and Keras read these when they are imported, which `main` does after parsing.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # A path may contain characters that the terminal cannot show.
    sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore
    signals.watch()
    try:
        main()
        print_peak_memory()
    except UserError as error:
        _exit(error, error.status)
    except KeyboardInterrupt as stopped:
        _exit(str(stopped) or "interrupted", getattr(stopped, "status", 130))
    except (OSError, MemoryError) as error:
        _exit(str(error) or "out of memory", status=1)
    except Exception as error:
        # A class of TensorFlow, known by its name, because importing TensorFlow takes seconds.
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        _exit("out of memory: lower --batch-size and --prior-batch-size", status=1)


def _exit(error: object, status: int) -> None:
    script = Path(sys.argv[0]).name
    print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(status)


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without the lines that it writes to standard error.

    No setting of TensorFlow hides them.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_memory() -> int:
    """Returns the peak memory of this process in bytes; 0 if it is unknown."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def print_peak_memory() -> None:
    """Prints the peak memory of this process, if it is known."""
    if peak_memory():
        print(f"Peak memory: {peak_memory() / 1e9:.1f} GB")
