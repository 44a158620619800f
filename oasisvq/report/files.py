"""Names the files of a report, and writes what it shows of new brains."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np

from oasisvq.core.files import read_json
from oasisvq.core.intensities import as_floats
from oasisvq.core.tables import write_table
from oasisvq.figures import save_pairs, save_pictures, save_rows
from oasisvq.runs.finished import REPORT

CLOSEST, SAMPLES = 8, 16  # brains that are shown
COPIES = {"whole": "copy", "half": "half a copy", "": "likeness"}  # above the closest
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
    """
    random = np.random.default_rng([seed, 2])
    rows = random.permutation(len(new.table))[:SAMPLES]
    save_pictures(as_floats(new.images[rows]), files.figure("samples"), sides)
    if shown is None:
        return
    table = shown["brains"]
    write_table(files.brains, table)
    order = table.assign(nobodys=table["copy"] == "").sort_values(
        ["nobodys", "likeness"], ascending=[True, False], kind="stable"
    )
    order = order.drop_duplicates("subject").index[:CLOSEST].to_numpy()  # copies first
    titles = [
        f"{COPIES[copy]} {likeness:.3f}"
        for copy, likeness in table.loc[order, ["copy", "likeness"]].to_numpy()
    ]
    nearest = as_floats(known.images[shown["rows"][order]])
    names = ["new"] * len(order)
    save_pairs(as_floats(new.images[order]), names, nearest, titles, files.figure("closest"), sides)
    count = min(len(MIXED_ROWS) * MIXED_COLUMNS, 2 * len(test.table), 2 * len(new.table))
    mixed, report["mixed_real"] = mix(new.images, test.images, count // 2 * 2, random)
    names = mixed_names(len(mixed))
    starts = range(0, len(mixed), MIXED_COLUMNS)
    rows, names = ([some[start:][:MIXED_COLUMNS] for start in starts] for some in (mixed, names))
    save_rows(rows, names, files.figure("mixed"), sides)


def pictures_of_brains(report, files):
    """Returns a dictionary from the caption to the path of each picture of new brains.

    Args:
        report: The report of `judge_brains`, which `save_brains` has seen.
        files: `ReportFiles`.
    """
    pictures = {"New brains, drawn at random": files.figure("samples")}
    if "mixed_real" in report:
        pictures |= {
            "Above, copies if there are any, then the new brains that are most like a real one "
            "that the generator may have copied; below, that real one. The number is how alike "
            "they are, of half a copy how alike the halves are": files.figure("closest"),
            f"Which are real? Half of them: {', '.join(report['mixed_real'])}": files.figure(
                "mixed"
            ),
        }
    return {caption: path for caption, path in pictures.items() if path.is_file()}


def report_on(folder):
    """Returns the path of the report on brains in a folder: not that of another folder."""
    name = f"judged_{folder.resolve().name}"
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    paths = (Path("runs") / name / REPORT for name in names)
    return next(path for path in paths if not _is_on_another(path, folder))


def _is_on_another(path, folder):
    """Tells whether a file is a report on brains in another folder than this one."""
    try:
        return Path(read_json(path)["generated"]).resolve() != folder.resolve()
    except FileNotFoundError:
        return False
    except (OSError, ValueError, LookupError, TypeError):  # something else lies there
        return True


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
        some = np.sort(random.permutation(len(images))[: count // 2])
        mixed[chosen] = as_floats(images[some])
    return mixed, [n for n, real in zip(mixed_names(count), is_real, strict=True) if real]


def mixed_names(count):
    """Returns names such as `A1`, by row and column."""
    names = [f"{row}{column + 1}" for row in MIXED_ROWS for column in range(MIXED_COLUMNS)]
    return names[:count]
