"""Heads for tests: drawn ones whose anatomy is known, and real slices with their sheet."""

import functools
import types

import numpy as np
import pandas
from PIL import Image

from oasisvq.evaluation.anatomy import measure_anatomy
from oasisvq.evaluation.copies import describe
from oasisvq.evaluation.judge import Real
from oasisvq.evaluation.measures import Population, power_spectra
from oasisvq.evaluation.planted import draw_slices, plant_failures

FLUID, GREY, WHITE = 0.2, 0.55, 0.8  # intensities
RADIUS, CORE, INNER = 40.0, 38.0, 30.0  # mm: of the brain, of its tissue, of its white matter
CROP = np.s_[:, 20:164, 16:160]  # what no head of the real slices exceeds; the middle stays
SPOT = 2.0  # mm, radius of an island or a hole: 13 mm²


def draw_head(shape=(90, 90), pixel_size=1.0, left=5.0, right=5.0, islands=0, holes=0, bare=0.0):
    """Draws a round slice: fluid around grey around white matter, and a ventricle on either side.

    Args:
        shape: `(H, W)` in pixels.
        pixel_size: Float, mm.
        left, right: Floats, radii of the ventricles in mm.
        islands: Integer, spots of white matter in the grey.
        holes: Integer, spots of grey matter in the white.
        bare: Float, the share of the outline whose grey matter is white.

    Returns:
        float32 `(H, W)` in [0, 1].
    """
    y, x = ((np.arange(n) - (n - 1) / 2) * pixel_size for n in shape)
    y, x = y[:, None], x[None]
    radius, angle = np.hypot(x, y), np.arctan2(x, y) / (2 * np.pi) + 0.5

    def spots(count, distance):
        places = 2 * np.pi * (np.arange(count) + 0.5) / max(count, 1)
        near = [np.hypot(x - distance * np.cos(a), y - distance * np.sin(a)) for a in places]
        return np.any([one < SPOT for one in near], axis=0) if count else np.zeros(shape, bool)

    head = np.select([radius >= RADIUS, radius >= CORE, radius >= INNER], [0, FLUID, GREY], WHITE)
    head[(angle < bare) & (radius >= INNER) & (radius < CORE)] = WHITE
    head[spots(islands, 34)], head[spots(holes, 22)] = WHITE, GREY
    head[(np.hypot(x + 8, y) < left) | (np.hypot(x - 8, y) < right)] = FLUID
    return head.astype(np.float32)


@functools.cache
def read_heads(folder, first, last, places=(91, 97)):
    """Reads coronal slices of real persons, the `first` to the `last` by name.

    Of `OAS1_0079` and `OAS1_0193`, who are alike, the latter is left out.

    Returns:
        uint8 array `(n, 176, 176)`, 255 for the 99.8th percentile of a person's pixels above 0, and
        a data frame with `subject`, `key`, `age`, `sex`, `cdr`, `nwbv` and `plane`. Read-only.
    """
    names = sorted(path.name for path in (folder / "oasis1_coronal").glob("OAS1_*_MR1"))
    names = [name for name in names if "0193" not in name][first:last]
    sheet = pandas.read_csv(folder / "oasis1_coronal/oasis_cross-sectional.csv", index_col="ID")
    images, rows = [], []
    for name in names:
        paths = [folder / f"oasis1_coronal/{name}/{name}.{place}.png" for place in places]
        slices = np.stack([np.asarray(Image.open(path)) for path in paths]).astype(np.float32)
        images.append(slices / np.percentile(slices[slices > 0], 99.8))
        person = sheet.loc[name]
        known = {"age": person["Age"], "sex": person["M/F"], "cdr": person["CDR"]}
        known |= {"subject": name, "nwbv": person["nWBV"], "plane": ""}
        rows += [{**known, "key": f" {place}"} for place in places]
    images = np.round(np.concatenate(images).clip(0, 1) * 255).astype(np.uint8)
    images.flags.writeable = False
    return images, pandas.DataFrame(rows)


def describe_heads(images, persons, keys):
    """Returns a `Population` of slices in [0, 1]; spectra stand in for the features of networks."""
    anatomy, sides = measure_anatomy(images)
    spectra = power_spectra(images)
    return Population(
        persons=np.asarray(persons, str),
        keys=np.asarray(keys, str),
        features=np.stack([spectra[:, :6], spectra[:, 6:]], axis=1),
        anatomy=anatomy.to_numpy(),
        sides=sides,
        spectra=spectra,
        details=describe(images).reshape(len(images), -1),
        ages=np.full(len(images), np.nan),
        predicted_ages=np.full(len(images), np.nan),
    )


@functools.cache
def real_populations(folder):
    """Returns what a judge compares, of real persons: a perfect generator's brains among others.

    Returns:
        `Real` of 120 persons, 40 of whom are for the test; and a mapping of populations of 40
        brains: `"perfect"`, slices of as many other persons, and those with planted failures.
    """
    images, table = read_heads(folder, 0, 120)
    images = images[CROP]
    real = describe_heads(images / np.float32(255), table["subject"], table["key"])
    rows = np.arange(len(table))
    new, of_new = read_heads(folder, 120, 160)
    chosen = draw_slices(of_new["subject"].to_numpy(), 40, np.random.default_rng(0))
    new, of_new = new[CROP][chosen] / np.float32(255), of_new.iloc[chosen]
    populations = {"perfect": describe_heads(new, of_new["subject"], of_new["key"])}
    others, of_others = images[80:] / np.float32(255), table.iloc[80:].reset_index(drop=True)
    for name, brains, chosen, _ in plant_failures(others, of_others, 40, seed=0):
        persons = [f"{name} {number}" for number in range(len(brains))]
        populations[name] = describe_heads(brains, persons, of_others["key"][chosen])
    units = real.anatomy.std(axis=0)
    populations = {name: brains.in_units(units) for name, brains in populations.items()}
    real = Real(real.in_units(units), rows[:80], rows[80:])
    return real, types.MappingProxyType(populations)
