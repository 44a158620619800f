"""Reads and writes a run folder: configuration, weights and test slices of one run."""

import contextlib
import dataclasses
import functools
import math
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from oasisvq.core.checks import check_array, check_number, unpack
from oasisvq.core.configuration import Configuration
from oasisvq.core.errors import COPY_WHOLE, RunFolderError, UserError, WriteError
from oasisvq.core.files import PARTIAL, one_at_a_time, read_json, sha256, sweep, write_text
from oasisvq.core.tables import read_table
from oasisvq.data.conditions import CONDITIONS, LETTERS
from oasisvq.data.prepare import PREPARED
from oasisvq.data.splits import SPLITS, TEST_SLICES
from oasisvq.nn.losses import LEAST_VARIANCE, MOST_VARIANCE
from oasisvq.runs.finished import CONFIG, PRIOR_FACTS, REPORT, find_run

SPLIT = "split.csv"
VQVAE_WEIGHTS = "vqvae.weights.h5"
PRIOR_WEIGHTS = "pixelcnn.weights.h5"
TRAINING_FACTS = "training.json"
TRAINING_CODES = "training_codes.npz"
MEAN_SLICES = "mean_slices.npz"
# The files that belong together: the codes of a prior are meaningless for another VQ-VAE.
RECORDED = [
    *(CONFIG, SPLIT, MEAN_SLICES, VQVAE_WEIGHTS, TRAINING_CODES, PRIOR_WEIGHTS),
    *(f"{TEST_SLICES}/{name}" for name in PREPARED),
]
LARGEST_SIDE = 8192  # pixels of a slice
LARGEST_ARRAYS = 2**30  # bytes of the arrays of one file, unpacked


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and its configuration, from which its models are rebuilt.

    Attributes:
        folder: Its path.
        hyperparameters: The `Configuration` of the run.
        image_shape: `(H, W)` of its slices in pixels.
        variance: Float, variance of its training pixels in [0, 1].
        data: Dictionary about its data, see `OASIS.identity`.
    """

    folder: Path
    hyperparameters: Any
    image_shape: tuple[int, int]
    variance: float
    data: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, configuration: type[Configuration]) -> Self:
        """Reads the run in a folder from its `config.json`, trained or not.

        Args:
            folder: The run folder.
            configuration: The class of its hyperparameters.

        Raises:
            RunFolderError: If the file is not the configuration of a run.
        """
        config = read_facts(folder / CONFIG)
        try:
            height, width = config["image_shape"]
            check_number("image_shape", height, (int,), 1, LARGEST_SIDE)
            check_number("image_shape", width, (int,), 1, LARGEST_SIDE)
            least = math.nextafter(LEAST_VARIANCE, 1)  # the bound itself is too low
            check_number("variance", config["variance"], (float,), least, MOST_VARIANCE)
            if not isinstance(config["versions"], dict) or "commit" not in config:
                raise ValueError("no versions")
            return cls(
                folder=folder,
                hyperparameters=configuration.from_dictionary(config["hyperparameters"]),
                image_shape=(height, width),
                variance=config["variance"],
                data=dict(config["data"]),
            )
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise RunFolderError(
                f"{folder / CONFIG}: not the configuration of a run ({error}). {COPY_WHOLE}"
            ) from error

    def start(self, fresh: bool) -> bool:
        """Makes the run folder and writes `config.json`, or finds the same run there.

        Args:
            fresh: Whether an earlier run in the folder is deleted.

        Returns:
            Whether the run in the folder is finished.

        Raises:
            RunFolderError: If the folder holds anything else than this run.
        """
        folder = self.folder.resolve()
        discarded = folder.with_name(f".{folder.name}.deleted")
        shutil.rmtree(discarded, ignore_errors=True)  # the rest of a killed process
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"{self.folder}: is a file. Give another --run-dir")
        if (folder / CONFIG).is_file():
            # This raises an error if another program's config.json lies there.
            self.refuse_another(fresh)
            if fresh:
                folder.rename(discarded)  # first, because a partly deleted folder is no run
                shutil.rmtree(discarded)
        elif folder.is_dir() and any(PARTIAL not in path.name for path in folder.iterdir()):
            raise RunFolderError(
                f"{self.folder}: holds other files than a run's. Give another --run-dir"
            )
        if folder.is_dir():
            self.sweep()
        if not (folder / CONFIG).is_file():
            self.save()
        return (folder / PRIOR_FACTS).is_file()

    def refuse_another(self, fresh: bool) -> None:
        """Refuses the folder if it holds a different run, unless `fresh` allows deleting it.

        Raises:
            RunFolderError: If it does, or its configuration cannot be read.
        """
        if not (self.folder / CONFIG).is_file():
            return
        different = self.differences(Run.read(self.folder, type(self.hyperparameters)))
        if different and not fresh:
            raise RunFolderError(
                f"{self.folder}: holds a run with other settings: {'; '.join(different)}. "
                "Give these, another --run-dir, or --fresh to delete it"
            )

    def save(self) -> None:
        """Writes `config.json`."""
        config = {
            "hyperparameters": self.hyperparameters.to_dictionary(),
            "image_shape": list(self.image_shape),
            "variance": self.variance,
            "data": self.data,
            "versions": versions(),
            "commit": commit(),
        }
        write_text(self.folder / CONFIG, config)

    def differences(self, other: "Run") -> list[str]:
        """Lists the differences from another run in this folder; `[]` if it is the same run.

        The path of the source may differ if the slices are the same.
        """
        found, theirs = [], other.hyperparameters.to_dictionary()
        for name, own in self.hyperparameters.to_dictionary().items():
            if own != theirs[name] and name != "dataset":
                found.append(f"--{name.replace('_', '-')} {theirs[name]} there, {own} here")
        if self.image_shape != other.image_shape:
            found.append(f"slices of {other.image_shape} there, {self.image_shape} here")
        changed = [name for name, own in self.data.items() if own != other.data.get(name)]
        if changed:
            found.append(f"other data ({', '.join(changed)})")
        return found

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Locks the folder against other scripts, and deletes partial files of killed processes.

        Raises:
            WriteError: If nothing can be written to the folder.
        """
        if not os.access(self.folder, os.W_OK):
            raise WriteError(
                f"{self.folder}: cannot be written to. Change its permissions, or copy the whole "
                "run folder to another disk and give that as --run-dir"
            )
        with alone(self.folder):
            self.sweep()
            yield

    def sweep(self) -> None:
        """Deletes partial files of killed processes, and the checkpoints of a finished run."""
        sweep(self.folder)
        if (self.folder / PRIOR_FACTS).is_file():
            for checkpoint in self.folder.glob(self.checkpoint_path("*").name):
                checkpoint.unlink()

    def checkpoint_path(self, stage: str) -> Path:
        """Returns the path of a stage's checkpoint."""
        return self.folder / f"{stage}.checkpoint.npz"

    def record_stage(self, name: str, minutes: float, memory: float, **facts: Any) -> None:
        """Notes the minutes and the peak memory (bytes) of a stage in `training.json`."""
        facts |= {"minutes": round(minutes, 2), "peak_memory_gb": round(memory / 1e9, 2)}
        write_text(self.folder / TRAINING_FACTS, {**self.training_facts(), name: facts})

    def training_facts(self) -> dict[str, dict[str, float]]:
        """Reads what each stage took from `training.json`; `{}` without the file.

        Raises:
            RunFolderError: If it holds anything else than numbers by stage.
        """
        path = self.folder / TRAINING_FACTS
        known = read_facts(path) if path.is_file() else {}
        try:
            for stage, facts in known.items():
                for name, number in dict(facts).items():
                    check_number(f"{stage}, {name}", number)
            return known
        except (ValueError, TypeError) as error:
            raise RunFolderError(f"{path}: cannot be read ({error}). {COPY_WHOLE}") from error

    def record_prior(self) -> None:
        """Notes the hashes of the files that belong together, which makes the run finished."""
        write_text(
            self.folder / PRIOR_FACTS, {name: sha256(self.folder / name) for name in RECORDED}
        )

    def load_weights(self, model: keras.Model) -> Any:
        """Loads the run's weights into a model, by its name, and returns the model.

        Raises:
            RunFolderError: If the weights cannot be read, or belong to another model.
        """
        path = self.folder / f"{model.name}.weights.h5"
        try:
            model.load_weights(path)
            for weight in model.weights:
                array: Any = keras.ops.convert_to_numpy(weight)
                check_array(weight.path, array, weight.shape, "fiu")
        # h5py and Keras raise OSError, ValueError, KeyError and others on damaged files.
        except Exception as error:
            raise RunFolderError(
                f"{path}: these weights cannot be read into the model of {CONFIG} "
                f"({type(error).__name__}: {str(error)[:200]}). Train again with train.py"
            ) from error
        return model

    def training_codes(self) -> np.ndarray:
        """Reads the training slices' code grids, uint16 `(n, h, w)`."""
        return self._learned["codes"]

    def training_conditions(self) -> np.ndarray:
        """Reads the training slices' conditions, float32 `(n, 4)`, see `OASIS.conditions`."""
        return self._learned["conditions"]

    def training_persons(self) -> np.ndarray:
        """Reads the number of the person of each training slice, `(n,)`.

        Runs of before did not keep it. The slices of a person follow one another in the order of
        their positions: where the age, sex or CDR changes, or the position does not grow, another
        person begins.
        """
        if "persons" in self._learned:
            return self._learned["persons"]
        positions, *labels = self.training_conditions().T
        same = np.diff(positions) > 0
        for label in labels:
            same &= (np.diff(label) == 0) | (np.isnan(label[1:]) & np.isnan(label[:-1]))
        return np.concatenate([[0], np.cumsum(~same)])

    def smoothing(self) -> float:
        """Reads the weight of the overall frequencies, see `frequencies_by_position`."""
        return float(self._learned["smoothing"])

    @functools.cached_property
    def _learned(self) -> dict[str, np.ndarray]:
        """Returns the arrays that the prior learned from."""
        vqvae = self.hyperparameters.vqvae

        def check(arrays: dict[str, np.ndarray]) -> None:
            codes, conditions = arrays["codes"], arrays["conditions"]
            grid = (math.ceil(side / vqvae.downsample) for side in self.image_shape)
            check_array("codes", codes, (None, *grid), "u", 0, vqvae.num_embeddings - 1)
            check_array("conditions", conditions, (len(codes), len(CONDITIONS)), "f", unknown=True)
            sexes = conditions[:, CONDITIONS.index("sex")]
            if not set(sexes[~np.isnan(sexes)].tolist()) <= set(LETTERS):
                raise ValueError(f"conditions: expected the sexes {LETTERS}")
            check_array("smoothing", arrays["smoothing"], (), "f", 1e-6, 1e6)
            if "persons" in arrays:
                check_array("persons", arrays["persons"], (len(codes),), "iu", 0, len(codes))

        return self._read_arrays(TRAINING_CODES, check)

    def mean_slices(self) -> dict[str, np.ndarray]:
        """Reads the mean training slices, see `OASIS.mean_slices`."""

        def check(arrays: dict[str, np.ndarray]) -> None:
            for name in {"all", *arrays}:
                check_array(name, arrays[name], self.image_shape, "f", 0, 1)

        return self._read_arrays(MEAN_SLICES, check)

    def report(self) -> dict[str, Any]:
        """Returns what `similarity.py` wrote about the run's own test subjects; `{}` if nothing."""
        path = self.folder / REPORT
        remedy = "Delete it, and similarity.py writes another"
        return read_facts(path, remedy) if path.is_file() else {}

    def split(self) -> dict[str, str]:
        """Reads the split of each subject in the training of this run."""
        path = self.folder / SPLIT
        try:
            table = read_table(path, dtype=str, keep_default_na=False)
            if not set(table["split"]) <= set(SPLITS):
                raise ValueError(f"expected the splits {SPLITS}")
            return dict(zip(table["subject"], table["split"], strict=True))
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(f"{path}: cannot be read ({error}). {COPY_WHOLE}") from error

    def _read_arrays(
        self, name: str, check: Callable[[dict[str, np.ndarray]], None]
    ) -> dict[str, np.ndarray]:
        """Reads the arrays of one of the run's `.npz` files.

        Raises:
            RunFolderError: If the file cannot be read, or `check` raises an error.
        """
        path = self.folder / name
        try:
            arrays = unpack(path, LARGEST_ARRAYS)
            check(arrays)
            return arrays
        # NumPy and zipfile raise OSError, ValueError, BadZipFile and others.
        except Exception as error:
            raise RunFolderError(f"{path}: cannot be read ({error}). {COPY_WHOLE}") from error


def open_run(folder: str | Path | None, configuration: type[Configuration]) -> Run:
    """Opens a finished run folder.

    Args:
        folder: Its path; `None` opens the newest below `runs`.
        configuration: The class of its hyperparameters.

    Raises:
        RunFolderError: If it is no finished run, or a file is missing or is not the recorded one.
    """
    folder = find_run(folder)
    facts = read_facts(folder / PRIOR_FACTS)
    for path in (folder / name for name in RECORDED):
        if not path.is_file():
            raise RunFolderError(f"{path}: is missing. {COPY_WHOLE}")
        if facts.get(path.relative_to(folder).as_posix()) != sha256(path):
            raise RunFolderError(
                f"{path}: not the file that {PRIOR_FACTS} records: the prior must have learned the "
                f"codes of the VQ-VAE beside it. {COPY_WHOLE}"
            )
    return Run.read(folder, configuration)


@contextlib.contextmanager
def locked_run(folder: str | Path | None, configuration: type[Configuration]) -> Iterator[Run]:
    """Opens a finished run folder as `open_run` does, and locks it against other scripts.

    Its files are checked under the lock: another script may replace them before.
    """
    folder = find_run(folder)
    with Run.read(folder, configuration).alone():
        yield open_run(folder, configuration)


def read_facts(path: Path, remedy: str = COPY_WHOLE) -> dict[str, Any]:
    """Reads the dictionary in a JSON file of a run folder.

    Args:
        path: The file.
        remedy: What to do if it cannot be read.

    Raises:
        RunFolderError: If there is none, or it cannot be read.
    """
    try:
        facts = read_json(path)
        if not isinstance(facts, dict):
            raise ValueError("no JSON object")
        return facts
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error}). {remedy}") from error


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the libraries on which results depend."""
    modules = {"tensorflow": tf, "keras": keras, "numpy": np}
    known = {name: module.__version__ for name, module in modules.items()}
    return {"python": platform.python_version(), **known}


def commit() -> str | None:
    """Returns the commit of this program, with `-dirty` after changes, or `None`."""
    root = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    # Not the commit of another project around this one.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)}
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Locks a run folder against other scripts."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder.with_name(f".{folder.name}.mutex"), f"works in {folder}"):
        yield
