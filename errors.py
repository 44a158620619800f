"""The failures a user can mend, and how every script reports one: in one line."""

import os
import sys
from pathlib import Path

import stopping


class UserError(Exception):
    """Something the user can mend. The message says what was expected, what
    was received, in which file, and what to do next."""

    status = 2  # the exit status of a script that ends by it


class HyperparameterError(UserError):
    """A flag, or a field of a saved configuration, that no run can use."""


class DatasetError(UserError):
    """A source that holds no usable slices, or splits into no usable parts."""


class VolumeError(UserError):
    """An image file that cannot be read as what it claims to be."""


class ArchiveError(UserError):
    """An archive that is damaged, or no archive."""


class DownloadError(UserError):
    """A file that a server does not give, or not whole."""

    status = 1


class WriteError(UserError):
    """A file that the disk does not take."""

    status = 1


class TrainingError(UserError):
    """Training that cannot go on as configured."""


class WorkerError(UserError):
    """Another process of the same training that is gone."""

    status = 1


class RunFolderError(UserError):
    """A folder that is not a run, or a run whose files do not belong together."""


def import_tensorflow_quietly():
    """Imports TensorFlow without the lines it writes to standard error, which no setting
    silences: what stands there is then our own one line, or nothing. Nor does Keras import
    what only wrappers need that nobody here uses: a fifth of the time."""
    hidden = {"matplotlib", "sklearn"} - set(sys.modules)
    sys.modules.update(dict.fromkeys(hidden))  # None: as if not installed
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run_script(main):
    """Runs `main()` and ends the program: 0, or one line on standard error and 2 for what the
    user can mend, 130 for SIGINT and 143 for SIGTERM, 1 for a failing disk or memory. Any other
    exception is a defect of ours and keeps its traceback. Ends with a line on the memory it took,
    unless it failed."""
    # TensorFlow and Keras read these when they are imported, which `main` does after parsing.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what a terminal cannot show
    script = Path(sys.argv[0]).name
    stopping.watch()
    try:
        main()
        print_peak_memory()
    except UserError as error:
        sys.exit(_report(script, error, error.status))
    except KeyboardInterrupt as stopped:
        status = getattr(stopped, "status", 130)
        sys.exit(_report(script, str(stopped) or "interrupted", status))
    except (OSError, MemoryError) as error:
        sys.exit(_report(script, str(error) or "out of memory", status=1))
    except Exception as error:
        # TensorFlow's own class for it; by name, to import TensorFlow no earlier than needed.
        if type(error).__name__ != "ResourceExhaustedError":
            raise
        message = "out of memory: lower --batch-size and --prior-batch-size"
        sys.exit(_report(script, message, status=1))


def peak_memory():
    """How many bytes of memory the process held at most; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # on Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, else kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def print_peak_memory():
    if peak_memory():
        print(f"Peak memory: {peak_memory() / 1e9:.1f} GB")


def _report(script, error, status):
    print(f"{script}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return status
