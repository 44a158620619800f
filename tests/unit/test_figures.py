"""What the figures show, and what is saved beside them."""

import numpy as np
import pandas
import pytest
from PIL import Image

from oasisvq import figures


@pytest.fixture
def drawn(monkeypatch):
    """Collects the figures that are drawn, by the names of their files, instead of saving them."""
    collected = {}
    monkeypatch.setattr(figures, "_save", lambda figure, path: collected.update({path: figure}))
    return collected


def shown(axis):
    """Returns the picture that an axis shows, or `None`."""
    return np.asarray(axis.images[0].get_array()) if axis.images else None


def shown_grid(figure, rows, columns):
    """Returns the axes of a figure by row and column."""
    assert len(figure.axes) == rows * columns
    return np.reshape(figure.axes, (rows, columns))


def letters(axis):
    """Returns the letters beside a picture, from left to right, which must not cover it."""
    texts = sorted(axis.texts, key=lambda text: text.get_position()[0])
    places = [text.get_position()[0] for text in texts]
    alignments = [text.get_horizontalalignment() for text in texts]
    if texts:
        assert places[0] < 0 < 1 < places[1]
        assert alignments == ["right", "left"]
    return "".join(text.get_text() for text in texts)


def write_history(path, names):
    columns = {name: [3.0, 2.0] for name in names} | {f"val_{name}": [3.5, 2.5] for name in names}
    pandas.DataFrame({"epoch": [0, 1], **columns}).to_csv(path)
    return path


def test_curves_show_training_and_validation_of_each_number(drawn, tmp_path):
    names = ["loss", "reconstruction_loss", "commitment_loss", "ssim", "perplexity"]
    figures.save_curves(write_history(tmp_path / "history.csv", names), "curves.png")
    axes = [axis for axis in drawn["curves.png"].axes if axis.lines]
    assert [axis.get_title() for axis in axes] == [figures.CURVES[name] for name in names]
    assert [axis.get_yscale() for axis in axes] == ["log", "log", "log", "linear", "linear"]
    for axis in axes:
        training, validation = axis.lines
        np.testing.assert_array_equal(training.get_xydata(), [[1, 3], [2, 2]])
        np.testing.assert_array_equal(validation.get_xydata(), [[1, 3.5], [2, 2.5]])
        assert [line.get_label() for line in axis.lines] == ["training", "validation"]


def test_curve_of_the_prior_is_in_bits_beside_what_other_models_reach(drawn, tmp_path):
    history = write_history(tmp_path / "history.csv", ["loss"])
    figures.save_curves(history, "curves.png", {"uniform": 9.0, "by position": 6.0})
    (axis,) = drawn["curves.png"].axes
    assert (axis.get_title(), axis.get_yscale()) == ("bits per code", "linear")
    assert {line.get_label(): line.get_ydata()[0] for line in axis.lines[2:]} == {
        "uniform": 9.0,
        "by position": 6.0,
    }


def test_a_code_has_the_same_colour_in_every_picture():
    codes = np.array([[[0, 1], [1, 2]], [[2, 2], [0, 1]]])
    colours = figures.code_colours(codes, 512)
    assert colours.shape == (2, 2, 2, 3)
    assert len({tuple(colour) for colour in colours.reshape(-1, 3)}) == 3
    np.testing.assert_array_equal(colours[0, 0, 0], colours[1, 1, 0])
    np.testing.assert_array_equal(figures.code_colours(codes[1:], 512), colours[1:])
    assert colours.min() >= 0
    assert colours.max() <= 1


def test_rows_show_each_picture_under_its_title(drawn, random):
    rows = [random.random((3, 5, 4)), random.random((2, 5, 4, 3))]
    figures.save_rows(rows, [["a", "b", "c"], None], "rows.png")
    axes = shown_grid(drawn["rows.png"], 2, 3)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            np.testing.assert_array_equal(shown(axes[row, column]), picture)
    assert shown(axes[1, 2]) is None
    titles = [[axis.get_title() for axis in row] for row in axes]
    assert titles == [["a", "b", "c"], ["", "", ""]]
    assert axes[0, 0].images[0].get_clim() == (0, 1)


def test_pictures_of_one_side_have_its_letters_beside_them(drawn, random):
    pictures = random.random((4, 5, 4))
    figures.save_rows([pictures[:3], pictures[:2]], [None, None], "rows.png", ("L", "R"))
    axes = shown_grid(drawn["rows.png"], 2, 3)
    assert [[letters(axis) for axis in row] for row in axes] == [["LR"] * 3, ["LR", "LR", ""]]
    assert drawn["rows.png"].get_supxlabel() == ""
    figures.save_pictures(pictures, "grid.png", ("R", "L"))
    assert [letters(axis) for axis in drawn["grid.png"].axes] == ["RL"] * 4


def test_a_figure_says_which_pictures_have_no_known_side(drawn, random):
    rows, unknown = [random.random((2, 5, 4))], ("", "")
    figures.save_rows(rows, [None], "mixed.png", [[("P", "A"), unknown]])
    assert [letters(axis) for axis in drawn["mixed.png"].axes] == ["PA", ""]
    assert drawn["mixed.png"].get_supxlabel() == "no letters: side unknown"
    figures.save_rows(rows, [None], "none.png")
    assert [letters(axis) for axis in drawn["none.png"].axes] == ["", ""]
    assert drawn["none.png"].get_supxlabel() == "side unknown"


def test_partners_and_reconstructions_have_the_letters_of_their_slices(drawn, random):
    pictures, names = random.random((9, 5, 4)), ["name"] * 9
    sides = [("L", "R"), ("R", "L"), ("P", "A")] * 3
    words = ["".join(pair) for pair in sides]
    figures.save_pairs(pictures, names, pictures, None, "pairs.png", sides)
    axes = shown_grid(drawn["pairs.png"], 4, 8)
    for row, expected in enumerate([words[:8], words[:8], words[8:], words[8:]]):
        assert [letters(axis) for axis in axes[row]][: len(expected)] == expected
    figures.save_extremes(pictures[:3], pictures[:3], names[:3], "extremes.png", sides[:3])
    axes = shown_grid(drawn["extremes.png"], 3, 3)
    assert [[letters(axis) for axis in row] for row in axes] == [words[:3]] * 3


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (4, (2, 2)), (5, (2, 3)), (7, (3, 3))])
def test_pictures_fill_a_grid_in_reading_order(drawn, random, count, shape):
    pictures = random.random((count, 5, 4))
    figures.save_pictures(pictures, "grid.png")
    axes = shown_grid(drawn["grid.png"], *shape).ravel()
    np.testing.assert_array_equal([shown(axis) for axis in axes[:count]], pictures)
    assert all(shown(axis) is None for axis in axes[count:])


def test_pairs_stand_one_below_the_other_eight_in_a_row(drawn, random):
    above, below = random.random((2, 11, 5, 4))
    names = [str(n) for n in range(11)]
    figures.save_pairs(above, names, below, None, "pairs.png")
    axes = shown_grid(drawn["pairs.png"], 4, 8)
    for n in range(11):
        row, column = 2 * (n // 8), n % 8
        np.testing.assert_array_equal(shown(axes[row, column]), above[n])
        np.testing.assert_array_equal(shown(axes[row + 1, column]), below[n])
        assert axes[row, column].get_title() == str(n)
        assert axes[row + 1, column].get_title() == ""
    figures.save_pairs(above[:1], ["generated"], below[:1], ["distance 0.123"], "closest.png")
    titles = [axis.get_title() for axis in drawn["closest.png"].axes]
    assert titles == ["generated", "distance 0.123"]


def test_extremes_show_four_times_the_difference(drawn):
    originals = np.full((2, 5, 4), 0.5)
    reconstructions = originals + np.array([0.125, -0.4])[:, None, None]
    figures.save_extremes(originals, reconstructions, ["best", "worst"], "extremes.png")
    axes = shown_grid(drawn["extremes.png"], 3, 2)
    assert [axis.get_title() for axis in axes[0]] == ["best", "worst"]
    assert [axis.get_title() for axis in axes[2]] == ["4 x difference"] * 2
    np.testing.assert_array_equal(shown(axes[1, 1]), reconstructions[1])
    np.testing.assert_allclose(shown(axes[2, 0]), 0.5)
    np.testing.assert_allclose(shown(axes[2, 1]), 1)  # 1.6, clipped


def test_histogram_counts_all_slices_and_marks_the_baselines(drawn, random):
    figures.save_histogram(random.random(1234), {"mean slice": 0.71, "black": 0.3}, "ssim.png")
    (axis,) = drawn["ssim.png"].axes
    assert sum(bar.get_height() for bar in axis.patches) == 1234
    assert {line.get_label(): line.get_xdata()[0] for line in axis.lines} == {
        "mean slice (no model): 0.710": 0.71,
        "black (no model): 0.300": 0.3,
    }
    texts = [text.get_text() for text in axis.get_legend().get_texts()]
    assert "reconstructions, n = 1,234 slices" in texts


def test_a_saved_picture_has_its_own_size_and_intensities(tmp_path):
    picture = np.array([[0, 0.5, 1], [-1, 2, 0.25]])
    figures.save_picture(picture, tmp_path / "grey.png")
    saved = np.asarray(Image.open(tmp_path / "grey.png"))
    np.testing.assert_array_equal(saved, [[0, 128, 255], [0, 255, 64]])
    figures.save_picture(np.stack([picture, picture, 0 * picture], -1), tmp_path / "colours.png")
    saved = np.asarray(Image.open(tmp_path / "colours.png"))
    np.testing.assert_array_equal(saved[0], [[0, 0, 0], [128, 128, 0], [255, 255, 0]])


def test_each_array_is_saved_with_its_picture_and_none_of_before_stays(tmp_path, random):
    earlier = random.random((3, 5, 4))
    figures.save_each(tmp_path, "brain", earlier)
    figures.save_each(tmp_path, "brainstem", earlier)
    (tmp_path / "brain_0002.txt").write_text("mine")
    (tmp_path / "brain_0002b.npy").write_text("mine")
    arrays = random.integers(0, 9, (2, 5, 4))
    pictures = random.random((2, 5, 4, 3))
    figures.save_each(tmp_path, "brain", arrays, pictures)
    for n in range(2):
        np.testing.assert_array_equal(np.load(tmp_path / f"brain_{n:04d}.npy"), arrays[n])
        saved = np.asarray(Image.open(tmp_path / f"brain_{n:04d}.png"))
        np.testing.assert_allclose(saved / 255, pictures[n], atol=0.5 / 255 + 1e-9)
    assert {path.name for path in tmp_path.glob("brain_*")} == {
        *(f"brain_{n:04d}.{suffix}" for n in range(2) for suffix in ("npy", "png")),
        "brain_0002.txt",
        "brain_0002b.npy",
    }
    np.testing.assert_array_equal(np.load(tmp_path / "brainstem_0002.npy"), earlier[2])


def test_a_figure_is_saved_whole_at_150_dots_an_inch(tmp_path, random):
    figures.save_pictures(random.random((4, 20, 16)), tmp_path / "new/grid.png")
    height, width = 2 * 150 * (1.7 * 20 / 16 + 0.18), 2 * 150 * 1.7
    assert Image.open(tmp_path / "new/grid.png").size == (int(width), int(height))
    assert [path.name for path in tmp_path.rglob("*.*")] == ["grid.png"]
