"""Names the files of a report, and writes what it shows of new brains."""

import dataclasses
from pathlib import Path

import numpy as np

from oasisvq.core.tables import write_table
from oasisvq.figures import save_pairs, save_pictures, save_rows
from oasisvq.runs.finished import REPORT

CLOSEST, SAMPLES = 8, 16  # brains that are shown
MIXED_ROWS, MIXED_COLUMNS = "ABCD", 8


@dataclasses.dataclass(frozen=True)
class ReportFiles:
    """The files of a report; all bear its name.

    Attributes:
        output: The path of the report, `.json`.
        figures: The folder of its pictures.
    """

    output: Path
    figures: Path

    def figure(self, name):
        """Returns the path of a picture."""
        return self.figures / f"{self.output.stem}_{name}.png"

    @property
    def slices(self):
        """Returns the path of the table of each real slice's scores."""
        return self.output.with_suffix(".csv")

    @property
    def brains(self):
        """Returns the path of the table of the new brains."""
        return self.output.with_name(f"{self.output.stem}_brains.csv")

    @property
    def page(self):
        """Returns the path of the page to read."""
        own = self.output.name == REPORT
        return self.output.with_name("report.html") if own else self.output.with_suffix(".html")


def save_brains(report, shown, new, test, known, files, sides, seed):
    """Writes the table and the pictures of new brains that were judged.

    Args:
        report: The report of `judge_brains`; it is told which pictures of the mixed ones are real.
        shown: What `judge_brains` returns beside it, or `None` after too few brains.
        new, test, known: The `Brains` that were judged.
        files: `ReportFiles`.
        sides: The letters on the left and the right of all slices, see `save_rows`.
        seed: Integer, chooses and mixes the pictures.

    Returns:
        Dictionary from the caption to the path of each picture.
    """
    random = np.random.default_rng([seed, 2])
    pictures = {"New brains, drawn at random": files.figure("samples")}
    rows = random.permutation(len(new.table))[:SAMPLES]
    save_pictures(new.images[rows] / 255, files.figure("samples"), sides)
    if shown is None:
        return pictures
    write_table(files.brains, shown["brains"])
    likeness = shown["brains"]["likeness"].to_numpy()
    order = np.argsort(-likeness, kind="stable")[:CLOSEST]
    titles = [f"likeness {likeness[row]:.3f}" for row in order]
    nearest = known.images[shown["rows"][order]] / 255
    names = ["new"] * len(order)
    save_pairs(new.images[order] / 255, names, nearest, titles, files.figure("closest"), sides)
    count = min(len(MIXED_ROWS) * MIXED_COLUMNS, 2 * len(test.table), 2 * len(new.table))
    mixed, report["mixed_real"] = mix(new.images, test.images, count // 2 * 2, random)
    names = mixed_names(len(mixed))
    starts = range(0, len(mixed), MIXED_COLUMNS)
    rows, names = ([some[start:][:MIXED_COLUMNS] for start in starts] for some in (mixed, names))
    save_rows(rows, names, files.figure("mixed"), sides)
    return {
        **pictures,
        "Above, the new brains that are most like a real one that the generator may have copied; "
        "below, that real one": files.figure("closest"),
        f"Which are real? Half of them: {', '.join(report['mixed_real'])}": files.figure("mixed"),
    }


def mix(new, real, count, random):
    """Mixes new and real slices, half of each.

    Args:
        new, real: uint8 arrays `(n, H, W)` and `(m, H, W)`.
        count: Integer, an even number.
        random: `numpy.random.Generator`.

    Returns:
        The slices `(count, H, W)` in [0, 1], and the names of the real ones, see `mixed_names`.
    """
    is_real = random.permutation(np.arange(count) % 2 == 0)
    mixed = np.empty((count, *new.shape[1:]), np.float32)
    for chosen, images in ((is_real, real), (~is_real, new)):
        mixed[chosen] = images[np.sort(random.permutation(len(images))[: count // 2])] / 255
    return mixed, [n for n, real in zip(mixed_names(count), is_real, strict=True) if real]


def mixed_names(count):
    """Returns names such as `A1`, by row and column."""
    names = [f"{row}{column + 1}" for row in MIXED_ROWS for column in range(MIXED_COLUMNS)]
    return names[:count]
