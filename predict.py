"""Draws new brains from a run folder, and shows what the VQ-VAE keeps of real ones."""

import dataclasses
import functools
import itertools
from pathlib import Path

from hyperparameters import DrawConfig, Hyperparameters
from oasisvq.core.configuration import Configuration, Parser, add_run_dir, check_folder
from oasisvq.core.files import read_json, write_text
from oasisvq.core.script import import_tensorflow_quietly, run_script
from oasisvq.runs.finished import DRAWN, find_run

MOST_IN_A_FIGURE = 64
AGES, POSITIONS = 4, 5  # of the figure of conditions
SAMPLES = "samples"


@dataclasses.dataclass(frozen=True)
class Flags(Configuration):
    """The flags of this script that have a default and a range."""

    draw: DrawConfig = DrawConfig()


def main():
    """Draws test slices with their codes, new brains, and new brains under other conditions."""
    config, arguments = parse_flags()

    import_tensorflow_quietly()
    import numpy as np

    from dataset import open_test_slices
    from modules import load_prior, load_vqvae
    from oasisvq.core.checks import finite
    from oasisvq.data.conditions import choose_conditions, describe_conditions, spread_conditions
    from oasisvq.evaluation.image_scores import slice_scores
    from oasisvq.figures import code_colours, save_each, save_pairs, save_pictures, save_rows
    from oasisvq.runs.folder import locked_run
    from oasisvq.sampling.incremental import sample_code_grids

    with locked_run(arguments.run_dir, Hyperparameters) as run:
        print(f"Run: {run.folder}")
        slices, trained = open_test_slices(run), run.training_conditions()
        vqvae, prior = load_vqvae(run), load_prior(run)
        # By default each new brain has the conditions of a test slice.
        random = np.random.default_rng([config.seed, 1])
        conditions = slices.conditions(random.integers(len(slices.table), size=config.num_samples))
        chosen = {name: getattr(arguments, name) for name in ("position", "age", "sex", "cdr")}
        conditions = choose_conditions(conditions, chosen, trained, run.folder)
        facts = dataclasses.asdict(config) | {"conditions": describe_conditions(conditions)}
        del facts["num_reconstructions"]
        # What is on the left and on the right of each picture.
        facts["sides"] = " ".join(slices.common_sides).strip() or "unknown"
        samples = Path(arguments.output or choose_folder(run.folder, facts))
        own = samples == run.folder / SAMPLES
        figures = run.folder / "figures" if own else samples / "figures"
        (samples / DRAWN).unlink(missing_ok=True)  # from here on, other brains may lie there

        def draw(uniforms, conditions):
            """Draws slices `(n, H, W)` in [0, 1]; for the arguments see `sample_code_grids`."""
            codes = sample_code_grids(prior, uniforms, config, conditions)
            return finite(vqvae.decode_all(codes), "pixels")[..., 0]

        # Test slices, evenly spaced over the subjects, their codes and their reconstructions.
        count = min(config.num_reconstructions, len(slices.table))
        rows = np.unique(np.linspace(0, len(slices.table) - 1, count).round().astype(int))
        originals = slices.images(rows)  # (n, H, W, 1)
        codes = vqvae.encode(originals).numpy()  # (n, h, w)
        decoded = finite(vqvae.decode(codes).numpy(), "pixels")  # (n, H, W, 1)
        ssim = slice_scores(originals, decoded)["ssim"]
        originals, decoded = originals[..., 0], decoded[..., 0]
        maps = code_colours(codes, vqvae.num_embeddings)
        names = [
            subject if np.isnan(index) else f"{subject}  {int(index)}"
            for subject, index in slices.table[["subject", "index"]].iloc[rows].to_numpy()
        ]
        scores, sides = [f"SSIM {score:.3f}" for score in ssim], slices.sides(rows)
        save_pairs(originals, names, maps, None, figures / "encoded.png", sides)
        save_pairs(originals, names, decoded, scores, figures / "reconstructed.png", sides)
        save_each(samples, "original", originals)
        save_each(samples, "reconstruction", decoded)
        save_each(samples, "codes", codes, maps)
        print(f"Reconstructed {len(rows)} test slices: SSIM {ssim.min():.3f} to {ssim.max():.3f}")

        # New brains: codes drawn from the prior, decoded.
        random = np.random.default_rng(config.seed)
        uniforms = random.random((config.num_samples, *vqvae.code_shape))
        brains = draw(uniforms, conditions)
        save_pictures(brains[:MOST_IN_A_FIGURE], figures / "generated.png", slices.common_sides)
        save_each(samples, "brain", brains)
        write_text(samples / DRAWN, facts)
        print(f"Drew {len(brains)} new brains, seed {config.seed}")

        # The first brain's uniforms under other conditions: ages in rows, positions in columns.
        conditions = spread_conditions(trained, AGES, POSITIONS)
        flat = conditions.reshape(-1, conditions.shape[-1])
        brains = draw(np.repeat(uniforms[:1], len(flat), axis=0), flat)
        titles = [
            ", ".join(f"{name} {value:g}" for name, value in known.items())
            for known in describe_conditions(flat)
        ]
        save_rows(
            brains.reshape(*conditions.shape[:2], *brains.shape[1:]),
            np.reshape(titles, conditions.shape[:2]),
            figures / "conditions.png",
            slices.common_sides,
        )
        print(
            f"Figures: {figures / 'encoded.png'}, {figures / 'reconstructed.png'}, "
            f"{figures / 'generated.png'}, {figures / 'conditions.png'}\n"
            f"Each picture as PNG and .npy: {samples}"
        )


def parse_flags():
    """Returns the `DrawConfig` of the flags, and all flags."""
    parser = Parser(description=__doc__)
    add_run_dir(parser, "folder that train.py made (default: the newest in runs)")
    parser.add_argument(
        "--output",
        metavar="FOLDER",
        type=lambda name: check_folder("--output", name),
        help="where the pictures go, in place of others there (default: samples in the run folder, "
        "or samples_2, samples_3, … if other brains lie there)",
    )
    Flags.add_flags(parser)
    conditions = parser.add_argument_group(
        "conditions",
        "conditions of all new brains; by default each has those of a test slice. If age, sex or "
        "CDR is given, those that are not given are unknown",
    )
    conditions.add_argument(
        "--slice-position",
        dest="position",
        type=float,
        metavar="MM",
        help="position of the slice in mm, or its number if the run's slices have only numbers",
    )
    conditions.add_argument("--age", type=float, help="in years")
    conditions.add_argument("--sex", choices=("F", "M"))
    conditions.add_argument("--cdr", type=float, help="clinical dementia rating: 0, 0.5, 1, 2 or 3")
    arguments = parser.parse_args()
    config = Flags().with_flags(arguments).draw
    arguments.run_dir = find_run(arguments.run_dir)
    return config, arguments


def choose_folder(run_folder, facts):
    """Returns a folder of a run for new brains: one without brains, or with these same brains.

    Args:
        run_folder: The path of the run.
        facts: How the brains are drawn, as `brains.json` keeps it.
    """
    numbers = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    folders = (run_folder / f"{SAMPLES}{number}" for number in numbers)
    return next(folder for folder in folders if drawn_there(folder) in (None, facts))


def drawn_there(folder):
    """Returns how the brains in a folder were drawn; `None` without any, `""` if unknown."""
    try:
        return read_json(folder / DRAWN)
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""


run = functools.partial(run_script, main)  # the command oasisvq-predict

if __name__ == "__main__":
    run()
