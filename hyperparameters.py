"""The configuration of a run: every tunable number and flag, with its default, in one place."""

import argparse
import dataclasses
import os
import re
from typing import ClassVar

from oasisvq.core.configuration import Configuration, Part, option
from oasisvq.core.errors import HyperparameterError

DATA_DIR = "data"  # the folder for archives and prepared slices, unless another is given
PIXEL_SIZES = (0.05, 20.0)  # mm; smaller pixels of a head would fill the memory
MOST_WEIGHTS = 2**27  # of a model: half a gigabyte, and four times as much in training


@dataclasses.dataclass(frozen=True)
class DataConfig(Part):
    """The data: the source, its slices, and their split by subject.

    Attributes:
        dataset: oasis, oasis1, oasis2, demo, or a folder of slices or of volumes
        plane: plane cut from volumes
        slice_range: first and last position cut from a volume along the plane's axis
        slice_unit: unit of --slice-range: fraction of the volume's extent, or mm of its
            coordinates
        slices_per_volume: slices cut from a volume, evenly spaced; all, or 0, takes every slice
            that shows brain
        pixel_size: size of a pixel in mm, the same for all slices cut from volumes; 0 takes the
            size that most volumes have in the plane, and 1 for the archives of OASIS
        include: glob of paths or names; only images that one of them matches are taken
        exclude: glob of paths or names; images that one of them matches are left out
        suffix: end of the names of the images to take, as T2w, where there are several kinds
            (default: T1w, or what is known for the plain image of a collection)
        persons: how persons are told apart: by the names of files and folders, or, where those
            name nobody, by the likeness of the pictures
        subject_pattern: regular expression with the groups subject, and optionally session and
            index, for the paths of slices and volumes (default: names are understood by the rules
            in docs/data.md)
        oasis1_image: which image of OASIS-1: in the atlas without the skull, in the atlas, the
            mean of the session, or its raw scans; OASIS-2 is brought to the same form
        discs: numbers of the archives of OASIS to use, as 1,2 or 1-3: OASIS-1 has 1 to 12,
            OASIS-2 1 and 2 (default: all)
        max_bad_scans: share of the scans that may be unusable and left out
        demo_subjects: number of invented subjects of --dataset demo
        validation_fraction: share of the subjects for choosing epochs and settings
        test_fraction: share of the subjects kept for scores
        split_seed: seed of the split
    """

    title: ClassVar[str] = "data"

    dataset: str = option("oasis")
    plane: str = option("axial", choices=("axial", "coronal", "sagittal"))
    slice_range: tuple[float, float] = option((0.4, 0.6), count=2)
    slice_unit: str = option("fraction", choices=("fraction", "mm"))
    slices_per_volume: int = option(10, low=0, words={"all": 0})
    pixel_size: float = option(0.0, before=1.0)
    include: tuple[str, ...] = option((), repeated=True, before=())
    exclude: tuple[str, ...] = option((), repeated=True, before=())
    suffix: str = option("", before="")
    persons: str = option("by-name", choices=("by-name", "by-likeness"), before="by-name")
    subject_pattern: str = option("")
    oasis1_image: str = option(
        "t88_masked_gfc", choices=("t88_masked_gfc", "t88_gfc", "subj_111", "raw")
    )
    discs: str = option("")
    max_bad_scans: float = option(0.05, low=0.0, high=1.0)
    demo_subjects: int = option(24, low=3, high=100_000)
    validation_fraction: float = option(0.1, low=0.0, high=0.9)
    test_fraction: float = option(0.1, low=0.0, high=0.9)
    split_seed: int = option(0, low=0)

    def __post_init__(self):
        super().__post_init__()
        if self.validation_fraction + self.test_fraction >= 1:
            raise HyperparameterError(
                "--validation-fraction and --test-fraction must leave subjects to train on: their "
                f"sum must be below 1. Received: {self.validation_fraction} + {self.test_fraction}"
            )
        self._parse_discs()
        low, high = PIXEL_SIZES
        if self.pixel_size and not low <= self.pixel_size <= high:
            raise HyperparameterError(
                f"--pixel-size must be 0, or from {low:g} to {high:g} mm. Received: "
                f"{self.pixel_size:g}"
            )
        low, high = self.slice_range
        if low > high or (self.slice_unit == "fraction" and not (low >= 0 and high <= 1)):
            raise HyperparameterError(
                "--slice-range must be two ascending positions, from 0 to 1 unless --slice-unit "
                f"is mm. Received: {low:g} {high:g}"
            )

    @property
    def disc_numbers(self) -> tuple[int, ...]:
        """The numbers that `discs` names, ascending; `()` for all."""
        return self._parse_discs()

    def _parse_discs(self) -> tuple[int, ...]:
        """Returns `disc_numbers`, or raises an error if `discs` is not a list of numbers."""
        numbers = set()
        for entry in self.discs.split(",") if self.discs else ():
            match = re.fullmatch(r"\s*(\d{1,2})(?:-(\d{1,2}))?\s*", entry)
            if not match or int(match[2] or match[1]) < int(match[1]):
                raise HyperparameterError(
                    f"--discs must be numbers, as 1,2 or 1-3. Received: {self.discs!r}"
                )
            numbers |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
        return tuple(sorted(numbers))


@dataclasses.dataclass(frozen=True)
class VQVAEConfig(Part):
    """The first stage: the VQ-VAE and its training.

    Attributes:
        downsample: pixels per code along each axis
        num_embeddings: number of codes K in the codebook
        embedding_dim: length D of each code
        width: channels of encoder and decoder
        residual_blocks: residual blocks in the encoder, and as many in the decoder
        ssim_weight: weight of 1 - SSIM in the loss
        commitment_cost: weight beta of the commitment loss
        codebook_update: how the codebook learns: by moving average, or by the gradient of its own
            loss
        ema_decay: weight of the past in the moving average
        revive_below: a code is moved if it is used for less than this share of the latents that it
            would have in a codebook that is used evenly
        rate_weight: weight of a code's bits against its distance, in mean squared errors of the
            quantiser per bit; a higher weight gives fewer bits per slice, 0 takes the nearest code
        rate_steps: steps in which the rate weight grows from 0; with the full weight from the start
            the codebook would lose codes
        warm_up_steps: steps without the quantiser before k-means starts the codebook
        epochs: epochs of the VQ-VAE
        batch_size: slices per step
        learning_rate: highest rate of the cosine schedule
    """

    title: ClassVar[str] = "VQ-VAE"

    downsample: int = option(4, choices=(4, 8, 16))
    num_embeddings: int = option(512, low=2, high=65536)
    embedding_dim: int = option(8, low=1, high=4096)
    width: int = option(64, low=2, high=4096)
    residual_blocks: int = option(2, low=0, high=64)
    ssim_weight: float = option(1.0, low=0.0, high=1000.0)
    commitment_cost: float = option(0.25, low=0.0, high=1000.0)
    codebook_update: str = option("ema", choices=("ema", "gradient"))
    ema_decay: float = option(0.99, low=0.0, high=0.99999)
    revive_below: float = option(0.016, low=0.0, high=1.0)
    rate_weight: float = option(0.4, low=0.0, high=100.0)
    rate_steps: int = option(1000, low=0, high=10_000_000)
    warm_up_steps: int = option(100, low=0)
    epochs: int = option(24, low=1)
    batch_size: int = option(16, low=1, high=65536)
    learning_rate: float = option(2e-3, low=1e-9, high=10.0)


@dataclasses.dataclass(frozen=True)
class PriorConfig(Part):
    """The second stage: the PixelCNN and its training.

    Attributes:
        filters: channels of the PixelCNN
        residual_blocks: residual blocks of the PixelCNN
        dilations: spacing of the taps in successive residual blocks
        dropout: share of channels dropped in training
        average: length of the moving average of the prior's weights that is kept, as a share of
            its steps; 0 keeps the weights themselves
        epochs: epochs of the prior
        patience: training ends after so many epochs without a better prior on the validation
            subjects; 0 trains for all of --prior-epochs
        batch_size: code grids per step
        learning_rate: highest rate of the cosine schedule
    """

    title: ClassVar[str] = "prior"
    prefix: ClassVar[str] = "prior_"

    filters: int = option(64, low=2, high=4096)
    residual_blocks: int = option(6, low=1, high=256)
    dilations: tuple[int, ...] = option((1, 2, 4, 8), low=1, high=64)
    dropout: float = option(0.2, low=0.0, high=0.95)
    average: float = option(0.2, low=0.0, high=1.0)
    epochs: int = option(14, low=1)
    patience: int = option(5, low=0)
    batch_size: int = option(16, low=1, high=65536)
    learning_rate: float = option(3e-3, low=1e-9, high=10.0)


@dataclasses.dataclass(frozen=True)
class RunConfig(Part):
    """The settings of the whole run.

    Attributes:
        feature_steps: training steps of each of the small networks whose features similarity.py
            compares
        mixed_precision: layers compute in bfloat16; quantiser, softmax, losses and all weights
            stay float32
        deterministic: the same seed gives the same weights bit by bit on GPUs too, but training
            is slower; on the CPU it always does
        seed: seed of the weights, the order of the slices and the moves of unused codes
    """

    title: ClassVar[str] = "run"

    feature_steps: int = option(300, low=1, high=10_000_000)
    mixed_precision: bool = option(False)
    deterministic: bool = option(False)
    seed: int = option(0, low=0, high=2**31 - 1)


@dataclasses.dataclass(frozen=True)
class DrawConfig(Part):
    """What predict.py draws, and how codes are drawn from the prior.

    Attributes:
        num_samples: number of new brains
        num_reconstructions: number of test slices to reconstruct
        temperature: a value below 1 gives likelier brains
        top_k: draw from the k likeliest codes only; 0 draws from all
        top_p: draw from the likeliest codes only, up to this total probability
        seed: another seed gives other brains
    """

    title: ClassVar[str] = "drawing"

    num_samples: int = option(16, low=1, high=100_000)
    num_reconstructions: int = option(8, low=1, high=64)
    temperature: float = option(1.0, low=0.01, high=100)
    top_k: int = option(0, low=0, high=65536)
    top_p: float = option(1.0, low=1e-6, high=1)
    seed: int = option(0, low=0, high=2**63 - 1)


@dataclasses.dataclass(frozen=True)
class Hyperparameters(Configuration):
    """The whole configuration, saved as `config.json` in the run folder.

    Each value is a flag of `train.py`: `vqvae.num_embeddings` is `--num-embeddings`, and
    `prior.filters`, by the prefix of its part, `--prior-filters`.
    """

    data: DataConfig = DataConfig()
    vqvae: VQVAEConfig = VQVAEConfig()
    prior: PriorConfig = PriorConfig()
    run: RunConfig = RunConfig()

    def __post_init__(self):
        vqvae, prior, codes = self.vqvae, self.prior, self.vqvae.num_embeddings
        # About as many as there are; the kernels of residual blocks and of 7x7 have most of them.
        weights = {
            "--width, --residual-blocks, --num-embeddings or --embedding-dim": (
                20 * (vqvae.residual_blocks + 1) * vqvae.width**2 + codes * vqvae.embedding_dim
            ),
            "--prior-filters, --prior-residual-blocks or --num-embeddings": (
                (49 + 5 * prior.residual_blocks) * prior.filters**2 + 3 * codes * prior.filters // 2
            ),
        }
        for flags, count in weights.items():
            if count > MOST_WEIGHTS:
                raise HyperparameterError(
                    f"a model of about {count:,} weights. Expected at most {MOST_WEIGHTS:,}: lower "
                    f"{flags}"
                )


# The values that `train.py --preset` changes; flags override them.
PRESETS = {
    "default": {},
    "quality": {"epochs": 40, "prior_filters": 96, "prior_epochs": 20},
}


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Adds `--data-dir`, whose default the environment can set, to a parser."""
    parser.add_argument(
        "--data-dir",
        default=os.environ.get("OASIS_DATA_DIR", DATA_DIR),
        help="archives and prepared slices (default: OASIS_DATA_DIR of the environment, or "
        f"{DATA_DIR})",
    )
