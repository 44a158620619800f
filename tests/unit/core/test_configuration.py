"""Configurations made of parts: what a field accepts, its flag, and the trip through JSON."""

import dataclasses
import json
from typing import ClassVar

import pytest

from oasisvq.core.configuration import Configuration, Parser, Part, option
from oasisvq.core.errors import HyperparameterError


@dataclasses.dataclass(frozen=True)
class Oven(Part):
    """Where it is baked.

    Attributes:
        heat: degrees, of 50% humid
            air
        rounds: how often it is turned
        shelves: shelves in use
        window: from and to
    """

    title: ClassVar[str] = "oven"

    heat: float = option(180.0, low=50.0, high=250.0)
    rounds: int = option(2, low=1)
    shelves: tuple[int, ...] = option((1, 3), low=1, high=5)
    window: tuple[float, float] = option((0.0, 1.5), count=2)


@dataclasses.dataclass(frozen=True)
class Cake(Part):
    """What is baked.

    Attributes:
        kind: what is on it
        name: what it is called
        rounds: cakes
        sweet: with sugar
    """

    title: ClassVar[str] = "cake"
    prefix: ClassVar[str] = "cake_"

    kind: str = option("plum", choices=("plum", "apple"))
    name: str = option("")
    rounds: int = option(1, low=0)
    sweet: bool = option(True)


@dataclasses.dataclass(frozen=True)
class Recipe(Configuration):
    oven: Oven = Oven()
    cake: Cake = Cake()


def parse(*flags, base=None, **options):
    parser = Parser(prog="bake.py")
    Recipe.add_flags(parser, **options)
    return (base or Recipe()).with_flags(parser.parse_args(flags))


def help_text(**options):
    parser = Parser(prog="bake.py")
    Recipe.add_flags(parser, **options)
    return " ".join(parser.format_help().split())


def test_a_prefix_keeps_two_parts_apart():
    assert Recipe.names() == [
        "heat",
        "rounds",
        "shelves",
        "window",
        "cake_kind",
        "cake_name",
        "cake_rounds",
        "cake_sweet",
    ]
    recipe = parse("--cake-rounds", "4", "--rounds", "3")
    assert (recipe.oven.rounds, recipe.cake.rounds) == (3, 4)
    assert recipe == Recipe().replace(rounds=3, cake_rounds=4)
    assert recipe == Recipe(oven=Oven(rounds=3), cake=Cake(rounds=4))


def test_absent_flags_leave_what_was_there():
    base = Recipe().replace(heat=90.0, cake_sweet=False)
    assert parse(base=base) == base
    assert parse("--heat", "95", base=base) == base.replace(heat=95.0)


def test_flags_of_every_kind():
    flags = "--shelves 2 4 5 --window -1 2.5 --no-cake-sweet --cake-kind apple --cake-name x"
    changed = {
        "shelves": (2, 4, 5),
        "window": (-1.0, 2.5),
        "cake_sweet": False,
        "cake_kind": "apple",
        "cake_name": "x",
    }
    assert parse(*flags.split()) == Recipe().replace(**changed)


def test_only_the_named_values_get_a_flag():
    assert parse("--heat", "70", names={"heat"}).oven.heat == 70
    with pytest.raises(HyperparameterError, match=r"--rounds.*See bake.py --help"):
        parse("--rounds", "3", names={"heat"})
    assert "cake" not in help_text(names={"heat"})


def test_help_shows_each_default_under_its_part():
    text = help_text()
    assert "oven: --heat X degrees, of 50% humid air (default: 180.0)" in text
    assert "shelves in use (default: 1 3)" in text
    assert "cake: --cake-kind {plum,apple} what is on it (default: plum)" in text
    assert "what it is called --cake-rounds" in text  # an empty text needs no default
    assert "--cake-sweet, --no-cake-sweet with sugar" in text
    assert "degrees, of 50% humid air (default: the run's)" in help_text(default="the run's")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("heat", 49.9, "--heat must be from 50.0 to 250.0. Received: 49.9"),
        ("heat", float("nan"), "--heat must be a finite number. Received: nan"),
        ("heat", "180", "--heat must be a finite number. Received: '180'"),
        ("heat", True, "--heat must be a finite number. Received: True"),
        ("rounds", 0, "--rounds must be at least 1. Received: 0"),
        ("rounds", 1.0, "--rounds must be an integer. Received: 1.0"),
        ("shelves", (1, 6), "--shelves must be from 1 to 5. Received: 6"),
        ("shelves", (), "--shelves must be an integer. Received: ()"),
        ("shelves", 3, "--shelves must be an integer. Received: 3"),
        ("window", (1.0,), "--window takes 2 values. Received: (1.0,)"),
        ("cake_kind", "pear", "--cake-kind must be one of plum, apple. Received: 'pear'"),
        ("cake_name", None, "--cake-name must be text. Received: None"),
        ("cake_sweet", 1, "--cake-sweet must be true or false. Received: 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(name, value, expected):
    with pytest.raises(HyperparameterError) as refused:
        Recipe().replace(**{name: value})
    assert str(refused.value) == expected


@pytest.mark.parametrize(("name", "value"), [("heat", 50), ("heat", 250.0), ("cake_rounds", 0)])
def test_the_ends_of_a_range_belong_to_it(name, value):
    assert Recipe().replace(**{name: value}).to_dictionary()[name] == value


def test_unknown_names_are_refused():
    with pytest.raises(HyperparameterError, match="unknown hyperparameters: glaze, size"):
        Recipe().replace(size=1, heat=60.0, glaze=True)


def test_the_trip_through_json_keeps_every_value():
    recipe = Recipe().replace(shelves=(2,), window=(0.25, 0.5), cake_name="é", cake_sweet=False)
    values = json.loads(json.dumps(recipe.to_dictionary()))
    assert list(values) == Recipe.names()
    assert Recipe.from_dictionary(values) == recipe


def test_a_dictionary_of_something_else_is_refused():
    values = Recipe().to_dictionary()
    for wrong in ({**values, "glaze": 1}, {k: v for k, v in values.items() if k != "heat"}, {}):
        with pytest.raises(HyperparameterError, match="unknown or missing"):
            Recipe.from_dictionary(wrong)
    for wrong in ([], None, "text"):
        with pytest.raises(HyperparameterError, match="expected hyperparameters"):
            Recipe.from_dictionary(wrong)


def test_a_configuration_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().oven.heat = 100.0
