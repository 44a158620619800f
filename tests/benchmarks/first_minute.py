"""Measures the seconds from a cold start to the first training step and to the first picture.

    python tests/benchmarks/first_minute.py [--dataset PATH] [--data-dir DIR] [--run-dir RUN]

The real `train.py` and `predict.py` run in fresh processes, their slices prepared, their files in
the system's cache but for the first round. Training gets `--warm-up-steps 1` and ends after the
first step of its first epoch; by default 99 more warm-up steps lie between. Without `--run-dir` a
run is trained first that has the default size, and has hardly learned anything.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _project import ROOT

BEGAN = "FIRST_MINUTE_BEGAN"
FEW = ["--epochs", 1, "--prior-epochs", 1, "--warm-up-steps", 1, "--feature-steps", 1]
TARGETS = {"train.py": ("first step", 20), "predict.py": ("first picture", 15)}


def mark(label):
    """Prints that something has ended, and when."""
    print(f"mark {time.time() - float(os.environ[BEGAN]):.3f} {label}", file=sys.stderr, flush=True)


def mark_end(module, name, label):
    """Makes a function of a module print when it has ended."""
    function = getattr(module, name)

    def call(*arguments, **options):
        result = function(*arguments, **options)
        mark(label)
        return result

    setattr(module, name, call)


def watch_train():
    """Runs `train.py` in this process up to the first step of its first epoch."""
    import train

    load, labels = train.import_tensorflow_quietly, iter(("first step", "first step of an epoch"))

    def load_and_watch():
        mark("Python")
        load()
        mark("import TensorFlow")
        import sklearn.cluster

        import dataset
        import modules
        from oasisvq.training import batches, stages

        mark("import the rest")
        mark_end(dataset, "OASIS", "open the slices")
        mark_end(stages, "check_trainable", "variance")
        mark_end(stages, "save_slices", "make the run folder")
        mark_end(modules, "build_vqvae", "build the VQ-VAE")
        mark_end(sklearn.cluster.KMeans, "fit", "encode and k-means")
        deliver = batches.deliver

        def watched_deliver(*arguments):
            for number, batch in enumerate(deliver(*arguments)):
                yield batch
                if not number:  # the next batch is fetched after a step
                    mark(label := next(labels))
                    if label != "first step":
                        os._exit(0)

        batches.deliver = watched_deliver

    train.import_tensorflow_quietly = load_and_watch
    train.main()


def watch_predict():
    """Runs `predict.py` in this process."""
    import predict

    load = predict.import_tensorflow_quietly

    def load_and_watch():
        mark("Python")
        load()
        mark("import TensorFlow")
        import modules
        from oasisvq import figures
        from oasisvq.runs import folder

        mark("import the rest")
        mark_end(folder, "open_run", "open the run")
        mark_end(modules, "load_vqvae", "load the VQ-VAE")
        mark_end(modules, "load_prior", "load the prior")
        mark_end(figures, "save_pairs", "first picture")
        mark_end(figures, "save_pictures", "new brains")

    predict.import_tensorflow_quietly = load_and_watch
    predict.main()
    mark("all pictures")


def run(script, *flags, watched=True):
    """Runs a script; returns a dictionary from labels to seconds, ascending."""
    command = [__file__, "--watch", script] if watched else [ROOT / script]
    command = [sys.executable, *map(str, command), *map(str, flags)]
    environment = os.environ | {BEGAN: str(time.time())}
    child = subprocess.run(command, env=environment, capture_output=True, text=True)
    if child.returncode:
        raise SystemExit(f"{script}: {child.stderr}")
    marks = {}
    for line in child.stderr.splitlines():
        if line.startswith("mark "):
            _, seconds, label = line.split(" ", 2)
            marks.setdefault(label, float(seconds))  # the first time counts
    return marks


def report(script, rounds):
    """Prints when each thing had ended, and how long it took, over the rounds."""
    label, target = TARGETS[script]
    reached = [marks[label] for marks in rounds]
    print(
        f"{script}: {label} after {statistics.median(reached):.1f} s ({min(reached):.1f} to "
        f"{max(reached):.1f}, {len(rounds)} rounds); target {target} s"
    )
    before = dict.fromkeys(range(len(rounds)), 0.0)
    for name in rounds[0]:
        took = [marks[name] - before[n] for n, marks in enumerate(rounds)]
        before = {n: marks[name] for n, marks in enumerate(rounds)}
        ended = statistics.median(before.values())
        spread = f"({min(took):.1f} to {max(took):.1f})"
        print(f"  {name:24}{statistics.median(took):6.1f} s {spread:16} ended at {ended:5.1f} s")


def main():
    """Runs both scripts several times, or, in a process of its own, one of them with marks."""
    if sys.argv[1:2] == ["--watch"]:
        script, sys.argv = sys.argv[2], sys.argv[2:]
        return watch_train() if script == "train.py" else watch_predict()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data-dir", default="data")
    parser.add_argument("--run-dir", help="a finished run")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    source = ["--dataset", arguments.dataset, "--data-dir", arguments.data_dir]
    run("dataset.py", *source, watched=False)
    with tempfile.TemporaryDirectory() as place:
        finished = Path(arguments.run_dir or f"{place}/finished")
        if not arguments.run_dir:
            few = ["--dataset", "demo", "--slices-per-volume", 2, "--data-dir", f"{place}/data"]
            run("train.py", *few, *FEW, "--run-dir", finished, watched=False)
        rounds = {script: [] for script in TARGETS}
        for number in range(arguments.rounds):
            flags = [*source, "--run-dir", f"{place}/{number}", "--warm-up-steps", 1]
            rounds["train.py"].append(run("train.py", *flags))
            rounds["predict.py"].append(run("predict.py", "--run-dir", finished))
    for script in TARGETS:
        report(script, rounds[script])
    return None


if __name__ == "__main__":
    main()
