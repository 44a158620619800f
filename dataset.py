"""The `OASIS` dataset: any source as slices on disk, split by subject, in batches."""

import dataclasses
import functools
import hashlib
import json
import math
import tempfile
from pathlib import Path

import numpy as np
import pandas

from hyperparameters import (
    Hyperparameters,
    Parser,
    add_data_dir,
    add_flags,
    hyperparameters_from_flags,
)
from oasisvq.core.errors import DatasetError, HyperparameterError
from oasisvq.core.files import sha256, whole_file, write_array, write_text
from oasisvq.core.script import run_script
from oasisvq.data.near_duplicates import near_duplicates
from oasisvq.data.prepare import TEXT_COLUMNS, fit_picture, prepare
from oasisvq.data.sources.base import WHOLE, Shard

__all__ = ["OASIS", "SPLITS", "Hyperparameters"]

SPLITS = ("train", "validation", "test")
PREPARED = ("slices.npy", "slices.csv", "dataset.json")  # the files of a prepared folder
CONDITIONS = ("position", "age", "sex", "cdr")
SEXES = {"F": 0.0, "M": 1.0}
NUMBERS = ("index", "position_mm", "height", "width", "age", "cdr")
NEEDED_COLUMNS = {"sex", *TEXT_COLUMNS, *NUMBERS}
BLOCK = 256  # slices in memory at a time
# Near-duplicates under two names, dealt out as one subject also where only one of them is at hand.
SAME_PERSON = {"OAS1_0193": "OAS1_0079"}


class OASIS:
    """Brain slices with their subjects, from any of the sources of `--dataset`.

    The first use makes `slices.npy`, `slices.csv` and `dataset.json` in a
    folder of their own below `data_dir`; later uses with the same options read
    them again. A folder that holds these three files is itself a source.

    Args:
        hyperparameters: `Hyperparameters`; which source, which slices, and
            which share of the subjects for validation and test.
        data_dir: Folder for prepared slices.
        image_shape: `(H, W)` in pixels to fit the slices to (in a temporary file), for a
            model that has a size already. Default: the largest height and width
            found.

    Attributes:
        slices: uint8 array `(N, H, W)`, memory-mapped; 255 stands for 1.0, the 99.8th
            percentile of the scan's pixels above 0.
        table: A row a slice: subject, session, source, plane, index,
            position_mm, height and width before fitting, split, and the
            columns of the subject sheet (age, sex, cdr, …). Blank is unknown.
        description: The contents of `dataset.json`.
        people: Dictionary from each subject that shows the same head as another to the name
            under which both are dealt out.
        folder: Where these lie.

    Raises:
        DatasetError: If the source cannot be used; the message says why.
        VolumeError: If one of its files cannot be read.
    """

    def __init__(self, hyperparameters, data_dir="data", image_shape=None):
        source = Path(hyperparameters.dataset)
        ready = is_prepared(source)
        self.folder = source if ready else prepare(hyperparameters, Path(data_dir))
        try:
            self.slices = np.load(self.folder / "slices.npy", mmap_mode="r")
            self.table = pandas.read_csv(self.folder / "slices.csv", dtype=TEXT_COLUMNS)
            self.description = json.loads((self.folder / "dataset.json").read_text())
            missing = NEEDED_COLUMNS - set(self.table)
            if missing or not isinstance(self.description, dict):
                raise ValueError(f"missing: {sorted(missing) or 'the facts of dataset.json'}")
            for column in NUMBERS:
                self.table[column] = pandas.to_numeric(self.table[column])
            if not set(self.table["split"].fillna("")) <= {*SPLITS, ""}:
                raise ValueError(f"unknown split: {set(self.table['split'])}")
            found = self.description.get("near_duplicates")
            self.people = join_people(pair["subjects"] for pair in found or ())
        # Of a damaged header NumPy also raises what Python's tokenizer and parser do.
        except Exception as error:
            raise DatasetError(
                f"{self.folder}: not a prepared dataset ({error}). Delete the folder to have it "
                "made again"
            ) from error
        if (
            self.slices.ndim != 3
            or self.slices.dtype != np.uint8
            or len(self.table) != len(self.slices)
        ):
            raise DatasetError(
                f"{self.folder}: slices.npy and slices.csv do not belong together "
                f"({self.slices.shape} {self.slices.dtype}, {len(self.table)} rows). "
                "Delete the folder to have it made again"
            )
        if found is None:  # made by an earlier version
            found = near_duplicates(self.slices, self.table)
            self.people = join_people(pair["subjects"] for pair in found)
        if image_shape not in (None, self.image_shape):
            fitted = array_on_disk((len(self.slices), *image_shape))
            for row, picture in enumerate(self.slices):
                fitted[row] = fit_picture(picture, image_shape)
            self.slices = fitted
        self.table = self.table.fillna(dict.fromkeys(TEXT_COLUMNS, ""))
        self.table["split"] = _split(self.table, hyperparameters, self.people)

    @property
    def image_shape(self):
        """`(H, W)` in pixels."""
        return tuple(self.slices.shape[1:])

    def rows(self, split):
        """Row numbers of a split's slices, `(n,)`; of all slices for `"all"`."""
        chosen = self.table["split"] == split
        return np.flatnonzero(chosen | (split == "all"))

    def subjects(self, split):
        """Sorted names of a split's subjects."""
        return sorted(set(self.table["subject"].iloc[self.rows(split)]))

    def require(self, *splits):
        """Refuses to go on without subjects in each split.

        Raises:
            DatasetError: If one is empty; the message gives the counts.
        """
        counts = {split: len(self.subjects(split)) for split in SPLITS}
        for split in splits:
            if not counts[split]:
                raise DatasetError(
                    f"{self.folder}: no {split} subject; its {sum(counts.values())} subjects "
                    f"fall {counts}. Raise --{split}-fraction, deal them out anew with "
                    "--split-seed, add subjects (to a folder for that split, if the source has "
                    "such folders), or say with --subject-pattern which part of a name is the "
                    "subject"
                    if split != "train"
                    else f"{self.folder}: no subject left to train on; its subjects fall "
                    f"{counts}. Lower --validation-fraction and --test-fraction, deal them out "
                    "anew with --split-seed, or add subjects"
                )

    def images(self, rows):
        """Slices as the models take them: float32 `(n, H, W, 1)` in [0, 1]."""
        return self.slices[rows][..., None].astype(np.float32) / 255

    def read(self, rows):
        """`images` for TensorFlow: rows as an integer tensor `(n,)` to `(n, H, W, 1)` in [0, 1]."""
        import tensorflow as tf  # not at the top: slices are made without it

        slices = tf.numpy_function(lambda chosen: self.slices[chosen], [rows], tf.uint8)
        slices = tf.ensure_shape(slices, (None, *self.image_shape))
        return tf.cast(slices, tf.float32)[..., None] / 255

    def batches(self, split, batch_size):
        """A `tf.data.Dataset` of float32 `(B, H, W, 1)` in [0, 1], in the order of `rows(split)`.

        Only the slices of the current batches are in memory.
        """
        import tensorflow as tf

        rows = tf.data.Dataset.from_tensor_slices(self.rows(split))
        return rows.batch(batch_size).map(self.read, num_parallel_calls=2).prefetch(2)

    def variance(self):
        """Variance of the training pixels in [0, 1], measured over all of them, once."""
        return self._variance

    @functools.cached_property
    def _variance(self):
        counts = np.zeros(256)
        rows = self.rows("train")
        for start in range(0, len(rows), BLOCK):
            block = self.slices[rows[start : start + BLOCK]]
            counts += np.bincount(block.ravel(), minlength=256)
        levels = np.arange(256) / 255
        mean = np.average(levels, weights=counts)
        return float(np.average((levels - mean) ** 2, weights=counts))

    def mean_slices(self):
        """Mean training slices: one for each known index, and one over all.

        Returns:
            Dictionary from plane-and-index keys (see `position_keys`) and
            from `"all"` to float32 `(H, W)` in [0, 1].
        """
        rows = self.rows("train")
        keys = self.position_keys(rows)
        sums, counts = {}, {}
        for row, key in zip(rows, keys, strict=True):
            for name in {key, "all"}:
                sums[name] = sums.get(name, 0) + self.slices[row].astype(np.float64)
                counts[name] = counts.get(name, 0) + 1
        return {name: (sums[name] / counts[name] / 255).astype(np.float32) for name in sums}

    def position_keys(self, rows):
        """Where each slice lies, as text: `"axial 12 mm"` in the volume's coordinates;
        for pictures `" 95"`, their number; `"all"` if that is unknown too."""
        columns = ("plane", "index", "position_mm")
        table = self.table.iloc[rows]
        return [
            f"{plane} {math.floor(position + 0.5)} mm"  # not `round`: it joins halves to even
            if not pandas.isna(position)
            else "all"
            if pandas.isna(index)
            else f"{plane} {int(index)}"
            for plane, index, position in zip(*(table[name] for name in columns), strict=True)
        ]

    @property
    def position_column(self):
        """Which column says where slices lie: in mm if that is known of any, else their number."""
        return "index" if self.table["position_mm"].isna().all() else "position_mm"

    def conditions(self, rows):
        """What the prior may know of each slice: float32 `(n, 4)`, the columns of `CONDITIONS`.

        Position, see `position_column`; age in years; sex, 0 female and 1 male;
        CDR. NaN is unknown.
        """
        table, place = self.table.iloc[rows], self.position_column
        columns = {"position": table[place], "age": table["age"], "cdr": table["cdr"]}
        columns["sex"] = table["sex"].map(SEXES)
        return np.stack([columns[name].to_numpy(np.float32) for name in CONDITIONS], axis=1)

    def labels(self, rows):
        """The rows of `table` of these slices, with a column `position`, see `position_column`."""
        table = self.table.iloc[rows]
        return table.assign(position=table[self.position_column])

    def subject_splits(self):
        """A row a subject: its name, and its split."""
        pairs = self.table[["subject", "split"]].drop_duplicates()
        return pairs.sort_values("subject")

    def identity(self):
        """What the slices are: their source, how many, and the SHA-256 of files and split."""
        split = self.subject_splits().to_csv(index=False).encode()
        return {
            "source": self.description["source"],
            **{f"{name} subjects": len(self.subjects(name)) for name in SPLITS},
            **{f"{name} slices": len(self.rows(name)) for name in SPLITS},
            "sha256 of slices.npy": sha256(self.folder / "slices.npy"),
            "sha256 of slices.csv": sha256(self.folder / "slices.csv"),
            "sha256 of the split": hashlib.sha256(split).hexdigest(),
        }

    def refitted(self, rows):
        """How many of these slices had another size and were padded or shrunk."""
        sizes = self.table[["height", "width"]].iloc[rows].to_numpy()
        return int((sizes != self.image_shape).any(axis=1).sum())

    def save_split(self, split, folder):
        """Copies a split's slices to `folder`, which is then a source of its own."""
        rows = self.rows(split)
        starts = range(0, len(rows), BLOCK)
        blocks = (self.slices[rows[start : start + BLOCK]] for start in starts)
        write_array(folder / "slices.npy", (len(rows), *self.image_shape), blocks)
        with whole_file(folder / "slices.csv") as partial:
            self.table.iloc[rows].to_csv(partial, index=False)
        write_text(folder / "dataset.json", self.description)


def array_on_disk(shape):
    """A uint8 array of zeros, memory-mapped from a temporary file that goes when the array goes:
    tens of thousands of slices need not be in memory."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=tuple(shape))


def is_prepared(folder):
    """Whether a folder holds slices made by an earlier use, or by `save_split`."""
    return all((folder / name).is_file() for name in PREPARED)


def _split(table, hyperparameters, people):
    """Each slice's split: the source's own if it has one, else by the subject's name.

    Subjects that are one of `people` come into one split; if the source's own has them in
    several, into the most trained on, so that nothing scored was trained on.

    Raises:
        DatasetError: If the source puts one subject into two splits, or only
            some slices into any.
    """
    ready_made = table.loc[table["split"] != "", ["subject", "split"]].drop_duplicates()
    twice = ready_made["subject"][ready_made["subject"].duplicated()]
    if len(twice):
        raise DatasetError(
            f"subject {twice.iloc[0]} lies in more than one of the source's train, validate and "
            "test folders, and so would be trained on and scored. Move its slices into one"
        )
    unknown = table.loc[table["split"] == "", "subject"]
    if len(unknown) and len(ready_made):
        raise DatasetError(
            f"slices of subject {unknown.min()} lie in none of the source's train, validate and "
            "test folders, but others do. Move them into one"
        )
    names = table["subject"].map(lambda subject: people.get(subject, subject))
    if not len(ready_made):
        return [subject_split(name, hyperparameters) for name in names]
    return [SPLITS[n] for n in table["split"].map(SPLITS.index).groupby(names).transform("min")]


def join_people(pairs):
    """Dictionary from each subject of some pairs, and of `SAME_PERSON`, to the first name of all
    that it is paired with, directly or through others."""
    people = {}
    for pair in [*pairs, *SAME_PERSON.items()]:
        one, other = sorted(people.get(subject, subject) for subject in pair)
        joined = {*pair, other, *(name for name, first in people.items() if first == other)}
        people |= dict.fromkeys(joined, one)
    return people


def person(subject):
    """The name under which a subject is dealt out: one for both names of near-duplicates."""
    return SAME_PERSON.get(subject, subject)


def subject_split(subject, hyperparameters):
    """The split of a subject, from a hash of its name: adding subjects moves nobody, but for
    near-duplicates of a name that comes before theirs."""
    name = f"{hyperparameters.split_seed}:{person(subject)}"
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big") / 2**48  # [0, 1)
    if place < hyperparameters.test_fraction:
        return "test"
    if place < hyperparameters.test_fraction + hyperparameters.validation_fraction:
        return "validation"
    return "train"


def describe(dataset):
    """How many subjects and slices, of what size, in which split; a line more if some are one."""
    parts = ", ".join(
        f"{split} {len(dataset.subjects(split))} ({len(dataset.rows(split)):,})" for split in SPLITS
    )
    height, width = dataset.image_shape
    return (
        f"{dataset.table['subject'].nunique()} subjects, {len(dataset.table):,} slices of "
        f"{height}x{width}: {parts}{_describe_people(dataset)}"
    )


def _describe_people(dataset, most=5):
    """The subjects here that show one head, or nothing."""
    people = {}
    for subject in dataset.subjects("all"):
        people.setdefault(dataset.people.get(subject, subject), []).append(subject)
    joined = [" and ".join(names) for names in people.values() if len(names) > 1]
    more = f"; {len(joined) - most} more in dataset.json" if len(joined) > most else ""
    line = f"\nNear-duplicates, kept in one split: {'; '.join(joined[:most])}{more}"
    return line if joined else ""


def main():
    """Makes the slices of a source, for `train.py` to find them ready."""
    parser = Parser(description=main.__doc__)
    add_data_dir(parser)
    groups = {field.name: field.metadata["group"] for field in dataclasses.fields(Hyperparameters)}
    add_flags(parser, [name for name, group in groups.items() if group == "data"])
    parser.add_argument(
        "--preview", help="a .png to draw: subjects of each collection, at one position"
    )
    parser.add_argument(
        "--shard", metavar="N/COUNT", help="make only this share of the scans, as 3/16: for "
        "several machines with one --data-dir. Who finds all made puts them together"
    )  # fmt: skip
    arguments = parser.parse_args()
    shard = read_shard(arguments.shard)
    if arguments.preview and not arguments.preview.lower().endswith(".png"):
        raise HyperparameterError(f"--preview must name a .png. Received: {arguments.preview}")
    hyperparameters = hyperparameters_from_flags(arguments)
    to_make = shard != WHOLE and not is_prepared(Path(hyperparameters.dataset))
    if to_make and not prepare(hyperparameters, Path(arguments.data_dir), shard):
        print(f"Shard {arguments.shard} is made. Scans of other shards are missing still")
        return
    dataset = OASIS(hyperparameters, arguments.data_dir)
    print(f"{dataset.folder}: {describe(dataset)}")
    if arguments.preview:
        from oasisvq.figures import save_rows

        sources = preview_rows(dataset)
        pictures = [dataset.images(rows)[..., 0] for rows in sources.values()]
        titles = [
            [f"{source} {name}" for name in dataset.table["subject"].iloc[rows]]
            for source, rows in sources.items()
        ]
        save_rows(pictures, titles, Path(arguments.preview))
        print(f"{arguments.preview}: {dataset.position_keys(sources[min(sources)])[0]}")


def read_shard(text):
    """The `Shard` that `--shard` names; all, without the flag."""
    if text is None:
        return WHOLE
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return Shard(int(number), int(count))
    raise HyperparameterError(
        f"--shard must be a number and how many there are, from 1/1 up, as 3/16. Received: {text}"
    )


def preview_rows(dataset, count=6):
    """For each collection, the rows of up to `count` subjects' slices at its middle position."""
    table = dataset.table
    places = table["position_mm"].fillna(table["index"]).fillna(0)
    middle = places.iloc[(places - places.median()).abs().argmin()]
    nearest = (places - middle).abs().sort_values(kind="stable").index
    rows = {}
    for source, slices in table.loc[nearest].groupby("source"):
        subjects = slices.drop_duplicates("subject").sort_values("subject").index.to_numpy()
        chosen = np.linspace(0, len(subjects) - 1, min(count, len(subjects))).round().astype(int)
        rows[source] = subjects[chosen]
    return rows


if __name__ == "__main__":
    run_script(main)
