"""Estimates, from figures measured here, what 100,000 volumes take to prepare and to train on.

    python tests/benchmarks/many_volumes.py --volumes FOLDER [--scans 100000] [--copies 24]

The volumes in FOLDER, each several times under other names, go through the real preparation; then
a few steps of either stage, and of encoding, are taken on their slices. The search for
near-duplicates, which compares all subjects with one another, runs on noise. All defaults; every
scan is taken to be another subject, and to cost what these do, on one machine like this one.
Nothing is said of a disk slower than this one's.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

import _project  # noqa: F401
import numpy as np
import pandas

from dataset import OASIS
from hyperparameters import DataConfig, PriorConfig, VQVAEConfig
from modules import PixelCNN, VQVAETrainer
from oasisvq.data import near_duplicates as duplicates
from oasisvq.data import prepare as preparation
from oasisvq.data.volumes import is_volume
from oasisvq.training.batches import Batches
from oasisvq.training.loop import Loop, build_optimizer
from oasisvq.training.stages import code_reader

STEPS, ROUNDS = 3, 5
NOISE_SLICES = 4000


class Watch:
    """Adds up the seconds that a function takes whenever it is called."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments, **options):
        began = time.perf_counter()
        try:
            return self.function(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - began


def measure_preparation(volumes, copies, place):
    """Measures the preparation of the volumes, each several times under other names.

    Returns:
        The prepared folder; a dictionary of seconds and bytes a scan; and the facts of one scan, as
        JSON.
    """
    (place / "volumes").mkdir()
    for number in range(copies):
        source = volumes[number % len(volumes)].resolve()
        suffix = "".join(source.suffixes[-2:])
        (place / f"volumes/head_{number:06d}{suffix}").symlink_to(source)
    assemble, seen = Watch(preparation._assemble), {}

    def watched_assemble(source, store, *others):
        seen["records"] = sum(path.stat().st_size for path in store.folder.glob("*.npz"))
        seen["facts"] = json.dumps(next(iter(store.facts.values())))
        began = time.perf_counter()
        preparation.Store(store.folder)
        seen["read"] = time.perf_counter() - began
        assemble(source, store, *others)

    make, search = Watch(preparation._make_records), Watch(preparation.compare_subjects)
    watched = {"_make_records": make, "_assemble": watched_assemble, "compare_subjects": search}
    with mock.patch.multiple(preparation, **watched):
        config = DataConfig(dataset=str(place / "volumes"))
        folder = preparation.prepare(config, place / "data")
    files = {name: (folder / name).stat().st_size for name in ("slices.npy", "slices.csv")}
    totals = {
        "make": make.seconds,
        "read": seen["read"],
        "join": assemble.seconds - search.seconds,
        "source": sum(path.stat().st_size for path in (place / "volumes").iterdir()),
        "records": seen["records"],
        "slices": files["slices.npy"],
        "table": files["slices.csv"],
    }
    return folder, {name: total / copies for name, total in totals.items()}, seen["facts"]


def measure_duplicates(shape):
    """Returns the seconds that `compare_subjects` takes for a slice, and for a pair of slices."""
    slices = np.random.default_rng(0).integers(0, 256, (NOISE_SLICES, *shape), np.uint8)
    names = [f"{number:06d}" for number in range(NOISE_SLICES)]
    table = pandas.DataFrame({"subject": names, "session": "", "plane": "axial"})
    table = table.assign(index=0, position_mm=0.0)
    details, began = Watch(duplicates.details), time.perf_counter()
    with mock.patch.object(duplicates, "details", details):
        duplicates.compare_subjects(slices, table)
    compared = time.perf_counter() - began - details.seconds
    return details.seconds / NOISE_SLICES, compared / NOISE_SLICES**2


def measure_memory(folder, facts):
    """Returns the bytes that preparing and training hold for a slice; the facts, for a scan."""
    slices = np.load(folder / "slices.npy", mmap_mode="r")
    table = pandas.read_csv(folder / "slices.csv")
    before = own_memory()
    kept = [json.loads(facts) for _ in range(20_000)]
    return {
        "facts": (own_memory() - before) / len(kept),
        "table": table.memory_usage(deep=True).sum() / len(table),
        "details": duplicates.details(slices[:1]).nbytes,
        "codes": 2 * math.prod(-(-side // 4) for side in slices.shape[1:]),
    }


def own_memory():
    """Returns the bytes that this process has allocated."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def measure_training(folder):
    """Returns the seconds a slice of a step of either stage, medians, and of encoding."""
    dataset, seed = OASIS(DataConfig(dataset=str(folder))), 0
    rows, vqvae_config, prior_config = dataset.rows("all")[:128], VQVAEConfig(), PriorConfig()
    vqvae = VQVAETrainer(dataset.image_shape, dataset.variance, vqvae_config, seed)
    prior = PixelCNN(vqvae.code_shape, vqvae.num_embeddings, prior_config, seed)
    codes = vqvae.encode_all(dataset.images, rows[:32])
    began = time.perf_counter()
    vqvae.encode_all(dataset.images, rows)
    found = {"encode": (time.perf_counter() - began) / len(rows)}

    def read_images(rows):
        images = dataset.read(rows)
        return images, images

    read_codes = code_reader(codes, dataset.conditions(rows[: len(codes)]))
    stages = {
        "VQ-VAE": (vqvae, Batches(read_images, rows, vqvae_config.batch_size)),
        "prior": (prior, Batches(read_codes, np.arange(len(codes)), prior_config.batch_size)),
    }
    for name, (model, batches) in stages.items():
        model.compile(build_optimizer(1e-3, 1000))
        loop, batch = Loop(model, batches, batches), next(batches.shuffled(0))
        loop.train_step(batch)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(STEPS):
                np.asarray(loop.train_step(batch)["loss"])
            times.append((time.perf_counter() - began) / STEPS / batches.step_size)
        found[name] = statistics.median(times)
    return found


def main():
    """Measures all parts, and prints what they come to for the wanted number of scans."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=Path, required=True, help="a folder of volumes")
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--copies", type=int, default=24, help="scans prepared (default: 24)")
    arguments = parser.parse_args()
    volumes = sorted(path for path in arguments.volumes.iterdir() if is_volume(path))
    scans = arguments.scans
    with tempfile.TemporaryDirectory() as place:
        folder, scan, facts = measure_preparation(volumes, arguments.copies, Path(place))
        count, height, width = np.load(folder / "slices.npy", mmap_mode="r").shape
        per_scan = count / arguments.copies
        memory = measure_memory(folder, facts)
        step = measure_training(folder)
        linear, quadratic = measure_duplicates((height, width))
        free = shutil.disk_usage(place).free
    slices = scans * per_scan
    trained = 0.8 * slices

    def hours(name, each, what, total):
        print(f"{name:44}{1000 * each:12.2f} ms a {what:8}{total / 3600:10.1f} hours")

    print(
        f"{scans:,} scans of {per_scan:.0f} slices of {height}x{width}, on {os.cpu_count()} cores; "
        f"measured on {arguments.copies} scans, from {len(volumes)} volumes"
    )
    hours("prepare: read, cut and record", scan["make"], "scan", scan["make"] * scans)
    hours("prepare: join", scan["join"], "scan", scan["join"] * scans)
    hours("prepare: begin again after an interrupt", scan["read"], "scan", scan["read"] * scans)
    hours("near-duplicates: describe", linear, "slice", linear * slices)
    pairs = quadratic * scans**2 * per_scan
    print(
        f"{'near-duplicates: compare':44}{1e9 * quadratic:12.2f} ns a {'pair':8}"
        f"{pairs / 3600:10.1f} hours, growing with the square of the scans"
    )
    hours("train: an epoch of the VQ-VAE", step["VQ-VAE"], "slice", step["VQ-VAE"] * trained)
    hours("train: encode for the prior", step["encode"], "slice", step["encode"] * slices * 0.9)
    hours("train: an epoch of the prior", step["prior"], "slice", step["prior"] * trained)

    pace = height * width / step["VQ-VAE"] / 1e6
    print(
        f"slices.npy is memory-mapped: more than memory holds is read anew each epoch, here "
        f"{pace:.1f} MB/s, in pieces of a slice"
    )

    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    disk = {
        "the volumes": scan["source"],
        "records, while preparing": scan["records"],
        "slices.npy": scan["slices"],
        "slices.csv": scan["table"],
        "the run's test slices, a tenth": 0.1 * scan["slices"],
    }
    held = {
        "prepare: facts of the scans, and the table": memory["facts"] + per_scan * memory["table"],
        "near-duplicates: the slices' details": per_scan * memory["details"],
        # Of nine tenths of the slices, and a copy of the training slices' among them.
        "train: code grids": per_scan * 1.7 * memory["codes"],
    }
    wanted = []
    for title, entries, room in (("disk", disk, free), ("memory", held, ram)):
        for name, each in entries.items():
            total = each * scans
            wanted.append((total / room, title, name))
            print(
                f"{title + ': ' + name:52}{each / 1e3:10.1f} kB a scan {total / 1e9:8.1f} GB, "
                f"{total / room:6.0%} of this machine's {room / 1e9:.0f} GB"
            )
    print("What exceeds this machine, worst first:")
    for share, title, name in sorted(wanted, reverse=True):
        if share > 1:
            print(f"  {title}: {name}, {share:.1f} times what there is")


if __name__ == "__main__":
    main()
