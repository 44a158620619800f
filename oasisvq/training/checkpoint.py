"""The checkpoint of a stage: everything that an exact resume needs, as one file."""

import dataclasses
import io
import json
import math
import time
from pathlib import Path

import keras
import numpy as np

from oasisvq.core import signals
from oasisvq.core.checks import check_array, check_number, unpack
from oasisvq.core.errors import RunFolderError, TrainingError
from oasisvq.core.files import whole_file
from oasisvq.core.script import peak_memory
from oasisvq.training.devices import bytes_from_chief, is_chief

REMEDY = (
    "Lower the learning rate and start again with --fresh, or go on from the last checkpoint with "
    "--max-bad-steps, which undoes such steps"
)


@dataclasses.dataclass
class Progress:
    """What a stage has done; the sums of the current epoch lie in the model's metrics.

    Attributes:
        warmed: Integer, warm-up steps done, before the first epoch.
        ready: Boolean, whether the codebook has been started, before the first epoch.
        epoch: Integer, epochs done.
        step: Integer, steps done of the current epoch.
        bad_steps, bad_steps_of_epoch: Integers, undone steps: in all, and in the current epoch.
        waited: Integer, epochs since the best one.
        best: Float, the lowest value of the monitored number on the validation subjects.
        seconds, peak_memory: Floats, the time of all processes so far, and their peak in bytes.
        means: Dictionary of floats, the means of the current epoch once all its steps are done.
        history: List of dictionaries, the numbers of each epoch.
    """

    warmed: int = 0
    ready: bool = False
    epoch: int = 0
    step: int = 0
    bad_steps: int = 0
    bad_steps_of_epoch: int = 0
    waited: int = 0
    best: float = math.inf
    seconds: float = 0.0
    peak_memory: float = 0.0
    means: dict = dataclasses.field(default_factory=dict)
    history: list = dataclasses.field(default_factory=list)

    def end_epoch(self, means, better):
        """Notes the numbers of an epoch, and begins the next one."""
        self.history.append({"epoch": self.epoch, **means})
        self.waited = 0 if better else self.waited + 1
        self.epoch += 1
        self.step, self.bad_steps_of_epoch, self.means = 0, 0, {}

    def check(self, steps, numbers):
        """Checks what was read from a file.

        Args:
            steps: Integer, the steps of an epoch.
            numbers: Collection of the names of the means of an epoch.

        Raises:
            ValueError: If a value has another type, or is out of range.
        """
        check_number("epoch", self.epoch, (int,), 0)
        check_number("step", self.step, (int,), 0, steps)
        for name in ("warmed", "bad_steps", "bad_steps_of_epoch", "waited"):
            check_number(name, getattr(self, name), (int,), 0)
        for name in ("seconds", "peak_memory"):
            check_number(name, getattr(self, name), low=0)
        if self.best != math.inf:
            check_number("best", self.best, (float,))
        if type(self.ready) is not bool:
            raise ValueError(f"ready: expected true or false. Received: {self.ready}")
        both = {*numbers, *(f"val_{name}" for name in numbers)}
        rows = [(self.means, {*numbers})] if self.means else []
        rows += [(row, {"epoch", *both}) for row in self.history]
        if [row["epoch"] for row in self.history] != list(range(self.epoch)):
            raise ValueError("history: expected one row per epoch")
        for row, names in rows:
            if set(row) != names or not all(type(row[name]) in (int, float) for name in names):
                raise ValueError(f"expected the numbers {sorted(names)}. Received: {row}")
        if self.means and self.step != steps:
            raise ValueError("means: expected none before the end of an epoch")


class Checkpoint:
    """The file of a stage. It is written whole or not at all, and holds arrays only, no code.

    Args:
        path: The `.npz` file; with `None`, nothing is saved.
        minutes: Float, how often it is saved.
        source: Text that identifies what the stage learns from. A checkpoint with another source
            is refused.
    """

    def __init__(self, path=None, minutes=math.inf, source=""):
        self.path, self.seconds, self.source = path and Path(path), 60 * minutes, source
        self.began = self.saved = time.monotonic()

    @property
    def due(self):
        """Whether the minutes have passed, or a signal has requested a stop."""
        return signals.stop_requested() or time.monotonic() - self.saved >= self.seconds

    def save(self, name, progress, variables, best_weights):
        """Saves a stage.

        Args:
            name: Name of the stage, for error messages.
            progress: `Progress`; its time and memory are updated.
            variables: List of all variables that training changes.
            best_weights: List of arrays, the model's best weights so far; `[]` before the first.

        Raises:
            TrainingError: If a variable is not finite; the last checkpoint then stays as it was.
        """
        self.saved = time.monotonic()
        progress.seconds += self.saved - self.began
        self.began = self.saved
        progress.peak_memory = max(progress.peak_memory, peak_memory())
        if not self.path or not is_chief():
            return
        arrays = {f"best {number}": value for number, value in enumerate(best_weights)}
        for number, variable in enumerate(variables):
            value = arrays[f"value {number}"] = keras.ops.convert_to_numpy(variable)
            if not np.isfinite(value).all():
                raise TrainingError(
                    f"{name}: {variable.path} is not finite at epoch {progress.epoch + 1}, step "
                    f"{progress.step}. {REMEDY}"
                )
        facts = dataclasses.asdict(progress) | {"source": self.source}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with whole_file(self.path) as partial, partial.open("wb") as file:
            np.savez(file, progress=text, **arrays)

    def restore(self, variables, weights, steps, numbers):
        """Restores what was saved last.

        The chief reads it and sends it to the other workers, which may not see the run folder.

        Args:
            variables: As for `save`; they are assigned their saved values.
            weights: List of the model's weights, whose shapes the best weights must have.
            steps, numbers: See `Progress.check`.

        Returns:
            The `Progress` and the best weights; `Progress()` and `[]` if nothing was saved.

        Raises:
            RunFolderError: If the file cannot be read, or is of another model or source.
        """
        here = self.path and is_chief() and self.path.is_file()
        content = bytes_from_chief(self.path.read_bytes() if here else b"")
        source = bytes_from_chief(self.source.encode()).decode()
        if not content:
            return Progress(), []
        try:
            arrays = unpack(io.BytesIO(content), len(content))  # they are saved as they are
            facts = json.loads(arrays["progress"].tobytes())
            if facts.pop("source") != source:
                raise ValueError("it has learned the codes of another VQ-VAE")
            progress = Progress(**facts)
            progress.check(steps, numbers)
            values = _numbered_arrays(arrays, "value", variables)
            best = _numbered_arrays(arrays, "best", weights if progress.epoch else [])
        # NumPy and zipfile raise OSError, ValueError, BadZipFile and others.
        except Exception as error:
            raise RunFolderError(
                f"{self.path}: not the checkpoint of this run ({type(error).__name__}: "
                f"{str(error)[:200]}). Delete it to train this stage anew, or start again with "
                "--fresh"
            ) from error
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return progress, best


def _numbered_arrays(arrays, kind, variables):
    """Returns the arrays of a kind, in order, if they could be the values of the variables."""
    found = [arrays[f"{kind} {number}"] for number in range(len(variables))]
    for number, (array, variable) in enumerate(zip(found, variables, strict=True)):
        whole = "int" in keras.backend.standardize_dtype(variable.dtype)
        check_array(f"{kind} {number}", array, variable.shape, "iu" if whole else "f")
    return found
