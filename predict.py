"""Makes new brains from a run folder, and shows what the VQ-VAE keeps of real ones."""

import json
from pathlib import Path

from errors import HyperparameterError, import_tensorflow_quietly, run_script
from hyperparameters import Parser

DRAW_FLAGS = ("num_samples", "temperature", "top_k", "top_p", "seed")


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
    arguments = parser.parse_args()
    check(arguments)

    import_tensorflow_quietly()
    from runs import open_run

    run = open_run(arguments.run_dir)
    vqvae = run.load_vqvae()
    prior = run.load_prior(vqvae.code_shape)
    figures, samples = run.folder / "figures", run.folder / "samples"
    show_reconstructions(run, vqvae, arguments.num_reconstructions, figures, samples)
    show_samples(vqvae, prior, arguments, figures, samples)
    print(
        f"Figures: {figures / 'encoded.png'}, {figures / 'reconstructed.png'}, "
        f"{figures / 'generated.png'}\nEach picture as PNG and .npy: {samples}"
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

    from figures import code_colours, save_code_maps, save_reconstructions
    from scores import slice_scores

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


def show_samples(vqvae, prior, arguments, figures, samples):
    """New brains: codes drawn from the prior, decoded."""
    import numpy as np

    from figures import save_pictures
    from sampling import sample_code_grids

    uniforms = np.random.default_rng(arguments.seed).random(
        (arguments.num_samples, *vqvae.code_shape)
    )
    codes = sample_code_grids(
        prior, uniforms, arguments.temperature, arguments.top_k, arguments.top_p
    )
    batches = np.array_split(codes, -(-len(codes) // 16))  # memory for 16 at a time
    brains = np.concatenate([vqvae.decode(batch).numpy()[..., 0] for batch in batches])
    save_pictures(brains[:64], figures / "generated.png")
    save_each(samples, "brain", brains)
    drawn = {name: getattr(arguments, name) for name in DRAW_FLAGS}
    (samples / "brains.json").write_text(json.dumps(drawn, indent=2) + "\n")
    print(f"Drew {len(brains)} new brains, seed {arguments.seed}")


def save_each(folder, name, arrays, pictures=None):
    """Each array as `name_0000.npy`, and as a picture beside it."""
    import numpy as np

    from figures import save_picture

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{name}_[0-9][0-9][0-9][0-9]*.*"):
        if old.suffix in (".npy", ".png"):
            old.unlink()
    for number, array in enumerate(arrays):
        path = Path(folder / f"{name}_{number:04d}.npy")
        np.save(path, array)
        save_picture(array if pictures is None else pictures[number], path.with_suffix(".png"))


if __name__ == "__main__":
    run_script(main)
