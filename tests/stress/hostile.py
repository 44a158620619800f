"""Changes the files of a run at random, and opens it: one line, or a run like any other.

    python -m tests.stress.hostile --run-dir RUN [--mutations 1000] [--count 20] [--seed 0]

Of each file bytes are flipped, cut off, doubled or put in anew, and of text, numbers and words are
exchanged. Each mutation is tried twice: as it is, when the hashes in `pixelcnn.json` must find it
out, and with the hash put right, as somebody with bad intent would, when whatever reads the file
must. Nothing but a `RunFolderError` in one line, or arrays of the right shapes, is allowed; a crash
of the process is found out too.

Then the run is used. In each file one array, number or text is exchanged for another, the hash is
put right, and predict.py and similarity.py run; from a changed checkpoint (of `train_and_keep.py`),
train.py does. They must end well, or with status 2 and one line.
"""

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import random
import re
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

import h5py
import numpy as np
from tqdm import tqdm

from tests.stress import verdict
from tests.stress.kills import ROOT

FILES = (
    "config.json",
    "pixelcnn.json",
    "vqvae.weights.h5",
    "pixelcnn.weights.h5",
    "training_codes.npz",
    "mean_slices.npz",
    "split.csv",
    "test_slices/slices.npy",
    "test_slices/slices.csv",
    "test_slices/dataset.json",
)
# What is not opened but used only. The last two are what train_and_keep.py keeps of a training.
USED = (*FILES, "training.json", "similarity.json", "kept_vqvae.npz", "kept_pixelcnn.npz")
STRANGE = (
    *(b"-1", b"0", b"1e999", b"NaN", b"null", b"99999999999", b"[]", b"{}", b'"\\u0000"'),
    *(b"../..", b"__import__('os')", b"(1, 2", b"|O", b"True", b"'"),
)
VALUES = (None, True, -1, 0, 0.5, 7, 1e300, 10**400, math.inf, math.nan, "", "x", "../x", [], {})
NUMBERS = (math.nan, math.inf, -math.inf, -1, 0, 0.5, 2, 300, 1e30)
LONGEST = 300  # seconds for one mutation


def main():
    parser = verdict.parser(__doc__.splitlines()[0])
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--mutations", type=int, default=1000, help="of each file, to be opened")
    parser.add_argument("--count", type=int, default=20, help="of each file, to be used by scripts")
    parser.add_argument("--only", nargs="+", choices=USED, default=USED, metavar="FILE")
    parser.add_argument(
        "--data-dir", type=Path, help="of the training (default: data, beside the run)"
    )
    arguments = parser.parse_args()
    found = verdict.Verdict("hostile", arguments.seed)
    data_dir = arguments.data_dir or arguments.run_dir.parent / "data"
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "in", "folders", "of", "its", "own", "run")
        shutil.copytree(arguments.run_dir, copy)
        score(copy)
        before = files(folder)
        for name in arguments.only:
            if not (copy / name).is_file():
                found.add("other", f"{name}: the run has no such file")
            elif name in FILES and arguments.mutations:
                try_file(found, "opened", copy, name, arguments.mutations)
            if (copy / name).is_file() and arguments.count:
                extra = {"target": use_changed, "extra": (data_dir.resolve(),)}
                try_file(found, "used", copy, name, arguments.count, **extra)
        for path in files(folder) - before:
            found.add("outside", path)
    found.end(arguments.report)


def score(run):
    """Runs similarity.py on a run, which writes its report there."""
    command = [sys.executable, ROOT / "similarity.py", "--run-dir", run, "--panel-slices", "2"]
    ended = verdict.run(command, LONGEST)
    if ended.status:
        sys.exit(f"similarity.py: status {ended.status}: {ended.errors}")


def try_file(found, how, copy, name, count, **options):
    """Changes a file so many times, and adds what went wrong to the `Verdict`."""
    problems, counts = attack(copy, [name], count, found.seed, **options)
    for kind, problem in problems:
        found.add(kind, problem)
    refused, loaded = counts[name]["refused"], counts[name]["loaded"]
    found.tries += refused + loaded + len(problems)
    print(
        f"{name}, {how}: {refused} refused, {loaded} loaded, {len(problems)} problems", flush=True
    )


def files(folder):
    """Returns the files below a folder, but not those of the run and its copy."""
    paths = {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
    inside = re.compile(r"in/folders/of/its/own/(run/|used/|\.used\.)")
    return {path for path in paths if not inside.match(path)}


def attack(run, names, mutations, seed, target=None, extra=()):
    """Returns what else happened than should, with its kind, and how often which of the two did.

    Args:
        run: The folder of a run, which is changed.
        names: The files to change.
        mutations: Integer, how many changes of each. If they are opened only, each is tried twice.
        seed: Integer, draws the changes.
        target: The function of the process that tries them. Default: `open_mutated`.
        extra: Further arguments for it.
    """
    target = target or open_mutated
    problems, counts = [], {name: {"refused": 0, "loaded": 0} for name in names}
    context, next_one = multiprocessing.get_context("spawn"), 0
    pristine = {path: (run / path).read_bytes() for path in {*names, "pixelcnn.json"}}
    times = 2 * mutations if target is open_mutated else mutations
    tasks = [(name, number) for name in names for number in range(times)]
    with tqdm(total=len(tasks), desc=", ".join(names), unit="mutation", disable=None) as bar:
        while next_one < len(tasks):
            ours, theirs = context.Pipe()
            for path, content in pristine.items():
                (run / path).write_bytes(content)
            left = tasks[next_one:]
            child = context.Process(target=target, args=(theirs, run, seed, left, *extra))
            child.start()
            theirs.close()
            try:
                untouched = ours.recv()
                if untouched != "loaded":  # then no refusal would prove anything
                    problems.append(("other", f"{run}, as it was: {untouched}"))
                    next_one = len(tasks)
                while next_one < len(tasks):
                    if not ours.poll(LONGEST):
                        raise TimeoutError
                    outcome, (name, number) = ours.recv(), tasks[next_one]
                    if outcome in counts[name]:
                        counts[name][outcome] += 1
                    else:
                        kind = "other" if ": status " in outcome else "tracebacks"
                        problems.append((kind, f"{name}, mutation {number}: {outcome}"))
                    next_one += 1
                    bar.update()
            except (EOFError, TimeoutError) as error:
                name, number = tasks[min(next_one, len(tasks) - 1)]
                kind = "hangs" if isinstance(error, TimeoutError) else "signals"
                problems.append((kind, f"{name}, mutation {number}: the process has ended or hung"))
                next_one += 1
            child.kill()
            child.join()
    for path, content in pristine.items():
        (run / path).write_bytes(content)
    return problems, counts


def open_mutated(pipe, run, seed, tasks):
    """Sends the outcome of the run as it is, and of each mutation, in a process of its own."""
    from oasisvq.core.script import import_tensorflow_quietly

    import_tensorflow_quietly()
    import modules
    from oasisvq.core.files import sha256
    from oasisvq.runs.folder import PRIOR_FACTS

    facts = (run / PRIOR_FACTS).read_bytes()
    models = {}
    # Of the same configuration, models need to be built but once.
    modules.build_vqvae = remembered(modules.build_vqvae, models)
    modules.build_prior = remembered(modules.build_prior, models)
    pipe.send(outcome(run))
    for name, number in tasks:
        pristine = (run / name).read_bytes()
        draw = random.Random(f"{seed} {name} {number // 2}")
        (run / name).write_bytes(mutated(pristine, draw, text=not name.endswith((".h5", ".npz"))))
        if number % 2 and name != PRIOR_FACTS:
            known = json.loads(facts) | {name: sha256(run / name)}
            (run / PRIOR_FACTS).write_text(json.dumps(known))
        pipe.send(outcome(run))
        (run / name).write_bytes(pristine)
        (run / PRIOR_FACTS).write_bytes(facts)


def remembered(build, models):
    """Returns `build`, but one that gives the last model again if the argument is the same."""

    def once(argument):
        last = models.get(build.__name__)
        if last is None or last[0] != repr(argument):
            models[build.__name__] = last = repr(argument), build(argument)
        return last[1]

    return once


def outcome(folder):
    """Opens a run: returns `"refused"`, `"loaded"`, or what else happened."""
    from dataset import open_test_slices
    from hyperparameters import Hyperparameters
    from modules import load_prior, load_vqvae
    from oasisvq.core.errors import RunFolderError
    from oasisvq.runs.folder import open_run

    try:
        run = open_run(folder, Hyperparameters)
        slices = open_test_slices(run)
        slices.images(np.arange(min(2, len(slices.table))))
        load_vqvae(run)
        load_prior(run)
        run.split()
        run.training_codes()
        run.training_conditions()
        run.training_persons()
        run.smoothing()
        run.mean_slices()
        run.training_facts()
    except RunFolderError as error:
        return "refused" if str(error) else "an error without a word"
    except BaseException as error:  # whatever it is, it should not be
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "loaded"


def use_changed(pipe, run, seed, tasks, data_dir):
    """Sends the outcome of the scripts on the run as it is, and on each change of a file."""
    from oasisvq.core.script import import_tensorflow_quietly

    import_tensorflow_quietly()
    import keras

    work = run.with_name("used")
    pipe.send("loaded")
    for name, number in tasks:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(run, work)
        draw = random.Random(f"{seed} {name} {number}")
        (work / name).write_bytes(changed(name, (work / name).read_bytes(), draw))
        pipe.send(used(work, name, data_dir))
        keras.backend.clear_session()


def used(run, name, data_dir):
    """Runs the scripts on a run with one changed file, as `outcome` does."""
    import predict
    import similarity
    import train
    from oasisvq.runs.folder import PRIOR_FACTS, RECORDED, read_facts, sha256

    if name.startswith("kept_"):  # the training goes on from there
        stage = name.removeprefix("kept_")
        shutil.move(run / name, run / f"{stage.removesuffix('.npz')}.checkpoint.npz")
        (run / PRIOR_FACTS).unlink()
        flags = read_facts(run / "config.json")["hyperparameters"]
        flags |= {"preset": "default", "fresh": False, "run_dir": run, "data_dir": data_dir}
        flags |= {"checkpoint_minutes": 10.0, "max_bad_steps": 0}
        train.parse_flags = lambda: argparse.Namespace(**flags)
        return said(train)
    if name in RECORDED:
        facts = read_facts(run / PRIOR_FACTS) | {name: sha256(run / name)}
        (run / PRIOR_FACTS).write_text(json.dumps(facts))
    flags = ["--run-dir", str(run)]
    found = said(predict, *flags, "--num-samples", "2", "--num-reconstructions", "2")
    other = ["--output", str(run / "other.json")] if name == "similarity.json" else []
    again = said(similarity, *flags, "--panel-slices", "2", *other)
    return next(
        (one for one in (found, again) if one not in ("refused", "loaded")), max(found, again)
    )


def said(module, *flags):
    """Runs a script: returns `"refused"` after one line, `"loaded"`, or what else happened."""
    from oasisvq.core.script import run_script

    sys.argv, errors = [f"{module.__name__}.py", *flags], io.StringIO()
    try:
        nowhere = io.TextIOWrapper(io.BytesIO())
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(nowhere):
            run_script(module.main)
    except SystemExit as end:
        lines = errors.getvalue().splitlines() or [""]
        if end.code == 2 and lines[-1].startswith(f"{module.__name__}.py: error: "):
            return "refused"
        return f"{module.__name__}.py: status {end.code}: {lines[-1]}"
    except BaseException as error:  # whatever it is, it should not be
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        return f"{module.__name__}.py: {type(error).__name__} at {where}: {str(error)[:200]}"
    return "loaded"


def changed(name, content, draw):
    """Returns the bytes of a file of a run with another value, as somebody would who knows it."""
    if name.endswith(".npz"):
        with np.load(io.BytesIO(content)) as arrays:
            arrays = dict(arrays)
        key = draw.choice([*arrays, *["progress"] * 20 * ("progress" in arrays)])
        if key == "progress":
            facts = changed_json(json.loads(arrays[key].tobytes()), draw)
            arrays[key] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        else:
            arrays[key] = changed_array(arrays[key], draw)
        np.savez(file := io.BytesIO(), **arrays)
        return file.getvalue()
    if name.endswith(".npy"):
        np.save(file := io.BytesIO(), changed_array(np.load(io.BytesIO(content)), draw))
        return file.getvalue()
    if name.endswith(".json"):
        return json.dumps(changed_json(json.loads(content), draw)).encode()
    if name.endswith(".csv"):
        rows = [line.split(",") for line in content.decode().splitlines()]
        row = draw.choice(rows[1:])
        row[draw.randrange(len(row))] = draw.choice(("", "-1", "0.5", "1e999", "x", "../x", "NaN"))
        return "\n".join(",".join(row) for row in rows).encode()
    return changed_weights(content, draw)


def changed_weights(content, draw):
    """Returns an HDF5 file in which one array is another."""
    file, paths = io.BytesIO(content), []
    with h5py.File(file, "r+") as weights:
        weights.visititems(
            lambda path, item: paths.append(path) if isinstance(item, h5py.Dataset) else None
        )
        path = draw.choice(paths)
        array = changed_array(weights[path][()], draw)
        del weights[path]
        weights[path] = array
    return file.getvalue()


def changed_array(array, draw):
    """Returns an array of another type, shape or range, or with another number in it."""
    array = np.array(array)
    kind = draw.randrange(6)
    if kind == 0:
        return array.astype(draw.choice(("f8", "f2", "i8", "u1", "c8", "S4", "?")))
    if kind == 1:
        return array.T if draw.random() < 0.5 else array[None]
    if kind == 2:
        return array.ravel()[: draw.randrange(2)]
    number = draw.choice(NUMBERS)
    array = array.astype(draw.choice((array.dtype, np.float64, np.int64)))
    with np.errstate(invalid="ignore", over="ignore"):
        number = np.array(number).astype(array.dtype)
    if kind == 3:
        return np.full_like(array, number)
    flat = array.ravel().copy()
    flat[draw.randrange(flat.size) if flat.size else ...] = number
    return flat.reshape(array.shape)


def changed_json(value, draw):
    """Returns a value of JSON in which one value is another, or is missing."""
    if isinstance(value, (dict, list)) and value and draw.random() < 0.9:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw.choice(keys)
        if draw.random() < 0.1:
            del value[key]
        else:
            value[key] = changed_json(value[key], draw)
        return value
    return draw.choice(VALUES)


def mutated(content, draw, text):
    """Returns the bytes with one to five changes."""
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5))):
        place, kind = draw.randrange(len(content) or 1), draw.randrange(6 if text else 4)
        if kind == 0 and content:
            content[place] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del content[place : place + draw.choice((1, 4, 100, len(content)))]
        elif kind == 2:
            content[place:place] = content[place : place + draw.choice((1, 8, 200))]
        elif kind == 3:
            content[place : place + 8] = draw.randbytes(8)
        else:  # a number or a word of the text, for another
            words = list(re.finditer(rb"[A-Za-z_]+|-?[0-9.]+", bytes(content[: 2**16])))
            if words:
                chosen = draw.choice(words)
                content[chosen.start() : chosen.end()] = draw.choice(STRANGE)
    return bytes(content)


if __name__ == "__main__":
    main()
