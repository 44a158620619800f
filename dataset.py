"""The `OASIS` dataset: slices of any source, split by subject and read in batches."""

import dataclasses
import functools
import hashlib
import math
from pathlib import Path

import numpy as np

from hyperparameters import DATA_DIR, DataConfig, Hyperparameters, add_data_dir
from oasisvq.core.arrays import array_on_disk
from oasisvq.core.configuration import Parser, check_new_file
from oasisvq.core.errors import COPY_WHOLE, DatasetError, HyperparameterError, RunFolderError
from oasisvq.core.files import sha256
from oasisvq.core.script import run_script
from oasisvq.core.words import counted
from oasisvq.data.conditions import CONDITIONS, SEXES
from oasisvq.data.sides import common_sides, sides_of
from oasisvq.data.sources.base import WHOLE, Shard
from oasisvq.data.splits import SPLITS, TEST_SLICES, Split

__all__ = ["CONDITIONS", "OASIS", "SEXES", "SPLITS", "Hyperparameters", "open_test_slices"]

BLOCK = 256  # slices in memory at a time


class OASIS:
    """Brain slices with their subjects, from any of the sources of `--dataset`.

    The first use makes `slices.npy`, `slices.csv` and `dataset.json` in a folder below `data_dir`;
    later uses with the same options read them again. `--dataset` can also name such a folder.

    Args:
        config: `DataConfig`: which source, which slices, and the shares of the split.
        data_dir: Folder for prepared slices. Defaults to `"data"`.
        image_shape: `(H, W)` in pixels. The slices are fitted to this size in a temporary file.
            Default: the largest height and width found.

    Attributes:
        slices: uint8 array `(N, H, W)`, memory-mapped; 255 stands for 1.0, the 99.8th percentile
            of the scan's pixels above 0.
        table: Data frame with one row per slice: subject, session, source, plane, index,
            position_mm, height and width before fitting, split, and the columns of the subject
            sheet (age, sex, cdr, …). NaN is unknown.
        description: The contents of `dataset.json`.
        people: Dictionary from the name of each subject who shows the same head as another to the
            name that they share.
        split: The `Split` by subject, with notes on who was moved so that no split is empty.
        folder: Path of the folder that holds these files.

    Raises:
        DatasetError: If the source cannot be used; the message says why.
        VolumeError: If one of its files cannot be read.
    """

    def __init__(self, config, data_dir=DATA_DIR, image_shape=None):
        # Not at the top: it takes a second, which `--help` does without.
        from oasisvq.data.prepare import fit_picture, prepare, read_prepared

        self.folder = prepare(config, Path(data_dir))
        self.slices, self.table, self.description, self.people = read_prepared(self.folder)
        if image_shape not in (None, self.image_shape):
            fitted = array_on_disk((len(self.slices), *image_shape))
            for row, picture in enumerate(self.slices):
                fitted[row] = fit_picture(picture, image_shape)
            self.slices = fitted
        # The slices of one split, saved by themselves, are fewer than their source had.
        whole = len(self.table) >= self.description.get("slices", 0)
        self.split = Split(self.table, config, self.people, whole)
        self.split.fill(self.description.get("source", self.folder.name), Path(data_dir))
        self.table["split"] = self.split.of_slices()

    @property
    def image_shape(self):
        """Returns the size of a slice, `(H, W)` in pixels."""
        return tuple(self.slices.shape[1:])

    def rows(self, split):
        """Returns the row numbers of a split's slices, or of all slices for `"all"`: `(n,)`."""
        return np.flatnonzero((self.table["split"] == split) | (split == "all"))

    def subjects(self, split):
        """Returns the names of a split's subjects, sorted."""
        return sorted(set(self.table["subject"].iloc[self.rows(split)]))

    def require(self, *splits):
        """Checks that each of these splits has subjects.

        Raises:
            DatasetError: If a split is empty; the message gives the counts and a remedy.
        """
        counts = {split: len(self.subjects(split)) for split in SPLITS}
        empty = next((split for split in splits if not counts[split]), None)
        if empty:
            lack = "subject left to train on" if empty == "train" else f"{empty} subject"
            raise DatasetError(
                f"{self.folder}: no {lack}; subjects by split: {counts}. "
                f"{self.split.remedy(empty, splits)}"
            )

    def images(self, rows):
        """Returns slices as input of the models: float32 `(n, H, W, 1)` in [0, 1]."""
        return self.slices[rows][..., None].astype(np.float32) / 255

    def read(self, rows):
        """Returns what `images` does, as a tensor, for an integer tensor of rows."""
        tf = _tensorflow()
        slices = tf.numpy_function(lambda chosen: self.slices[chosen], [rows], tf.uint8)
        slices = tf.ensure_shape(slices, (None, *self.image_shape))
        return tf.cast(slices, tf.float32)[..., None] / 255

    def batches(self, split, batch_size):
        """Returns a `tf.data.Dataset` of float32 `(B, H, W, 1)` in [0, 1], in the order of `rows`.

        Only the slices of a few batches are in memory at a time.
        """
        rows = _tensorflow().data.Dataset.from_tensor_slices(self.rows(split))
        return rows.batch(batch_size).map(self.read, num_parallel_calls=2).prefetch(2)

    def blocks(self, rows):
        """Yields the uint8 slices of these rows, one block in memory at a time."""
        for start in range(0, len(rows), BLOCK):
            yield self.slices[rows[start : start + BLOCK]]

    @functools.cached_property
    def variance(self):
        """Returns the variance of all training pixels in [0, 1]."""
        blocks = self.blocks(self.rows("train"))
        counts = sum((np.bincount(block.ravel(), minlength=256) for block in blocks), np.zeros(256))
        levels = np.arange(256) / 255
        mean = np.average(levels, weights=counts)
        return float(np.average((levels - mean) ** 2, weights=counts))

    def mean_slices(self):
        """Returns the mean training slice at each position, by its key, and over `"all"`.

        Each is float32 `(H, W)` in [0, 1]; for the keys see `position_keys`.
        """
        rows = self.rows("train")
        sums, counts = {}, {}
        for row, key in zip(rows, self.position_keys(rows), strict=True):
            for name in {key, "all"}:
                sums[name] = sums.get(name, 0) + self.slices[row].astype(np.float64)
                counts[name] = counts.get(name, 0) + 1
        return {name: (sums[name] / counts[name] / 255).astype(np.float32) for name in sums}

    def position_keys(self, rows):
        """Returns the position of each slice as text, `"axial 12 mm"` in the volume's coordinates.

        A picture has its number, `" 95"`, or `"all"` if that is unknown too.
        """

        def key(plane, index, position):
            if not math.isnan(position):
                return f"{plane} {math.floor(position + 0.5)} mm"  # `round` goes to even
            return "all" if math.isnan(index) else f"{plane} {int(index)}"

        columns = (self.table[name].iloc[rows] for name in ("plane", "index", "position_mm"))
        return [key(*place) for place in zip(*columns, strict=True)]

    @property
    def position_column(self):
        """Returns the column with the slices' positions: in mm if any is known in mm."""
        return "index" if self.table["position_mm"].isna().all() else "position_mm"

    def conditions(self, rows):
        """Returns what the prior may know of each slice, the `CONDITIONS`: float32 `(n, 4)`.

        They are its position (see `position_column`), the subject's age in years, sex as in
        `SEXES`, and CDR; NaN is unknown.
        """
        table = self.labels(rows).assign(sex=lambda table: table["sex"].map(SEXES))
        return np.stack([table[name].to_numpy(np.float32) for name in CONDITIONS], axis=1)

    def labels(self, rows):
        """Returns these rows of `table` with an additional column `position`."""
        table = self.table.iloc[rows]
        return table.assign(position=table[self.position_column])

    def persons(self, rows):
        """Returns whom each slice shows, near-duplicates under one name: `(n,)` of text."""
        return np.array([self.people.get(name, name) for name in self.table["subject"].iloc[rows]])

    def sides(self, rows):
        """Returns the letters on the left and the right of each slice, see `sides_of`."""
        return sides_of(self.table.iloc[rows])

    @property
    def common_sides(self):
        """Returns the letters on the left and the right of all slices, or `UNKNOWN`."""
        return common_sides(sides_of(self.table))

    def subject_splits(self):
        """Returns a table with the name and the split of each subject."""
        return self.table[["subject", "split"]].drop_duplicates().sort_values("subject")

    def identity(self):
        """Returns what identifies the slices: source, counts, SHA-256 of files and of the split."""
        split = self.subject_splits().to_csv(index=False).encode()
        return {
            "source": self.description["source"],
            **{f"{name} subjects": len(self.subjects(name)) for name in SPLITS},
            **{f"{name} slices": len(self.rows(name)) for name in SPLITS},
            "sha256 of slices.npy": sha256(self.folder / "slices.npy"),
            "sha256 of slices.csv": sha256(self.folder / "slices.csv"),
            "sha256 of the split": hashlib.sha256(split).hexdigest(),
        }

    @property
    def pixel_size(self):
        """Returns the side of a pixel in mm; `None` if it is unknown, as of pictures."""
        return self.description.get("pixel_size_mm")

    def refitted(self, rows):
        """Returns how many of these slices had another size, and so were padded or shrunk."""
        sizes = self.table[["height", "width"]].iloc[rows].to_numpy()
        return int((sizes != self.image_shape).any(axis=1).sum())


def open_test_slices(run):
    """Returns the test subjects' slices that a run folder keeps, as an `OASIS` dataset.

    Raises:
        RunFolderError: If they are missing or damaged.
    """
    folder = run.folder / TEST_SLICES
    try:
        # The globs are about the files from which the slices were made.
        own = {"dataset": str(folder), "include": (), "exclude": ()}
        slices = OASIS(dataclasses.replace(run.hyperparameters.data, **own))
        if slices.image_shape != run.image_shape or not len(slices.table):
            raise DatasetError(f"{len(slices.table)} slices of {slices.image_shape} pixels")
        return slices
    except DatasetError as error:
        raise RunFolderError(
            f"{folder}: not the test slices of a run ({error}). {COPY_WHOLE}"
        ) from error


def _tensorflow():
    """Returns TensorFlow; it is imported here because `dataset.py` does without it."""
    import tensorflow

    return tensorflow


def describe(dataset, most=5):
    """Returns a text with the number of subjects and slices, their size and their splits.

    If people are here under several names, a second line names up to `most` of them. Further lines
    say who was moved so that no split is empty.
    """
    parts = ", ".join(
        f"{split} {len(dataset.subjects(split))} ({len(dataset.rows(split)):,})" for split in SPLITS
    )
    subjects = dataset.subject_splits()["subject"]
    people = subjects.groupby(subjects.map(lambda name: dataset.people.get(name, name)), sort=False)
    joined = [" and ".join(names) for _, names in people if len(names) > 1]
    height, width = dataset.image_shape
    text = f"{counted(len(subjects), 'subject')}, {counted(len(dataset.table), 'slice')} of "
    text += f"{height}x{width}: {parts}"
    if joined:
        text += f"\nNear-duplicates, kept in one split: {'; '.join(joined[:most])}"
    if len(joined) > most:
        text += f"; {len(joined) - most} more in dataset.json"
    if joined:
        for way, known in dataset.description.get("near_duplicates_by", {}).items():
            text += (
                f"\n  compared {way}: alike from {known['threshold']} up; of {known['pairs']:,} "
                f"pairs, the next below has {known['highest_below']}"
            )
    return "\n".join([text, *dataset.split.notes])


def preview_rows(dataset, count=6):
    """Returns rows of up to `count` subjects of each collection, all at the middle position."""
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


def main():
    """Makes the slices of a source, so that `train.py` finds them ready."""
    parser = Parser(description=main.__doc__)
    add_data_dir(parser)
    Hyperparameters.add_flags(parser, [field.name for field in dataclasses.fields(DataConfig)])
    parser.add_argument(
        "--list",
        action="store_true",
        help="show what a folder holds by names and headers alone, what is left out and why, and "
        "slice nothing",
    )
    parser.add_argument("--output", help="with --list: a .csv to write, with a row for each image")
    parser.add_argument(
        "--preview", help="a .png to draw: subjects of each collection at one position"
    )
    parser.add_argument(
        "--shard",
        metavar="N/COUNT",
        help="make only this share of the scans, as 3/16: for several machines that share one "
        "--data-dir. The process that finds all shares made joins them",
    )
    arguments = parser.parse_args()
    config = Hyperparameters().with_flags(arguments).data
    shard = Shard.parse(arguments.shard)
    if arguments.preview and not arguments.preview.lower().endswith(".png"):
        raise HyperparameterError(f"--preview must name a .png. Received: {arguments.preview}")
    for flag in ("preview", "output"):
        check_new_file(f"--{flag}", getattr(arguments, flag))
    if arguments.output and not arguments.list:
        raise HyperparameterError("--output is written with --list only: give --list too")
    if arguments.output and not arguments.output.lower().endswith(".csv"):
        raise HyperparameterError(f"--output must name a .csv. Received: {arguments.output}")

    from oasisvq.data.listing import check_listing, describe_source, write_listing
    from oasisvq.data.prepare import open_source, prepare
    from oasisvq.figures import save_rows

    if arguments.output:
        check_listing(Path(arguments.output))
    if arguments.list:
        source = open_source(config, Path(arguments.data_dir))
        print("\n".join(describe_source(source, config, Path(arguments.data_dir))))
        if arguments.output:
            write_listing(source.inventory(), Path(arguments.output))
        entries = source.inventory()
        if entries and not any(entry.taken for entry in entries):
            problem = next(entry.problem for entry in entries if entry.problem)
            raise DatasetError(f"{problem}. {config.dataset} holds no image that can be read")
        return
    if shard != WHOLE and not prepare(config, Path(arguments.data_dir), shard):
        print(f"Shard {arguments.shard} is made. Scans of other shards are still missing")
        return
    dataset = OASIS(config, arguments.data_dir)
    print(f"{dataset.folder}: {describe(dataset)}")
    if arguments.preview:
        sources = preview_rows(dataset)
        pictures = [dataset.images(rows)[..., 0] for rows in sources.values()]
        titles = [
            [f"{source}\n{name}" for name in dataset.table["subject"].iloc[rows]]
            for source, rows in sources.items()
        ]
        sides = [dataset.sides(rows) for rows in sources.values()]
        save_rows(pictures, titles, Path(arguments.preview), sides)
        print(f"{arguments.preview}: {dataset.position_keys(sources[min(sources)])[0]}")


run = functools.partial(run_script, main)  # the command oasisvq-dataset

if __name__ == "__main__":
    run()
