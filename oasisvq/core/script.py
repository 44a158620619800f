"""How every script begins and ends: TensorFlow's silence, exit statuses, one-line errors."""

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

    The exit status is 0, or 2 after an error that the user can mend, 130 after SIGINT, 143 after
    SIGTERM, and 1 when the disk or the memory fails; an error is one line on standard error. Any
    other exception is a defect of this program and keeps its traceback. A script that did not
    fail ends with a line about its peak memory.
    """
    # TensorFlow and Keras read these when they are imported, which `main` does after parsing.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    # A path may hold characters that a terminal cannot show.
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
        # TensorFlow's own class, known by its name: importing TensorFlow here would take seconds.
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        _exit("out of memory: lower --batch-size and --prior-batch-size", status=1)


def _exit(error: object, status: int) -> None:
    script = Path(sys.argv[0]).name
    print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(status)


def import_tensorflow_quietly() -> None:
    """Imports TensorFlow without the lines that it writes to standard error.

    No setting of its own silences them. What stands there is then one line of ours, or nothing.
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
    """Returns the most bytes of memory that this process has held; 0 where that is unknown."""
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def print_peak_memory() -> None:
    """Prints the peak memory of this process, where it is known."""
    if peak_memory():
        print(f"Peak memory: {peak_memory() / 1e9:.1f} GB")
