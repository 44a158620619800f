"""Makes new brains from a run folder, and shows what the VQ-VAE keeps of real ones."""

from hyperparameters import Parser
from oasisvq.core.errors import HyperparameterError
from oasisvq.core.files import whole_file, write_text
from oasisvq.core.script import import_tensorflow_quietly, run_script

DRAW_FLAGS = ("num_samples", "temperature", "top_k", "top_p", "seed")
WHOSE_FLAGS = ("age", "sex", "cdr")
SHOWN_AGES, SHOWN_POSITIONS = 4, 5  # of the figure of conditions


def main():
    parser = Parser(description=__doc__)
    parser.add_argument("--run-dir", help="folder that train.py made (default: the newest in runs)")
    parser.add_argument("--num-samples", type=int, default=16, help="new brains (default: 16)")
    parser.add_argument(
        "--num-reconstructions", type=int, default=8, help="test slices shown (default: 8)"
    )
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: likelier brains (default: 1)"
    )
    parser.add_argument(
        "--top-k", type=int, default=0, help="draw from the k likeliest codes (default: 0, all)"
    )
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="draw from the likeliest codes that together "
        "reach this probability (default: 1, all)"
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="another seed, other brains")
    conditions = parser.add_argument_group(
        "conditions", "of all new brains; by default each has those of a test slice. If any of "
        "age, sex and CDR is given, the others are left open",
    )  # fmt: skip
    conditions.add_argument(
        "--slice-position", type=float, metavar="MM", help="where the slice lies, in mm; its "
        "number, if the run's slices have numbers only"
    )  # fmt: skip
    conditions.add_argument("--age", type=float, help="in years")
    conditions.add_argument("--sex", choices=("F", "M"))
    conditions.add_argument("--cdr", type=float, help="clinical dementia rating: 0, 0.5, 1 or 2")
    arguments = parser.parse_args()
    check(arguments)

    import_tensorflow_quietly()
    from oasisvq.runs.folder import open_run

    run = open_run(arguments.run_dir)
    vqvae = run.load_vqvae()
    prior = run.load_prior()
    check_conditions(run, arguments)
    figures, samples = run.folder / "figures", run.folder / "samples"
    with run.alone():
        show_reconstructions(run, vqvae, arguments.num_reconstructions, figures, samples)
        show_samples(run, vqvae, prior, arguments, figures, samples)
        show_conditions(run, vqvae, prior, arguments, figures)
    print(
        f"Figures: {figures / 'encoded.png'}, {figures / 'reconstructed.png'}, "
        f"{figures / 'generated.png'}, {figures / 'conditions.png'}\n"
        f"Each picture as PNG and .npy: {samples}"
    )


def check(arguments):
    """Refuses flags that no draw can use."""
    limits = {
        "num_samples": (1, 100_000),
        "num_reconstructions": (1, 64),
        "temperature": (0.01, 100),
        "top_k": (0, 65536),
        "top_p": (1e-6, 1),
        "seed": (0, 2**63 - 1),
    }
    for name, (low, high) in limits.items():
        value = getattr(arguments, name)
        if not low <= value <= high:
            flag = "--" + name.replace("_", "-")
            raise HyperparameterError(f"{flag} must be from {low} to {high}. Received: {value}")


def show_reconstructions(run, vqvae, count, figures, samples):
    """Test slices, evenly spaced over the subjects, their codes, and what the codes give back."""
    import numpy as np

    from oasisvq.evaluation.image_scores import slice_scores
    from oasisvq.figures import code_colours, save_code_maps, save_reconstructions

    slices = run.test_slices()
    spread = np.linspace(0, len(slices.table) - 1, min(count, len(slices.table)))
    rows = np.unique(spread.round().astype(int))
    images = slices.images(rows)  # (n, H, W, 1)
    codes = vqvae.encode(images).numpy()  # (n, h, w)
    reconstructions = vqvae.decode(codes).numpy()
    ssim = slice_scores(images, reconstructions)["ssim"]
    names = [slice_name(slices.table.iloc[row]) for row in rows]
    originals, reconstructions = images[..., 0], reconstructions[..., 0]
    size = vqvae.num_embeddings
    save_code_maps(originals, codes, size, names, figures / "encoded.png")
    save_reconstructions(originals, reconstructions, ssim, names, figures / "reconstructed.png")
    save_each(samples, "original", originals)
    save_each(samples, "reconstruction", reconstructions)
    save_each(samples, "codes", codes, code_colours(codes, size))
    print(f"Reconstructed {len(rows)} test slices: SSIM {ssim.min():.3f} to {ssim.max():.3f}")


def slice_name(row):
    """Subject and slice number, for a title."""
    return f"{row['subject']}" + ("" if row.isna()["index"] else f"  {int(row['index'])}")


def check_conditions(run, arguments):
    """Refuses conditions of which the run has seen nothing."""
    import numpy as np

    from dataset import CONDITIONS, SEXES

    trained = run.training_conditions()
    for name, values in zip(CONDITIONS, trained.T, strict=True):
        asked = getattr(arguments, "slice_position" if name == "position" else name)
        if asked is None:
            continue
        flag = "--slice-position" if name == "position" else f"--{name}"
        if np.isnan(values).all():
            raise HyperparameterError(
                f"{flag}: {run.folder} was trained on slices of unknown {name}. Leave it out"
            )
        if name == "cdr" and not np.isclose(values, asked).any():
            ratings = ", ".join(f"{value:g}" for value in np.unique(values[~np.isnan(values)]))
            raise HyperparameterError(
                f"{flag} must be one of {ratings}, as in the slices that {run.folder} was trained "
                f"on. Received: {asked}"
            )
        low, high = np.nanmin(values), np.nanmax(values)
        # As printed below, bounds are rounded: what they say must be taken.
        if not low - 1e-3 <= SEXES.get(asked, asked) <= high + 1e-3:
            bounds = f"from {low:g} to {high:g}" if name != "sex" else "the only one"
            raise HyperparameterError(
                f"{flag} must be {bounds}, as in the slices that {run.folder} was trained on. "
                f"Received: {asked}"
            )


def wanted_conditions(run, arguments):
    """The conditions of each new brain, `(n, 4)`: those of test slices, or those asked for."""
    import numpy as np

    from dataset import CONDITIONS, SEXES

    slices = run.test_slices()
    random = np.random.default_rng([arguments.seed, 1])
    rows = random.integers(len(slices.table), size=arguments.num_samples)
    conditions = slices.conditions(rows)
    asked = {name: getattr(arguments, name) for name in WHOSE_FLAGS}
    asked["sex"] = SEXES.get(asked["sex"])
    if any(value is not None for value in asked.values()):
        for name, value in asked.items():
            conditions[:, CONDITIONS.index(name)] = np.nan if value is None else value
    if arguments.slice_position is not None:
        conditions[:, CONDITIONS.index("position")] = arguments.slice_position
    return conditions


def show_samples(run, vqvae, prior, arguments, figures, samples):
    """New brains: codes drawn from the prior, decoded."""
    import numpy as np

    from oasisvq.figures import save_pictures

    random = np.random.default_rng(arguments.seed)
    uniforms = random.random((arguments.num_samples, *vqvae.code_shape))
    conditions = wanted_conditions(run, arguments)
    brains = draw(vqvae, prior, uniforms, conditions, arguments)
    save_pictures(brains[:64], figures / "generated.png")
    save_each(samples, "brain", brains)
    drawn = {name: getattr(arguments, name) for name in DRAW_FLAGS}
    drawn["conditions"] = describe_conditions(conditions)
    write_text(samples / "brains.json", drawn)
    print(f"Drew {len(brains)} new brains, seed {arguments.seed}")


def draw(vqvae, prior, uniforms, conditions, arguments):
    """New brains `(n, H, W)` in [0, 1] for uniforms `(n, h, w)` and conditions `(n, 4)`."""
    from oasisvq.sampling.incremental import sample_code_grids

    codes = sample_code_grids(
        prior, uniforms, conditions, arguments.temperature, arguments.top_k, arguments.top_p
    )
    return vqvae.decode_all(codes)[..., 0]


def describe_conditions(conditions):
    """A dictionary for each row of conditions, unknown ones left out."""
    from dataset import CONDITIONS, SEXES

    letters = {value: letter for letter, value in SEXES.items()}
    described = []
    for row in conditions.tolist():
        known = {name: value for name, value in zip(CONDITIONS, row, strict=True) if value == value}
        if "sex" in known:
            known["sex"] = letters[known["sex"]]
        described.append(known)
    return described


def show_conditions(run, vqvae, prior, arguments, figures):
    """The same chance under other conditions: a row an age, a column a position."""
    import numpy as np

    from oasisvq.figures import save_rows

    trained = run.training_conditions()
    positions, ages = (
        np.unique(np.nanquantile(values, np.linspace(0.05, 0.95, count)).round())
        if not np.isnan(values).all()
        else np.array([np.nan])
        for values, count in ((trained[:, 0], SHOWN_POSITIONS), (trained[:, 1], SHOWN_AGES))
    )
    conditions = np.full((len(ages), len(positions), 4), np.nan, np.float32)
    conditions[..., 0], conditions[..., 1] = positions, ages[:, None]
    chance = np.random.default_rng(arguments.seed).random((1, *vqvae.code_shape))
    flat = conditions.reshape(-1, 4)
    chances = np.repeat(chance, len(flat), axis=0)
    brains = draw(vqvae, prior, chances, flat, arguments)
    titles = [
        ", ".join(f"{name} {value:g}" for name, value in known.items())
        for known in describe_conditions(flat)
    ]
    shape = len(ages), len(positions)
    save_rows(
        list(brains.reshape(*shape, *brains.shape[1:])),
        np.reshape(titles, shape).tolist(),
        figures / "conditions.png",
    )


def save_each(folder, name, arrays, pictures=None):
    """Each array as `name_0000.npy`, and as a picture beside it, in the place of earlier ones."""
    import numpy as np

    from oasisvq.figures import save_picture

    for number, array in enumerate(arrays):
        path = folder / f"{name}_{number:04d}.npy"
        with whole_file(path) as partial:
            np.save(partial, array)
        save_picture(array if pictures is None else pictures[number], path.with_suffix(".png"))
    for old in folder.glob(f"{name}_[0-9][0-9][0-9][0-9]*.*"):
        number = old.stem.rpartition("_")[2]
        if old.suffix in (".npy", ".png") and number.isdigit() and int(number) >= len(arrays):
            old.unlink()


if __name__ == "__main__":
    run_script(main)
