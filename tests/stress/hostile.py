"""Changes the files of a run at random, and opens it: one line, or a run like any other.

    python -m tests.stress.hostile --run-dir RUN [--mutations 1000] [--seed 0]

Of each file bytes are flipped, cut off, doubled or put in anew, and of text, numbers and words are
exchanged. Each mutation is tried twice: as it is, when the hashes in `pixelcnn.json` must find it
out, and with the hash put right, as somebody with bad intent would, when whatever reads the file
must. Nothing but a `RunFolderError` in one line, or arrays of the right shapes, is allowed; a crash
of the process is found out too.
"""

import argparse
import json
import multiprocessing
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

FILES = (
    "config.json",
    "pixelcnn.json",
    "vqvae.weights.h5",
    "pixelcnn.weights.h5",
    "features.weights.h5",
    "training_codes.npz",
    "mean_slices.npz",
    "split.csv",
    "test_slices/slices.npy",
    "test_slices/slices.csv",
    "test_slices/dataset.json",
)
STRANGE = (
    *(b"-1", b"0", b"1e999", b"NaN", b"null", b"99999999999", b"[]", b"{}", b'"\\u0000"'),
    *(b"../..", b"__import__('os')", b"(1, 2", b"|O", b"True", b"'"),
)
LONGEST = 120  # seconds for one mutation


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--mutations", type=int, default=1000, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=FILES, default=FILES, metavar="FILE")
    arguments = parser.parse_args()
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "run"
        shutil.copytree(arguments.run_dir, copy)
        for name in arguments.only:
            found, counts = attack(copy, [name], arguments.mutations, arguments.seed)
            problems += found
            refused, loaded = counts[name]["refused"], counts[name]["loaded"]
            print(f"{name}: {refused} refused, {loaded} loaded", flush=True)
    print("\n".join(problems) or "nothing else happened")
    sys.exit(bool(problems))


def attack(run, names, mutations, seed):
    """Returns what else happened than should, and how often which of the two did, by file."""
    problems, counts = [], {name: {"refused": 0, "loaded": 0} for name in names}
    context, next_one = multiprocessing.get_context("spawn"), 0
    pristine = {path: (run / path).read_bytes() for path in {*names, "pixelcnn.json"}}
    tasks = [(name, number) for name in names for number in range(2 * mutations)]
    with tqdm(total=len(tasks), desc=", ".join(names), unit="mutation", disable=None) as bar:
        while next_one < len(tasks):
            ours, theirs = context.Pipe()
            for path, content in pristine.items():
                (run / path).write_bytes(content)
            child = context.Process(target=open_mutated, args=(theirs, run, seed, tasks[next_one:]))
            child.start()
            theirs.close()
            try:
                untouched = ours.recv()
                if untouched != "loaded":  # then no refusal would prove anything
                    problems.append(f"{run}, as it was: {untouched}")
                    next_one = len(tasks)
                while next_one < len(tasks):
                    if not ours.poll(LONGEST):
                        raise EOFError
                    outcome, (name, number) = ours.recv(), tasks[next_one]
                    if outcome in counts[name]:
                        counts[name][outcome] += 1
                    else:
                        problems.append(f"{name}, mutation {number}: {outcome}")
                    next_one += 1
                    bar.update()
            except EOFError:
                name, number = tasks[min(next_one, len(tasks) - 1)]
                problems.append(f"{name}, mutation {number}: the process crashed or hung")
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
    from oasisvq.evaluation.features import build_feature_network
    from oasisvq.runs.folder import PRIOR_FACTS

    facts = (run / PRIOR_FACTS).read_bytes()
    models = {}
    # Of the same configuration, models need to be built but once.
    modules.build_vqvae = remembered(modules.build_vqvae, models)
    modules.build_prior = remembered(modules.build_prior, models)
    build_features = remembered(build_feature_network, models)
    pipe.send(outcome(run, build_features))
    for name, number in tasks:
        pristine = (run / name).read_bytes()
        draw = random.Random(f"{seed} {name} {number // 2}")
        (run / name).write_bytes(mutated(pristine, draw, text=not name.endswith((".h5", ".npz"))))
        if number % 2 and name != PRIOR_FACTS:
            known = json.loads(facts) | {name: sha256(run / name)}
            (run / PRIOR_FACTS).write_text(json.dumps(known))
        pipe.send(outcome(run, build_features))
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


def outcome(folder, build_features):
    """Opens a run: returns `"refused"`, `"loaded"`, or what else happened."""
    import numpy as np

    from dataset import open_test_slices
    from hyperparameters import Hyperparameters
    from modules import load_prior, load_vqvae
    from oasisvq.core.errors import RunFolderError
    from oasisvq.runs.folder import MEAN_SLICES, open_run

    try:
        run = open_run(folder, Hyperparameters)
        if run.image_shape[0] * run.image_shape[1] > 2**18 or big(run.hyperparameters):
            return "loaded"  # a configuration like any other, whose model would fill the memory
        load_vqvae(run)
        load_prior(run)
        run.load_weights(build_features(run.image_shape))
        run.split()
        run.training_codes()
        run.training_conditions()
        run.read_arrays(MEAN_SLICES, "all", others=True)
        slices = open_test_slices(run)
        slices.images(np.arange(min(2, len(slices.table))))
    except RunFolderError as error:
        return "refused" if str(error) else "an error without a word"
    except BaseException as error:  # whatever it is, it should not be
        return f"{type(error).__name__}: {str(error)[:300]}"
    return "loaded"


def big(chosen):
    """Tells whether the models of a configuration would take too long to build."""
    vqvae, prior = chosen.vqvae, chosen.prior
    widths = vqvae.width, prior.filters, vqvae.num_embeddings * vqvae.embedding_dim / 64
    return max(widths) > 512 or max(vqvae.residual_blocks, prior.residual_blocks) > 16


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
