"""How far a stage of training has come, as a file."""

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np

from oasisvq.core.errors import RunFolderError
from oasisvq.core.files import whole_file
from oasisvq.training.devices import bytes_from_chief, is_chief

__all__ = ["Progress", "read_checkpoint", "write_checkpoint"]


@dataclasses.dataclass
class Progress:
    """What a stage has done.

    Attributes:
        warmed: Integer, steps done before the first epoch.
        ready: Boolean, whether all that comes before the first epoch is done.
        epoch: Integer, epochs done.
        step: Integer, steps done of the next one.
        bad_steps, bad_steps_of_epoch: Integers, steps that were undone: in all, and of that epoch.
        waited: Integer, epochs since the best one.
        best: Float, what was best on the validation subjects.
        seconds, peak_memory: Floats, time taken, and most bytes held, by all processes so far.
        history: List of dictionaries, the numbers of each epoch.
        sums: Dictionary of float64 arrays or floats, the sums over the steps of the epoch begun.
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
    history: list = dataclasses.field(default_factory=list)
    sums: dict = dataclasses.field(default_factory=dict)

    def begin_epoch(self):
        self.step, self.bad_steps_of_epoch, self.sums = 0, 0, {}

    def end_epoch(self, means, better):
        self.history.append({"epoch": self.epoch, **means})
        self.waited = 0 if better else self.waited + 1
        self.epoch += 1
        self.begin_epoch()

    def add(self, measured):
        for name, value in measured.items():
            self.sums[name] = self.sums.get(name, 0.0) + value


def write_checkpoint(path, progress, values, best_weights):
    """Saves a stage whole or not at all, as numbers alone.

    Args:
        path: Of the `.npz` file.
        progress: `Progress`.
        values: List of arrays, one a variable of model and optimizer.
        best_weights: List of arrays, the model's best weights so far; `[]` before the first.
    """
    facts = dataclasses.asdict(progress)
    arrays = {f"sum {name}": np.asarray(value) for name, value in facts.pop("sums").items()}
    arrays |= {f"value {number}": value for number, value in enumerate(values)}
    arrays |= {f"best {number}": value for number, value in enumerate(best_weights)}
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with whole_file(path) as partial, partial.open("wb") as file:
        np.savez(file, progress=text, **arrays)


def read_checkpoint(path, value_shapes, best_shapes):
    """What `write_checkpoint` saved, as its arguments; `None` if there is no such file. The chief
    reads it and tells the other workers, which may not see the run folder.

    Raises:
        RunFolderError: If it cannot be read, or is of another model.
    """
    content = Path(path).read_bytes() if is_chief() and Path(path).is_file() else b""
    content = bytes_from_chief(content)
    if not content:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            facts = json.loads(arrays["progress"].tobytes())
            sums = {name[4:]: arrays[name] for name in arrays if name.startswith("sum ")}
            values = _listed(arrays, "value", value_shapes)
            best_weights = _listed(arrays, "best", best_shapes) if "best 0" in arrays else []
        names = {field.name for field in dataclasses.fields(Progress)} - {"sums"}
        if set(facts) != names:
            raise ValueError(f"unknown or missing facts: {sorted(set(facts) ^ names)}")
        return Progress(**facts, sums=sums), values, best_weights
    # NumPy and zipfile raise OSError, ValueError, BadZipFile and others.
    except Exception as error:
        raise RunFolderError(
            f"{path}: not the checkpoint of this run ({type(error).__name__}: "
            f"{str(error)[:200]}). Delete it to train this stage anew, or start again with --fresh"
        ) from error


def _listed(arrays, kind, shapes):
    """The arrays of a kind, in order, if they are finite and have these shapes."""
    listed = [arrays[f"{kind} {number}"] for number in range(len(shapes))]
    for number, (array, shape) in enumerate(zip(listed, shapes, strict=True)):
        if array.shape != shape or array.dtype.kind not in "fi" or not np.isfinite(array).all():
            raise ValueError(f"{kind} {number} is not of shape {shape}")
    return listed
