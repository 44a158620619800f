"""The configuration of a run: its ranges and flags, and the round trip through JSON."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperparameters import PIXEL_SIZES, PRESETS, Hyperparameters, add_data_dir
from oasisvq.core.configuration import Parser
from oasisvq.core.errors import HyperparameterError


def parse(*flags, base=None):
    parser = Parser()
    Hyperparameters.add_flags(parser)
    return (base or Hyperparameters()).with_flags(parser.parse_args(flags))


def test_every_field_is_a_flag():
    flags = []
    for name, value in Hyperparameters().to_dictionary().items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            flags.append(flag if value else flag.replace("--", "--no-"))
            continue
        value = value if isinstance(value, list) else [value]
        if not value:  # a flag that may be repeated, or not given at all
            continue
        flags += [flag, *map(str, value)]
    assert parse(*flags) == Hyperparameters() == parse()


def test_flags_change_their_fields_only():
    chosen = parse("--num-embeddings", "64", "--slice-range", "-20", "10.5", "--slice-unit", "mm")
    expected = {"num_embeddings": 64, "slice_range": (-20.0, 10.5), "slice_unit": "mm"}
    assert chosen == Hyperparameters().replace(**expected)


def test_repeated_flags_and_words_for_numbers():
    chosen = parse("--include", "*T1*", "--include", "sub-1", "--slices-per-volume", "all")
    assert chosen.data.include == ("*T1*", "sub-1")
    assert chosen.data.slices_per_volume == 0
    assert parse("--slices-per-volume", "ALL").data.slices_per_volume == 0
    with pytest.raises(HyperparameterError, match="slices-per-volume"):
        parse("--slices-per-volume", "some")


@pytest.mark.parametrize("size", [0.001, 0.049, 20.1, -1])
def test_pixels_are_as_large_as_those_of_scans(size):
    with pytest.raises(
        HyperparameterError, match=r"--pixel-size must be 0, or from 0\.05 to 20 mm"
    ):
        parse("--pixel-size", str(size))
    for allowed in (0, 0.05, 20):
        assert parse("--pixel-size", str(allowed)).data.pixel_size == allowed


@pytest.mark.parametrize(
    "flags",
    [
        ["--width", "4096"],
        ["--width", "2048", "--residual-blocks", "1"],
        ["--num-embeddings", "65536", "--embedding-dim", "4096"],
        ["--prior-filters", "4096"],
        ["--prior-filters", "1024", "--prior-residual-blocks", "256"],
        ["--prior-filters", "1500", "--num-embeddings", "65536"],
    ],
)
def test_models_that_would_fill_the_memory_are_refused(flags):
    with pytest.raises(HyperparameterError, match=rf"at most 134,217,728: lower .*{flags[0]}"):
        parse(*flags)


def test_models_of_a_few_hundred_channels_are_allowed():
    parse("--width", "512", "--residual-blocks", "8", "--num-embeddings", "16384")
    parse("--prior-filters", "512", "--prior-residual-blocks", "32")


def test_a_configuration_of_before_a_field_existed_keeps_its_meaning():
    values = Hyperparameters().to_dictionary()
    for name in ("pixel_size", "include", "exclude", "suffix", "persons"):
        del values[name]
    data = Hyperparameters.from_dictionary(values).data
    assert (data.pixel_size, data.include, data.persons) == (1.0, (), "by-name")


def test_round_trip_through_json():
    chosen = Hyperparameters().replace(dataset="demo", prior_dilations=(1, 3), learning_rate=0.25)
    text = json.dumps(chosen.to_dictionary())
    assert Hyperparameters.from_dictionary(json.loads(text)) == chosen


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("epochs", 0),
        ("epochs", 1.5),
        ("epochs", True),
        ("downsample", 5),
        ("num_embeddings", 1),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", -1.0),
        ("ema_decay", 1.0),
        ("test_fraction", 0.95),
        ("slice_range", (0.5, 1.5)),
        ("slice_range", (0.6, 0.4)),
        ("slice_range", (0.1, 0.2, 0.3)),
        ("prior_dilations", (0,)),
        ("prior_dilations", ()),
        ("plane", "oblique"),
        ("codebook_update", None),
    ],
)
def test_values_out_of_range_name_their_flag(field, value):
    with pytest.raises(HyperparameterError, match="--" + field.replace("_", "-")):
        Hyperparameters().replace(**{field: value})


def test_fractions_must_leave_subjects_to_train_on():
    with pytest.raises(HyperparameterError, match="sum must be below 1"):
        Hyperparameters().replace(validation_fraction=0.5, test_fraction=0.5)


@pytest.mark.parametrize("values", [{}, {"epochs": 3}, [], None, "text"])
def test_other_configurations_are_refused(values):
    with pytest.raises(HyperparameterError):
        Hyperparameters.from_dictionary(values)
    with pytest.raises(HyperparameterError, match="colour"):
        Hyperparameters.from_dictionary({**Hyperparameters().to_dictionary(), "colour": 1})


def test_a_wrong_flag_is_one_error():
    with pytest.raises(HyperparameterError, match="--epochs"):
        parse("--epochs", "many")
    with pytest.raises(HyperparameterError, match="--epoch-count"):
        parse("--epoch-count", "3")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_configurations_that_flags_change_further(preset):
    base = Hyperparameters().replace(**PRESETS[preset])
    assert parse("--epochs", "7", base=base) == base.replace(epochs=7)
    assert (base == Hyperparameters()) == (preset == "default")


@pytest.mark.parametrize(
    ("text", "numbers"), [("", ()), ("1,2", (1, 2)), ("3-5, 1,4", (1, 3, 4, 5)), ("7", (7,))]
)
def test_discs_are_numbers_and_ranges(text, numbers):
    assert Hyperparameters().replace(discs=text).data.disc_numbers == numbers


@pytest.mark.parametrize("text", ["one", "3-1", "1,", "-2", "123"])
def test_discs_that_are_no_numbers_are_refused(text):
    with pytest.raises(HyperparameterError, match="--discs must be numbers"):
        Hyperparameters().replace(discs=text)


def test_the_environment_gives_the_folder_of_the_data(monkeypatch):
    monkeypatch.delenv("OASIS_DATA_DIR", raising=False)
    for expected in ("data", "elsewhere"):
        parser = Parser()
        add_data_dir(parser)
        assert parser.parse_args([]).data_dir == expected
        assert parser.parse_args(["--data-dir", "here"]).data_dir == "here"
        monkeypatch.setenv("OASIS_DATA_DIR", "elsewhere")


def test_every_value_is_explained_in_help():
    parts = [type(part) for part in vars(Hyperparameters()).values()]
    described = [part.help(field.name) for part in parts for field in dataclasses.fields(part)]
    assert len(described) == len(Hyperparameters.names())
    assert all(described)


# Any values


@st.composite
def configurations(draw):
    """Draws any values within the fields' ranges."""
    values = {}
    for name, _, _, field in Hyperparameters._options():
        limits, default = field.metadata, field.default
        low, high = limits["low"], limits["high"]
        if name in ("slice_range", "validation_fraction", "test_fraction", "discs", "pixel_size"):
            continue
        if limits["choices"]:
            values[name] = draw(st.sampled_from(limits["choices"]))
        elif isinstance(default, bool):
            values[name] = draw(st.booleans())
        elif isinstance(default, int):
            values[name] = draw(st.integers(low, high if high is not None else 10**9))
        elif isinstance(default, float):
            values[name] = draw(st.floats(low, high))
        elif limits["repeated"]:
            values[name] = tuple(draw(st.lists(st.text())))
        elif isinstance(default, tuple):
            values[name] = tuple(draw(st.lists(st.integers(low, high), min_size=1)))
        else:
            values[name] = draw(st.text())
    fractions = st.floats(0, 0.45)
    values["validation_fraction"], values["test_fraction"] = draw(fractions), draw(fractions)
    values["slice_range"] = tuple(sorted(draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))))
    values["pixel_size"] = draw(st.one_of(st.just(0.0), st.floats(*PIXEL_SIZES)))
    values["discs"] = ",".join(map(str, draw(st.lists(st.integers(1, 12)))))
    # Models of any number of blocks and codes are then small enough.
    values["embedding_dim"] = draw(st.integers(1, 1024))
    values["width"], values["prior_filters"] = draw(st.integers(2, 200)), draw(st.integers(2, 200))
    return values


@given(configurations())
def test_every_configuration_comes_back_from_json(values):
    chosen = Hyperparameters().replace(**values)
    text = json.dumps(chosen.to_dictionary())
    assert Hyperparameters.from_dictionary(json.loads(text)) == chosen


@given(
    configurations(),
    st.sampled_from(Hyperparameters.names()),
    st.one_of(st.none(), st.text(), st.integers(), st.floats(), st.lists(st.none(), max_size=2)),
)
def test_any_other_value_is_refused_in_one_line_or_taken_as_it_is(values, name, value):
    stored = {**Hyperparameters().replace(**values).to_dictionary(), name: value}
    try:
        chosen = Hyperparameters.from_dictionary(stored)
    except HyperparameterError as error:
        assert name.replace("_", "-") in str(error) or "fraction" in str(error)
        return
    assert chosen.to_dictionary()[name] == value


def test_a_flag_has_one_default_in_the_help():
    parser = Parser()
    Hyperparameters.add_flags(parser, ["suffix", "discs"], default="the run's own")
    text = " ".join(parser.format_help().split())
    assert text.count("(default: ") == text.count("(default: the run's own)") == 2
