"""Runs the scripts on disks that are too small, without inodes, or read-only.

    python -m tests.stress.small_disk [--only SCRIPT ...]

Each disk is a tmpfs, which only root can mount, on Linux. On it lies what a script writes: prepared
slices, a run, or the temporary files of similarity.py. A script must end well, or with status 1 and
one line on standard error; a traceback, a signal (SIGBUS), a half-written file, or a lack of room
that is called "out of memory" is a failure, and so is the refusal of ready slices that are
read-only. It takes about ten minutes on two cores.
"""

import contextlib
import ctypes
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

from tests.stress import verdict
from tests.stress.kills import ROOT

DATA = ["--dataset", "demo", "--demo-subjects", "12", "--slices-per-volume", "2"]
TRAIN = shlex.split(
    "--epochs 1 --prior-epochs 1 --num-embeddings 16 --width 8 --residual-blocks 1 --batch-size 4 "
    "--warm-up-steps 2 --feature-steps 2 --prior-filters 8 --prior-residual-blocks 1"
)
# By script: the options of each disk. For scripts that use a run, its size and files are added.
DISKS = {
    "dataset": ("size=16k", "size=256k", "size=1m", "nr_inodes=2", "nr_inodes=6", "nr_inodes=19"),
    "train": (
        *("size=4k", "size=64k", "size=512k", "size=2m"),
        *("nr_inodes=2", "nr_inodes=8", "nr_inodes=11", "nr_inodes=13", "nr_inodes=21"),
    ),
    "predict": ("size=8k", "size=256k", "nr_inodes=1", "nr_inodes=4", "ro"),
    "similarity": ("size=8k", "size=64k", "nr_inodes=1", "ro"),
    "temporary": ("size=64k", "nr_inodes=2"),
    "read-only data": ("ro",),
}
CLONE_NEWNS = 0x20000  # of sched.h: mounts of its own
LONGEST = 300  # seconds for one script


def main():
    parser = verdict.parser(__doc__.splitlines()[0], seed=False)
    parser.add_argument("--only", nargs="+", choices=tuple(DISKS), default=tuple(DISKS))
    arguments = parser.parse_args()
    if not sys.platform.startswith("linux") or os.geteuid():
        sys.exit("only root can mount small disks, on Linux")
    ctypes.CDLL(None).unshare(CLONE_NEWNS)  # however it ends, its disks go with this process
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    tasks = [(script, disk) for script in arguments.only for disk in DISKS[script]]
    found = verdict.Verdict("small_disk")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        prepare(folder, arguments.only)
        for script, disk in tqdm(tasks, desc="Filling", unit="disk", disable=None):
            with mounted(folder, disk, command_of(script, folder)[1]) as place:
                try_disk(found, script, disk, folder, place)
    found.end(arguments.report)


def prepare(folder, scripts):
    """Makes the slices, and the run that scripts use, on a disk with room."""
    (folder / "disk").mkdir()
    made = [*DATA, "--data-dir", str(folder / "data")]
    check_script("dataset", made)
    if {"predict", "similarity", "temporary"} & {*scripts}:
        check_script("train", [*made, *TRAIN, "--run-dir", str(folder / "run")])


def command_of(script, folder):
    """Returns the script, what must lie on its disk before, and its flags."""
    data, disk = str(folder / "data"), str(folder / "disk/own")
    run = ["--run-dir", disk]
    return {
        "dataset": ("dataset", None, [*DATA, "--data-dir", disk]),
        "train": ("train", None, [*DATA, *TRAIN, "--data-dir", data, *run]),
        "predict": ("predict", "run", [*run, "--num-samples", "2"]),
        "similarity": ("similarity", "run", [*run, "--panel-slices", "0"]),
        "temporary": ("similarity", None, ["--run-dir", str(folder / "run")]),
        "read-only data": ("dataset", "data", [*DATA, "--data-dir", disk]),
    }[script]


@contextlib.contextmanager
def mounted(folder, options, content):
    """Mounts a small disk with a copy of some content, and with so much room besides."""
    place = folder / "disk"
    name, _, number = options.partition("=")
    if content and number:
        paths = [folder / content, *(folder / content).rglob("*")]
        pages = sum(-(-path.stat().st_size // 4096) for path in paths if path.is_file())
        more = {"size": 4 * pages, "nr_inodes": len(paths)}[name]
        unit = number.lstrip("0123456789")
        options = f"{name}={int(number.removesuffix(unit)) + more}{unit}"
    first = ["-o", options] if number else []
    subprocess.run(["mount", "-t", "tmpfs", *first, "tmpfs", str(place)], check=True)
    try:
        if content:
            shutil.copytree(folder / content, place / "own")
        if name == "ro":
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def run_script(name, flags, **room):
    """Runs a script to its end, with further variables of the environment."""
    command = [sys.executable, ROOT / f"{name}.py", *flags]
    return verdict.run(command, LONGEST, cwd=ROOT, env={**os.environ, **room})


def check_script(name, flags):
    """Runs a script that must end well."""
    ended = run_script(name, flags)
    if ended.status:
        sys.exit(f"{name}.py: status {ended.status}: {ended.errors}")


def try_disk(found, script, disk, folder, place):
    """Runs a script on a disk, and adds what went wrong to the `Verdict`."""
    name, _, flags = command_of(script, folder)
    room = {"TMPDIR": str(place)} if script == "temporary" else {}
    ended = run_script(name, flags, **room)
    found.tries += 1
    lines = verdict.errors_of(ended) or [""]
    told = f"{script} on {disk}: status {ended.status}, {len(lines)} lines: {lines[-1][:300]}"
    statuses = (0,) if script == "read-only data" else (0, 1)
    kind = verdict.trouble(ended, name, statuses)
    if not kind and ended.status and "memory" in lines[-1]:  # it is the disk that has no room
        kind = "other"
    if kind:
        found.add(kind, told)
    for path in filter(verdict.half_written, place.rglob("*")):
        found.add("half-written", f"{script} on {disk}: {path.relative_to(place)}")


if __name__ == "__main__":
    main()
