"""Counts which copies, other visits and other cuts of a head are found, and who is joined wrongly.

    python tests/experiments/near_duplicates.py --data path/to/data [--half 1]

The thresholds of `oasisvq/data/near_duplicates.py` were set with --half 0, every second person.
DATA holds slices and volumes of OASIS-1 and the middle slices of OASIS-2's visits. Of each data
set, all heads are compared, and their changed copies, or visits, under other names.
"""

import argparse
import io
from pathlib import Path

import _project  # noqa: F401
import nibabel
import numpy as np
import pandas
from PIL import Image
from scipy import ndimage

from oasisvq.data.near_duplicates import compare_subjects, group_heads
from oasisvq.data.prepare import fit_picture
from oasisvq.data.volumes import cut_slice, read_volume

ALIKE = ("OAS1_0079", "OAS1_0193")  # near-duplicates of one another, in the data as published


def as_jpeg(picture):
    """Returns a picture as it comes out of a JPEG of quality 50."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def enlarged(picture):
    """Returns a picture 3% larger, cut to the same size."""
    middle = (np.array(picture.shape) - 1) / 2
    return ndimage.affine_transform(picture, np.eye(2) / 1.03, middle - middle / 1.03, order=1)


def as_small(picture, side=44):
    """Returns one small slice `(1, 44, 44)` of a picture."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BOX))[None]


CHANGES = {
    "moved": lambda picture: np.roll(picture, (3, -4), (0, 1)),
    "turned 2 degrees": lambda picture: ndimage.rotate(picture, 2, reshape=False, order=1),
    "3% larger": enlarged,
    "blurred": lambda picture: ndimage.gaussian_filter(picture, 1),
    "contrast": lambda picture: np.uint8(255 * (picture / 255) ** 1.3),
    "JPEG": as_jpeg,
    "mirrored": lambda picture: picture[:, ::-1],
}


def scaled(pictures):
    """Returns a scan's pictures as uint8, 255 being the 99.8th percentile of what is above 0."""
    pictures = np.stack(pictures).astype(np.float32)
    full_scale = np.percentile(pictures[pictures > 0], 99.8)
    return np.uint8(np.round((pictures / full_scale).clip(0, 1) * 255))


def read_pictures(folder, suffix, half):
    """Returns each person's slices of OASIS-1 `(S, H, W)`, by name."""
    folders = sorted(folder.glob("OAS1_*_MR1"))[half::2]
    read = {
        f.name[:9]: sorted(f.glob(f"*{suffix}"), key=lambda p: int(p.suffixes[0][1:]))
        for f in folders
    }
    return {
        n: scaled([np.asarray(Image.open(p).convert("L")) for p in ps]) for n, ps in read.items()
    }


def table_of(names, count, places, source="a", column="index"):
    """Returns a table with a row for each of `count` slices of each name."""
    columns = {"subject": np.repeat(names, count), "session": "", "plane": "p", "source": source}
    table = pandas.DataFrame(columns | {"index": None, "position_mm": None})
    return table.assign(**{column: np.tile(places, len(names))})


def person(name):
    """Returns whose head a name shows: visits and copies come after the first nine letters."""
    return ALIKE[0] if name.startswith(ALIKE[1]) else name[:9]


def report(title, slices, table):
    """Prints how many pairs of one head are found, and how many of two heads are joined."""
    found = compare_subjects(slices, table)
    pairs = [tuple(map(person, pair["subjects"])) for pair in found.pairs]
    right = sum(one == other for one, other in pairs)
    persons = table["subject"].drop_duplicates().map(person)
    counts = persons.value_counts()
    there = int((counts * (counts - 1) // 2).sum())
    at = [figures["threshold"] for figures in found.figures.values()]
    share = f"{right}/{there} ({right / max(there, 1):.0%})"
    print(f"{title:42} heads {len(counts):4} found {share:16} wrong {len(pairs) - right:3} at {at}")


def report_copies(title, heads, places):
    """Reports heads `{name: (S, H, W)}` compared with their copies, for each change."""
    pictures = np.concatenate([heads[name] for name in heads])
    for name, change in CHANGES.items():
        names = [*heads, *(f"{head} copy" for head in heads)]
        slices = np.concatenate([pictures, [change(picture) for picture in pictures]])
        report(f"{title}, {name}", slices, table_of(names, len(places), places))


def report_groups(title, heads, step):
    """Prints how well pictures without names are grouped into heads, of every `step`-th slice."""
    pictures = np.concatenate([slices[::step] for slices in heads.values()])
    truth = np.repeat(np.arange(len(heads)), len(pictures) // len(heads))
    found = group_heads(pictures)
    counts = pandas.crosstab(truth, found.numbers).to_numpy()
    joined, there, made = ((c * (c - 1) // 2).sum() for c in (counts, counts.sum(1), counts.sum(0)))
    # Groups are dealt out at random, one in ten is held out.
    held_out = np.random.default_rng(0).random((200, counts.shape[1])) < 0.1
    tested = held_out @ counts.T
    leaked = ((tested > 0) & (tested < counts.sum(1))).sum() / max((tested > 0).sum(), 1)
    split, mixed = ((counts > 0).sum(axis) > 1 for axis in (1, 0))
    print(
        f"{title}, {step} mm apart: recall {joined / max(there, 1):.1%}, precision "
        f"{joined / max(made, 1):.1%}, heads in several groups {split.mean():.1%}, groups of "
        f"several heads {mixed.mean():.1%}, tested heads with slices in training {leaked:.1%}; "
        f"{found.figures}"
    )


def main():
    """Prints a line for each data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--half", type=int, choices=(0, 1), default=1)
    arguments = parser.parse_args()
    data, half = arguments.data, arguments.half
    coronal = read_pictures(data / "oasis1_coronal", ".png", half)
    slab = read_pictures(data / "oasis1_axial_slab", ".jpg", half)
    report_copies("coronal, 10 slices", coronal, range(90, 100))
    report_copies("coronal, 1 slice", {n: s[5:6] for n, s in coronal.items()}, [95])
    report_copies("axial, 32 slices", slab, range(71, 103))
    report_copies("axial, 1 slice", {n: s[16:17] for n, s in slab.items()}, [87])
    small = {name: as_small(slices[5]) for name, slices in coronal.items()}
    report_copies("coronal, 1 slice of 44 pixels", small, [95])
    for few in (3, 10, 30):
        some = {name: coronal[name][5:6] for name in list(coronal)[:few]}
        report_copies(f"coronal, 1 slice of {few}", some, [95])
    paths = sorted((data / "oasis1_volumes_2mm").glob("*.nii.gz"))[half::2]
    volumes = {path.name[:9]: read_volume(path) for path in paths}
    for plane, middle in {"axial": 45, "coronal": 54, "sagittal": 45}.items():
        for places in ([middle], [middle - 15], range(middle - 14, middle + 15, 4)):
            cut = {n: scaled([cut_slice(v, plane, i) for i in places]) for n, v in volumes.items()}
            title = f"2 mm {plane} {places[0]}, {len(places)} slices"
            report(title, np.concatenate(list(cut.values())), table_of([*cut], len(places), places))
    for plane in ("axl", "cor", "sag"):
        paths = sorted((data / f"oasis2_midslices/{plane}").glob("*.nii.gz"))
        paths = [path for path in paths if int(path.name[5:9]) // 2 % 2 == half]
        pictures = [scaled([cut_slice_of(path)]) for path in paths]
        names = [path.name[:13] for path in paths]
        report(f"OASIS-2 visits {plane}", np.concatenate(pictures), table_of(names, 1, [0]))
    for places in ([50], range(44, 56, 2), range(30, 70, 4)):
        shape = coronal[min(coronal)].shape[1:]
        names = [name for name in coronal if name in volumes]
        cuts = [scaled([cut_slice(volumes[n], "coronal", i) for i in places]) for n in names]
        slices = [*np.concatenate([coronal[n][::3] for n in names])]
        slices += [fit_picture(picture, shape) for cut in cuts for picture in cut]
        mine = table_of(names, 4, range(90, 100, 3))
        others = [f"{name} mm" for name in names]
        places_mm = [2 * place - 126 for place in places]
        theirs = table_of(others, len(places), places_mm, "b", "position_mm")
        report(f"across, {len(places)} slices", np.stack(slices), pandas.concat([mine, theirs]))
    for step in (1, 2, 3, 4, 8):
        report_groups("axial", slab, step)
    for step in (1, 2, 3):
        report_groups("coronal", coronal, step)


def cut_slice_of(path):
    """Returns a middle slice of OASIS-2, a volume of one slice."""

    return np.squeeze(np.asarray(nibabel.load(path).dataobj)).T[::-1]


if __name__ == "__main__":
    main()
