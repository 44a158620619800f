"""On paper, from figures measured here: what 100,000 volumes take to prepare and to train on.

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
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

STEPS, ROUNDS = 3, 5
NOISE_SLICES = 4000


class Watch:
    """Seconds that a function takes whenever it is called, added up."""

    def __init__(self, function):
        self.function, self.seconds = function, 0.0

    def __call__(self, *arguments, **options):
        began = time.perf_counter()
        try:
            return self.function(*arguments, **options)
        finally:
            self.seconds += time.perf_counter() - began


def measure_preparation(volumes, copies, place):
    """The prepared folder, what a scan took, a dictionary of seconds and bytes, and what is noted
    of one, as JSON."""
    from hyperparameters import Hyperparameters
    from oasisvq.data import prepare as preparation

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

    make, duplicates = Watch(preparation._make_records), Watch(preparation.near_duplicates)
    with (
        mock.patch("preparation._make_records", make),
        mock.patch("preparation._assemble", watched_assemble),
        mock.patch("preparation.near_duplicates", duplicates),
    ):
        chosen = Hyperparameters(dataset=str(place / "volumes"))
        folder = preparation.prepare(chosen, place / "data")
    files = {name: (folder / name).stat().st_size for name in ("slices.npy", "slices.csv")}
    totals = {
        "make": make.seconds,
        "read": seen["read"],
        "join": assemble.seconds - duplicates.seconds,
        "source": sum(path.stat().st_size for path in (place / "volumes").iterdir()),
        "records": seen["records"],
        "slices": files["slices.npy"],
        "table": files["slices.csv"],
    }
    return folder, {name: total / copies for name, total in totals.items()}, seen["facts"]


def measure_duplicates(shape):
    """Seconds a slice, and seconds a pair of slices at one position, of `near_duplicates`."""
    import numpy as np
    import pandas

    from oasisvq.data import near_duplicates as duplicates

    slices = np.random.default_rng(0).integers(0, 256, (NOISE_SLICES, *shape), np.uint8)
    names = [f"{number:06d}" for number in range(NOISE_SLICES)]
    table = pandas.DataFrame({"subject": names, "session": "", "plane": "axial"})
    table = table.assign(index=0, position_mm=0.0)
    details, began = Watch(duplicates.details), time.perf_counter()
    with mock.patch("duplicates.details", details):
        duplicates.near_duplicates(slices, table)
    compared = time.perf_counter() - began - details.seconds
    return details.seconds / NOISE_SLICES, compared / NOISE_SLICES**2


def measure_memory(folder, facts):
    """Bytes a slice, or of the facts a scan, that preparing and training hold in memory."""
    import numpy as np
    import pandas

    from oasisvq.data.near_duplicates import details

    slices = np.load(folder / "slices.npy", mmap_mode="r")
    table = pandas.read_csv(folder / "slices.csv")
    before = own_memory()
    kept = [json.loads(facts) for _ in range(20_000)]
    return {
        "facts": (own_memory() - before) / len(kept),
        "table": table.memory_usage(deep=True).sum() / len(table),
        "details": details(slices[:1]).nbytes,
        "codes": 2 * math.prod(-(-side // 4) for side in slices.shape[1:]),
    }


def own_memory():
    """Bytes that this process has allocated."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def measure_training(folder):
    """Seconds a slice of a step of either stage, and of encoding: medians."""
    import numpy as np

    from dataset import OASIS
    from hyperparameters import Hyperparameters
    from oasisvq.runs.folder import Run
    from oasisvq.training.loop import Stage, batches_at_random, build_optimizer, feed
    from train import code_reader, encode

    chosen = Hyperparameters(dataset=str(folder))
    dataset = OASIS(chosen)
    run = Run(Path(), chosen, dataset.image_shape, dataset.variance())
    rows = dataset.rows("all")[:128]
    vqvae, prior = run.build_vqvae(), run.build_prior()
    codes = encode(vqvae, dataset, rows[:32])
    began = time.perf_counter()
    encode(vqvae, dataset, rows)
    found = {"encode": (time.perf_counter() - began) / len(rows)}
    readers = {
        "VQ-VAE": (vqvae, dataset.read, rows, chosen.batch_size),
        "prior": (prior, code_reader(codes, dataset.conditions(rows[:32])), np.arange(32),
                  chosen.prior_batch_size),
    }  # fmt: skip
    for name, (model, read, some, batch_size) in readers.items():
        stage = Stage(
            name, model, build_optimizer(1e-3, 1000), read, some, some[:1], batch_size, 1, 0
        )
        ((batch, _),) = feed(read, batches_at_random(some, stage.batch_size, 0)[:1])
        stage.compiled_train_step(batch)
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            for _ in range(STEPS):
                np.asarray(stage.compiled_train_step(batch)["loss"])
            times.append((time.perf_counter() - began) / STEPS / stage.batch_size)
        found[name] = statistics.median(times)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--volumes", type=Path, required=True, help="a folder of volumes")
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--copies", type=int, default=24, help="scans prepared (default: 24)")
    arguments = parser.parse_args()
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

    import numpy as np

    from oasisvq.core.script import import_tensorflow_quietly
    from oasisvq.data.volumes import is_volume

    volumes = sorted(path for path in arguments.volumes.iterdir() if is_volume(path))
    scans = arguments.scans
    with tempfile.TemporaryDirectory() as place:
        import_tensorflow_quietly()
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
        "the volumes": scan["source"], "records, while preparing": scan["records"],
        "slices.npy": scan["slices"], "slices.csv": scan["table"],
        "the run's test slices, a tenth": 0.1 * scan["slices"],
    }  # fmt: skip
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
