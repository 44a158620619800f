"""Every tunable number and flag of a run, as one frozen dataclass."""

import argparse
import dataclasses
import json
import math
import os
import re

from errors import HyperparameterError

__all__ = [
    "PRESETS",
    "Hyperparameters",
    "Parser",
    "add_data_dir",
    "add_flags",
    "hyperparameters_from_flags",
]


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `HyperparameterError` on a wrong flag."""

    def error(self, message):
        raise HyperparameterError(f"{message}. See {self.prog} --help")


def _option(default, text, low=None, high=None, choices=None, group="data"):
    """A field with its help text and the closed range, or the list, it must lie in."""
    metadata = {"help": text, "low": low, "high": high, "choices": choices, "group": group}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The configuration of a run. Each field is a flag of `train.py`: `num_embeddings`
    is `--num-embeddings`. Saved as `config.json` in the run folder.

    Raises:
        HyperparameterError: If a value is out of its range.
    """

    # Which slices
    dataset: str = _option(
        "oasis", "oasis, oasis1, oasis2, demo, or a folder of slices or of volumes"
    )
    plane: str = _option(
        "axial", "plane cut from volumes", choices=("axial", "coronal", "sagittal")
    )
    slice_range: tuple[float, float] = _option(
        (0.4, 0.6), "first and last position cut from a volume along the plane's axis"
    )
    slice_unit: str = _option(
        "fraction",
        "unit of --slice-range: fraction of the volume's extent, or mm of its coordinates",
        choices=("fraction", "mm"),
    )
    slices_per_volume: int = _option(10, "slices cut from a volume, evenly spaced", low=1)
    subject_pattern: str = _option(
        "", "regular expression with the groups subject, and optionally session and index, "
        "for the names of slices and volumes (default: those of OASIS, "
        "case_441_slice_0.nii.png, or a name that ends in the slice's number)"
    )  # fmt: skip
    oasis1_image: str = _option(
        "t88_masked_gfc", "which image of OASIS-1: in the atlas without the skull, in the atlas, "
        "the mean of the session, or its raw scans; OASIS-2 is made like it",
        choices=("t88_masked_gfc", "t88_gfc", "subj_111", "raw")
    )  # fmt: skip
    discs: str = _option(
        "", "numbers of the archives of OASIS to use, as 1,2 or 1-3: OASIS-1 has 1 to 12, OASIS-2 "
        "1 and 2 (default: all)"
    )  # fmt: skip
    max_bad_scans: float = _option(
        0.05, "share of the scans that may be unusable and left out", low=0.0, high=1.0
    )
    demo_subjects: int = _option(24, "invented subjects of --dataset demo", low=3, high=100_000)
    validation_fraction: float = _option(
        0.1, "share of the subjects that choices are made on", low=0.0, high=0.9
    )
    test_fraction: float = _option(0.1, "share of the subjects kept for scores", low=0.0, high=0.9)
    split_seed: int = _option(0, "another number deals the subjects out anew", low=0)

    # The VQ-VAE
    downsample: int = _option(
        4, "pixels a code along each axis", choices=(4, 8, 16), group="VQ-VAE"
    )
    num_embeddings: int = _option(
        512, "number of codes K in the codebook", low=2, high=65536, group="VQ-VAE"
    )
    embedding_dim: int = _option(8, "length D of each code", low=1, high=4096, group="VQ-VAE")
    width: int = _option(64, "channels of encoder and decoder", low=2, high=4096, group="VQ-VAE")
    residual_blocks: int = _option(
        2, "residual blocks in encoder, and again in decoder", low=0, high=64, group="VQ-VAE"
    )  # fmt: skip
    ssim_weight: float = _option(
        1.0, "weight of 1 - SSIM in the loss", low=0.0, high=1000.0, group="VQ-VAE"
    )
    commitment_cost: float = _option(
        0.25, "weight beta of the commitment loss", low=0.0, high=1000.0, group="VQ-VAE"
    )
    codebook_update: str = _option(
        "ema", "how the codebook learns: by moving average, or by the gradient of its own loss",
        choices=("ema", "gradient"), group="VQ-VAE"
    )  # fmt: skip
    ema_decay: float = _option(
        0.99, "weight of the past in the moving average", low=0.0, high=0.99999, group="VQ-VAE"
    )
    revive_below: float = _option(
        0.016, "a code that stands for less than this share of its fair share of the latents moves "
        "to where it is needed", low=0.0, high=1.0, group="VQ-VAE"
    )  # fmt: skip
    rate_weight: float = _option(
        0.4, "how much a code's bits weigh against its distance, in mean squared errors of the "
        "quantiser a bit: the more, the fewer bits a slice; 0 takes the nearest code",
        low=0.0, high=100.0, group="VQ-VAE"
    )  # fmt: skip
    rate_steps: int = _option(
        1000, "steps in which that weight grows from 0: a codebook that has not settled would "
        "starve of it", low=0, high=10_000_000, group="VQ-VAE"
    )  # fmt: skip
    warm_up_steps: int = _option(
        100, "steps without the quantiser before k-means starts the codebook", low=0, group="VQ-VAE"
    )  # fmt: skip
    epochs: int = _option(24, "epochs of the VQ-VAE", low=1, group="VQ-VAE")
    batch_size: int = _option(16, "slices a step", low=1, high=65536, group="VQ-VAE")
    learning_rate: float = _option(
        2e-3, "highest rate of the cosine schedule", low=1e-9, high=10.0, group="VQ-VAE"
    )

    # The prior
    prior_filters: int = _option(64, "channels of the PixelCNN", low=2, high=4096, group="prior")
    prior_residual_blocks: int = _option(
        6, "residual blocks of the PixelCNN", low=1, high=256, group="prior"
    )
    prior_dilations: tuple[int, ...] = _option(
        (1, 2, 4, 8), "spacing of the taps in successive residual blocks", low=1, high=64,
        group="prior"
    )  # fmt: skip
    prior_dropout: float = _option(
        0.2, "share of channels dropped in training", low=0.0, high=0.95, group="prior"
    )
    prior_average: float = _option(
        0.2, "how far the moving average of the prior's weights, which is what is kept, reaches "
        "back, as a share of its steps; 0 keeps the weights themselves", low=0.0, high=1.0,
        group="prior"
    )  # fmt: skip
    prior_epochs: int = _option(14, "epochs of the prior", low=1, group="prior")
    prior_patience: int = _option(
        5, "epochs without a better prior on the validation subjects before training ends; 0 for "
        "no end but --prior-epochs", low=0, group="prior"
    )  # fmt: skip
    prior_batch_size: int = _option(16, "code grids a step", low=1, high=65536, group="prior")
    prior_learning_rate: float = _option(
        3e-3, "highest rate of the cosine schedule", low=1e-9, high=10.0, group="prior"
    )

    # The network that similarity.py looks at new brains with
    feature_steps: int = _option(
        600, "steps of the small network whose features similarity.py compares", low=1,
        high=10_000_000, group="features"
    )  # fmt: skip

    # All
    mixed_precision: bool = _option(
        False, "layers compute in bfloat16; quantiser, softmax and losses in float32, as all "
        "weights are", group="run"
    )  # fmt: skip
    deterministic: bool = _option(
        False, "on GPUs too, the same seed gives the same weights bit by bit, in longer time; on "
        "the CPU it does so anyway", group="run"
    )  # fmt: skip
    seed: int = _option(0, "seed of weights, order and revival", low=0, high=2**31 - 1, group="run")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            self._check(field)
        if self.validation_fraction + self.test_fraction >= 1:
            raise HyperparameterError(
                "--validation-fraction and --test-fraction must leave subjects to train on: "
                f"their sum must be below 1. Received: "
                f"{self.validation_fraction} + {self.test_fraction}"
            )
        self.disc_numbers  # noqa: B018 - raises if they are not numbers
        low, high = self.slice_range
        within = self.slice_unit == "mm" or 0 <= low <= high <= 1
        if not (low <= high and within):
            raise HyperparameterError(
                "--slice-range must be two ascending positions, from 0 to 1 unless "
                f"--slice-unit is mm. Received: {low:g} {high:g}"
            )

    @property
    def disc_numbers(self):
        """The numbers that `discs` names, ascending; `()` for all.

        Raises:
            HyperparameterError: If it is no list of numbers.
        """
        numbers = set()
        for entry in self.discs.split(",") if self.discs else ():
            match = re.fullmatch(r"\s*(\d{1,2})(?:-(\d{1,2}))?\s*", entry)
            if not match or int(match[2] or match[1]) < int(match[1]):
                raise HyperparameterError(
                    f"--discs must be numbers, as 1,2 or 1-3. Received: {self.discs!r}"
                )
            first, last = int(match[1]), int(match[2] or match[1])
            numbers |= set(range(first, last + 1))
        return tuple(sorted(numbers))

    def _check(self, field):
        value, limits = getattr(self, field.name), field.metadata
        flag = "--" + field.name.replace("_", "-")
        kind = type(field.default)
        values = value if kind is tuple else (value,)
        kind = type(field.default[0]) if kind is tuple else kind
        if not isinstance(values, tuple) or not values or not all(_is(v, kind) for v in values):
            expected = {
                float: "a finite number", int: "an integer", str: "text", bool: "true or false"
            }[kind]  # fmt: skip
            raise HyperparameterError(f"{flag} must be {expected}. Received: {value!r}")
        if limits["choices"] and value not in limits["choices"]:
            choices = ", ".join(map(str, limits["choices"]))
            raise HyperparameterError(f"{flag} must be one of {choices}. Received: {value!r}")
        low, high = limits["low"], limits["high"]
        for number in values:
            if (low is not None and number < low) or (high is not None and number > high):
                bounds = f"at least {low}" if high is None else f"from {low} to {high}"
                raise HyperparameterError(f"{flag} must be {bounds}. Received: {number}")
        if field.name == "slice_range" and len(value) != 2:
            raise HyperparameterError(f"{flag} takes two positions. Received: {value!r}")

    def to_dictionary(self):
        """The fields as JSON knows them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dictionary(cls, values):
        """The inverse of `to_dictionary`.

        Raises:
            HyperparameterError: If fields are unknown or missing, or a value is out of range.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            odd = sorted(set(values) ^ names) if isinstance(values, dict) else type(values)
            raise HyperparameterError(f"unknown or missing hyperparameters: {odd}")
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


# What `train.py --preset` changes of the defaults; flags change it further.
PRESETS = {
    "default": {},
    "quality": {"epochs": 40, "prior_filters": 96, "prior_epochs": 20},
}


def _is(value, kind):
    """Whether a value is of a field's type: an integer will do for a float, NaN will not."""
    if kind is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def add_flags(parser, names=None, default=None):
    """Adds a flag for each field, or for each of `names`, to an `argparse` parser.

    Args:
        default: Text, what `--help` calls their default. `None`: the field's own.
    """
    groups, letters = {}, {int: "N", float: "X", str: "TEXT"}
    for field in dataclasses.fields(Hyperparameters):
        if names is not None and field.name not in names:
            continue
        group = field.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        flag, text = "--" + field.name.replace("_", "-"), field.metadata["help"].replace("%", "%%")
        if isinstance(field.default, bool):
            switch = {"action": argparse.BooleanOptionalAction, "default": argparse.SUPPRESS}
            groups[group].add_argument(flag, help=text, **switch)
            continue
        repeated = isinstance(field.default, tuple)
        shown = " ".join(map(str, field.default)) if repeated else field.default
        shown = default or shown
        kind = type(field.default[0] if repeated else field.default)
        groups[group].add_argument(
            flag,
            type=kind,
            nargs=(2 if field.name == "slice_range" else "+") if repeated else None,
            choices=field.metadata["choices"],
            default=argparse.SUPPRESS,
            metavar=None if field.metadata["choices"] else letters[kind],
            help=f"{text} (default: {shown})" if shown != "" else text,
        )


def add_data_dir(parser):
    """Adds `--data-dir`, whose default the environment can set, to an `argparse` parser."""
    parser.add_argument(
        "--data-dir",
        default=os.environ.get("OASIS_DATA_DIR", "data"),
        help="archives and prepared slices (default: OASIS_DATA_DIR of the environment, or data)",
    )


def hyperparameters_from_flags(arguments, base=None):
    """The hyperparameters that the parsed flags make, over `base` or the defaults."""
    names = {field.name for field in dataclasses.fields(Hyperparameters)}
    given = {k: v for k, v in vars(arguments).items() if k in names}
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return dataclasses.replace(base or Hyperparameters(), **given)
