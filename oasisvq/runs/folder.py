"""A run folder: the configuration, the weights and the test slices that belong together."""

import contextlib
import dataclasses
import json
import math
import os
import platform
import subprocess
from pathlib import Path

import keras
import numpy as np
import pandas
import tensorflow as tf

from dataset import OASIS, PREPARED, is_prepared
from oasisvq.core.errors import DatasetError, RunFolderError, UserError
from oasisvq.evaluation.features import build_feature_network
from oasisvq.core.files import sha256, sweep, write_text
from hyperparameters import Hyperparameters
from modules import VQVAETrainer
from oasisvq.core.locks import one_at_a_time
from modules import PixelCNN

CONFIG = "config.json"
SPLIT = "split.csv"
VQVAE_WEIGHTS = "vqvae.weights.h5"
PRIOR_WEIGHTS = "pixelcnn.weights.h5"
PRIOR_FACTS = "pixelcnn.json"
FEATURE_WEIGHTS = "features.weights.h5"
TRAINING_FACTS = "training.json"
REPORT = "similarity.json"
TRAINING_CODES = "training_codes.npz"
MEAN_SLICES = "mean_slices.npz"
TEST_SLICES = "test_slices"
# What belongs together: the prior's codes mean nothing beside another VQ-VAE's.
RECORDED = (
    CONFIG, SPLIT, MEAN_SLICES, VQVAE_WEIGHTS, FEATURE_WEIGHTS, TRAINING_CODES, PRIOR_WEIGHTS,
    *(f"{TEST_SLICES}/{name}" for name in PREPARED),
)  # fmt: skip
LARGEST_SIDE = 8192  # pixels; of a slice


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and its configuration. Every model is rebuilt from `config.json`.

    Attributes:
        folder: Its path.
        hyperparameters: `Hyperparameters` of the run.
        image_shape: `(H, W)` of its slices in pixels.
        variance: Float, variance of its training pixels in [0, 1].
        data: Dictionary, what it learns from: the source's name, how many subjects and slices, and
            the SHA-256 of slices, table and split.
    """

    folder: Path
    hyperparameters: Hyperparameters
    image_shape: tuple[int, int]
    variance: float
    data: dict = dataclasses.field(default_factory=dict)

    def save(self):
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

    def differences(self, other):
        """What another run of this folder has otherwise, in words; `[]` if it is the same run.

        The source's path may be another if its slices are the same.
        """
        found = []
        theirs = other.hyperparameters.to_dictionary()
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
    def alone(self):
        """Within it, no other process of ours works in the folder; what one that was killed left
        half-written is gone."""
        with alone(self.folder):
            sweep(self.folder)
            yield

    def checkpoint(self, stage):
        """The path of a stage's checkpoint."""
        return self.folder / f"{stage}.checkpoint.npz"

    def record_stage(self, name, minutes, memory, **facts):
        """Notes in `training.json` what a stage took: minutes, and bytes of memory at most."""
        path = self.folder / TRAINING_FACTS
        known = _read_json(path) if path.is_file() else {}
        facts |= {"minutes": round(minutes, 2), "peak_memory_gb": round(memory / 1e9, 2)}
        write_text(path, {**known, name: facts})

    def facts(self):
        """The contents of `config.json` and of `training.json`."""
        return _read_json(self.folder / CONFIG), _read_json(self.folder / TRAINING_FACTS)

    def report(self):
        """The contents of `similarity.json`."""
        return _read_json(self.folder / REPORT)

    def build_vqvae(self):
        """The VQ-VAE of the run, untrained."""
        chosen = self.hyperparameters
        return VQVAETrainer(
            image_shape=self.image_shape,
            variance=self.variance,
            num_embeddings=chosen.num_embeddings,
            embedding_dim=chosen.embedding_dim,
            downsample=chosen.downsample,
            width=chosen.width,
            residual_blocks=chosen.residual_blocks,
            ssim_weight=chosen.ssim_weight,
            commitment_cost=chosen.commitment_cost,
            codebook_update=chosen.codebook_update,
            ema_decay=chosen.ema_decay,
            revive_below=chosen.revive_below,
            rate_weight=chosen.rate_weight,
            rate_steps=chosen.rate_steps,
            seed=chosen.seed,
        )

    def build_prior(self):
        """The prior of the run, untrained."""
        chosen = self.hyperparameters
        code_shape = [math.ceil(side / chosen.downsample) for side in self.image_shape]
        return PixelCNN(
            code_shape=code_shape,
            num_embeddings=chosen.num_embeddings,
            filters=chosen.prior_filters,
            residual_blocks=chosen.prior_residual_blocks,
            dilations=chosen.prior_dilations,
            dropout=chosen.prior_dropout,
            seed=chosen.seed,
        )

    def load_feature_network(self):
        """The network whose features the panel compares, trained."""
        network = build_feature_network(self.image_shape)
        self._load_weights(network, FEATURE_WEIGHTS)
        return network

    def load_vqvae(self):
        """The trained VQ-VAE."""
        vqvae = self.build_vqvae()
        self._load_weights(vqvae, VQVAE_WEIGHTS)
        return vqvae

    def load_prior(self):
        """The trained prior."""
        prior = self.build_prior()
        self._load_weights(prior, PRIOR_WEIGHTS)
        return prior

    def _load_weights(self, model, name):
        path = self.folder / name
        try:
            model.load_weights(path)
        # h5py and Keras raise OSError, ValueError, KeyError and others on damaged files.
        except Exception as error:
            raise RunFolderError(
                f"{path}: these weights cannot be read into the model of {CONFIG} "
                f"({type(error).__name__}: {str(error)[:200]}). Train again with train.py"
            ) from error

    def record_prior(self):
        """Notes, by hashes, which files belong together: the run is finished."""
        facts = {name: sha256(self.folder / name) for name in RECORDED}
        write_text(self.folder / PRIOR_FACTS, facts)

    def training_codes(self):
        """The training slices' code grids, uint16 `(n, h, w)`."""
        return self.read_arrays(TRAINING_CODES, "codes")["codes"]

    def training_conditions(self):
        """The training slices' conditions, float32 `(n, 4)`, see `OASIS.conditions`."""
        return self.read_arrays(TRAINING_CODES, "conditions")["conditions"]

    def conditions(self, slices, rows):
        """`slices.conditions(rows)` as the prior knows them: a position in mm means nothing to one
        that learned from slices with numbers only, nor the other way round."""
        conditions = slices.conditions(rows)
        if slices.position_column != self.test_slices().position_column:
            conditions[:, 0] = np.nan
        return conditions

    def test_slices(self):
        """The test subjects' slices that the run keeps, as an `OASIS` dataset."""
        folder = self.folder / TEST_SLICES
        try:
            if not is_prepared(folder):
                raise DatasetError(f"{folder}: not whole")
            return OASIS(dataclasses.replace(self.hyperparameters, dataset=str(folder)))
        except DatasetError as error:
            raise RunFolderError(
                f"{folder}: not the test slices of a run ({error}). Copy the whole run folder, or "
                "train again"
            ) from error

    def split(self):
        """Dictionary from each subject's name to its split, when the run was trained."""
        path = self.folder / SPLIT
        try:
            table = pandas.read_csv(path, dtype=str, keep_default_na=False)
            return dict(zip(table["subject"], table["split"], strict=True))
        except (OSError, ValueError, KeyError) as error:
            raise RunFolderError(
                f"{path}: cannot be read ({error}). Copy the whole run folder, or train again"
            ) from error

    def read_arrays(self, name, *wanted, others=False):
        """The wanted arrays, and all `others` if asked, of one of the run's `.npz` files."""
        path = self.folder / name
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in {*wanted, *(arrays if others else ())}}
        # NumPy and zipfile raise OSError, ValueError, BadZipFile and others.
        except Exception as error:
            raise RunFolderError(
                f"{path}: cannot be read ({error}). Copy the whole run folder, or train again"
            ) from error


def open_run(folder):
    """Opens a finished run folder; `None` opens the newest below `runs`.

    Raises:
        RunFolderError: If it is not one, or lacks a file.
    """
    folder = _newest_run() if folder is None else Path(folder)
    if not (folder / CONFIG).is_file():
        raise RunFolderError(
            f"{folder}: not a run folder, it has no {CONFIG}. Give one that train.py made as "
            "--run-dir"
        )
    if not (folder / PRIOR_FACTS).is_file():
        raise RunFolderError(
            f"{folder}: has no {PRIOR_FACTS}: its training did not finish. The train.py command "
            "that began it goes on from where it stopped"
        )
    _check_files(folder)
    return read_config(folder)


def _check_files(folder):
    """Refuses files that are not those of one run, before anything is made of them."""
    facts = _read_json(folder / PRIOR_FACTS)
    for name in RECORDED:
        path = folder / name
        found = sha256(path) if path.is_file() else None
        if found is None or facts.get(name) != found:
            raise RunFolderError(
                f"{path}: not the file that {PRIOR_FACTS} records: the prior must have learned the "
                "codes of the VQ-VAE beside it. Copy the whole run folder, or train again"
            )


def _read_json(path):
    """The dictionary in a JSON file."""
    try:
        facts = json.loads(path.read_text())
        if not isinstance(facts, dict):
            raise ValueError("no JSON object")
        return facts
    except (OSError, ValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path}: cannot be read ({error}). Copy the whole run folder, or train again"
        ) from error


def read_config(folder):
    """The run whose `config.json` lies in a folder, trained or not.

    Raises:
        RunFolderError: If that is not the configuration of a run.
    """
    config = _read_json(folder / CONFIG)
    try:
        height, width = (int(side) for side in config["image_shape"])
        if not all(0 < side <= LARGEST_SIDE for side in (height, width)):
            raise ValueError(f"image_shape {height}x{width}")
        return Run(
            folder=folder,
            hyperparameters=Hyperparameters.from_dictionary(config["hyperparameters"]),
            image_shape=(height, width),
            variance=float(config["variance"]),
            data=dict(config["data"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, UserError) as error:
        raise RunFolderError(
            f"{folder / CONFIG}: not the configuration of a run ({error}). "
            "Copy the whole run folder, or train again"
        ) from error


def versions():
    """The versions that numbers depend on."""
    modules = {"tensorflow": tf, "keras": keras, "numpy": np}
    known = {name: module.__version__ for name, module in modules.items()}
    return {"python": platform.python_version(), **known}


def commit():
    """The commit of these files, `-dirty` if they were changed since; `None` if unknown."""
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    # Not that of another project in whose folder this one lies.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(here.parent)}
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


@contextlib.contextmanager
def alone(folder):
    """Within it, no other process of ours works in a run folder."""
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder.with_name(f".{folder.name}.mutex"), f"works in {folder}"):
        yield


def _newest_run():
    finished = sorted(Path("runs").glob(f"*/{PRIOR_FACTS}"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise RunFolderError("runs: holds no finished run. Run train.py first, or give --run-dir")
    return finished[-1].parent
