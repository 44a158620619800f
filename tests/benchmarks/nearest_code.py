"""Compares the search for each latent's nearest code with the Keras example's: time and memory.

    python tests/benchmarks/nearest_code.py [--latents 65536] [--dimension 64] [--codes 512]

Both put its code in place of each latent, in turns; the share of latents for which they take the
same one is printed. The memory is what each takes beyond the latents, in a process of its
own: how far its peak rises at the first search, after its graph was traced on a few latents.
"""

import argparse
import dataclasses
import subprocess
import sys
from pathlib import Path

import _project  # noqa: F401
import tensorflow as tf
from timing import alternate, ratio_text

from hyperparameters import VQVAEConfig
from modules import VQVAETrainer
from oasisvq.core.script import run_script
from support.keras_examples import ExampleQuantizer

ROUNDS = 15


def main():
    """Times both searches and measures their memory; or, in a process of its own, one's memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=65_536)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--codes", type=int, default=512)
    parser.add_argument("--memory-of", choices=("here", "example"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    latents, searches = build(arguments)
    if arguments.memory_of:
        print(extra_memory(searches[arguments.memory_of], latents))
        return
    here, example = (search(latents).numpy() for search in searches.values())
    agreeing = (here == example).all(axis=1).mean()
    functions = {name: lambda s=s: s(latents).numpy() for name, s in searches.items()}
    seconds = alternate(functions, ROUNDS)
    print(
        f"{arguments.latents:,} latents of {arguments.dimension}, {arguments.codes} codes: "
        f"{agreeing:.4%} of the codes the same; the example takes "
        f"{ratio_text(seconds['example'], seconds['here'])} as long"
    )
    memory = {name: measure_memory(name) for name in searches}
    print(
        "memory beyond the latents: "
        + ", ".join(f"{name} {amount / 1e6:,.0f} MB" for name, amount in memory.items())
        + f": {memory['here'] / memory['example']:.1%}"
    )


def build(arguments):
    """Returns the latents `(N, D)`, and both searches: functions that give their codes `(N, D)`."""
    latents = tf.random.stateless_normal((arguments.latents, arguments.dimension), [0, 0])
    codebook = tf.random.stateless_normal((arguments.codes, arguments.dimension), [0, 1])
    sizes = {"num_embeddings": arguments.codes, "embedding_dim": arguments.dimension}
    config = dataclasses.replace(VQVAEConfig(), width=2, rate_weight=0.0, **sizes)
    here = VQVAETrainer((16, 16), 0.1, config, seed=0).quantizer
    here.start(codebook, 1.0)
    example = ExampleQuantizer(arguments.codes, arguments.dimension)
    example.embeddings.assign(tf.transpose(codebook))
    signature = [tf.TensorSpec((None, arguments.dimension))]
    return latents, {
        "here": tf.function(lambda z: here.code_vectors(here.code_indices(z)), signature),
        "example": tf.function(example.nearest_codes, signature),
    }


def extra_memory(search, latents):
    """Returns the bytes by which the process's peak rises."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    search(latents[:16])
    clear.write_text("5")  # the peak starts anew from what is held now

    def held(name):
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    before = held("VmRSS")
    search(latents)
    return held("VmHWM") - before


def measure_memory(name):
    """Returns `extra_memory` of a search, in a process of its own."""
    command = [sys.executable, *sys.argv, "--memory-of", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])  # the line on peak memory follows


if __name__ == "__main__":
    run_script(main)
