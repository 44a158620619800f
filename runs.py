"""A run folder: the configuration, the weights and the test slices that belong together."""

import dataclasses
import hashlib
import json
import math
import platform
from pathlib import Path

import keras
import numpy as np
import pandas
import tensorflow as tf

from dataset import OASIS, is_prepared
from errors import DatasetError, RunFolderError, UserError
from features import build_feature_network
from hyperparameters import Hyperparameters
from modules import VQVAETrainer
from prior import PixelCNN

CONFIG = "config.json"
SPLIT = "split.csv"
VQVAE_WEIGHTS = "vqvae.weights.h5"
PRIOR_WEIGHTS = "pixelcnn.weights.h5"
PRIOR_FACTS = "pixelcnn.json"
FEATURE_WEIGHTS = "features.weights.h5"
TRAINING_CODES = "training_codes.npz"
MEAN_SLICES = "mean_slices.npz"
TEST_SLICES = "test_slices"
RECORDED = (VQVAE_WEIGHTS, FEATURE_WEIGHTS, TRAINING_CODES, PRIOR_WEIGHTS)  # belong together


@dataclasses.dataclass(frozen=True)
class Run:
    """A run folder and its configuration. Every model is rebuilt from `config.json`.

    Attributes:
        folder: Its path.
        hyperparameters: `Hyperparameters` of the run.
        image_shape: `(H, W)` of its slices in pixels.
        variance: Float, variance of its training pixels in [0, 1].
    """

    folder: Path
    hyperparameters: Hyperparameters
    image_shape: tuple[int, int]
    variance: float

    def save(self):
        """Writes `config.json`."""
        config = {
            "hyperparameters": self.hyperparameters.to_dictionary(),
            "image_shape": list(self.image_shape),
            "variance": self.variance,
            "versions": {
                "python": platform.python_version(),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
        }
        (self.folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

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
        """The trained prior, if its codes are those of the VQ-VAE in this folder."""
        self.check_prior()
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
        """Notes which VQ-VAE's codes the prior learned, and which files go with them, by hashes."""
        facts = {name: sha256(self.folder / name) for name in RECORDED}
        (self.folder / PRIOR_FACTS).write_text(json.dumps(facts, indent=2) + "\n")

    def check_prior(self):
        """Refuses a prior whose codes came from another VQ-VAE: its codes mean other things."""
        facts = self._read_json(PRIOR_FACTS)
        for name in RECORDED:
            path = self.folder / name
            found = sha256(path) if path.is_file() else None
            if not isinstance(facts, dict) or found is None or facts.get(name) != found:
                raise RunFolderError(
                    f"{path}: not the file that {PRIOR_FACTS} records: the prior must have learned "
                    "the codes of the VQ-VAE beside it. Copy the whole run folder, or train again"
                )

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

    def _read_json(self, name):
        path = self.folder / name
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError) as error:
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
    for name in (VQVAE_WEIGHTS, FEATURE_WEIGHTS, PRIOR_WEIGHTS, PRIOR_FACTS):
        if not (folder / name).is_file():
            raise RunFolderError(
                f"{folder}: has no {name}; its training did not finish. Train again with "
                f"train.py --run-dir {folder} --fresh"
            )
    return read_config(folder)


def read_config(folder):
    """The run whose `config.json` lies in a folder, trained or not.

    Raises:
        RunFolderError: If that is not the configuration of a run.
    """
    try:
        config = json.loads((folder / CONFIG).read_text())
        height, width = config["image_shape"]
        return Run(
            folder=folder,
            hyperparameters=Hyperparameters.from_dictionary(config["hyperparameters"]),
            image_shape=(int(height), int(width)),
            variance=float(config["variance"]),
        )
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise RunFolderError(
            f"{folder / CONFIG}: not the configuration of a run ({error}). "
            "Copy the whole run folder, or train again"
        ) from error


def _newest_run():
    finished = sorted(Path("runs").glob(f"*/{PRIOR_FACTS}"), key=lambda path: path.stat().st_mtime)
    if not finished:
        raise RunFolderError("runs: holds no finished run. Run train.py first, or give --run-dir")
    return finished[-1].parent


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
