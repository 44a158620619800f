"""Builds a configuration of parts: frozen dataclasses whose fields are flags of the scripts."""

import argparse
import dataclasses
import json
import math
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Self

from oasisvq.core.errors import HyperparameterError

_EXPECTED = {float: "a finite number", int: "an integer", str: "text", bool: "true or false"}
_PLACEHOLDERS = {float: "X", int: "N", str: "TEXT"}


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that raises `HyperparameterError` on a wrong flag."""

    def error(self, message: str) -> NoReturn:
        raise HyperparameterError(f"{message}. See {self.prog} --help")


def add_run_dir(parser: argparse.ArgumentParser, description: str) -> None:
    """Adds `--run-dir` to a parser, which refuses the root of a disk."""
    parser.add_argument(
        "--run-dir", type=lambda name: check_folder("--run-dir", name), help=description
    )


def check_folder(flag: str, name: str) -> str:
    """Returns the path of a folder for a script's files, and refuses a file or a disk's root.

    Args:
        flag: The flag that names the folder.
        name: Its path. It need not exist.

    Raises:
        HyperparameterError: If the path is refused.
    """
    path = Path(name)
    if not path.resolve().name:
        raise HyperparameterError(f"{flag} {name}: is the root of a disk. Give another folder")
    if path.exists() and not path.is_dir():
        raise HyperparameterError(f"{flag} {name}: is a file. Give a folder")
    check_new_file(flag, name)
    return name


def check_new_file(flag: str, name: str | None) -> None:
    """Refuses a file for which a folder would be made in the root of the disk: a mistyped path.

    Args:
        flag: The flag that names the file.
        name: Its path, or `None` if the flag was not given.

    Raises:
        HyperparameterError: If the path is refused.
    """
    folder = Path(name or ".").resolve().parent
    top = next(path for path in (folder, *folder.parents) if path.exists())
    if top != folder and not top.name:
        raise HyperparameterError(
            f"{flag} {name}: the folder {folder} does not exist. Make it, or give another path"
        )


def option(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    choices: tuple | None = None,
    count: int | None = None,
    repeated: bool = False,
    words: dict[str, int] | None = None,
    before: Any = None,
) -> Any:
    """Returns a field of a part, with the range of its values.

    Args:
        default: The default value, which also gives the type; a tuple holds several values.
        low, high: The closed range of a number, or of each number of a tuple.
        choices: All values that are allowed.
        count: The number of values in a tuple; `None` allows one or more.
        repeated: Whether the flag may be given several times, each with one text; the default is
            then `()`.
        words: Lower-case words that a flag takes in the place of some numbers, in any case.
        before: The value of configurations that were saved before the field existed. Default:
            there are none.
    """
    limits: dict[str, Any] = {"repeated": repeated, "words": words or {}, "before": before}
    limits |= {"low": low, "high": high, "choices": choices, "count": count}
    return dataclasses.field(default=default, metadata=limits)


@dataclasses.dataclass(frozen=True)
class Part:
    """One part of a configuration; every field is an `option` and is checked.

    `--help` shows the text of each field in the docstring of the part, below `Attributes:`.

    Attributes:
        title: The heading of its flags in `--help`.
        prefix: The first part of the names of its flags, such as `"prior_"`.

    Raises:
        HyperparameterError: If a value has the wrong type or is out of range.
    """

    title: ClassVar[str]
    prefix: ClassVar[str] = ""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):  # from JSON or argparse
                value = tuple(value)
                object.__setattr__(self, field.name, value)
            self._check(field, value)

    @classmethod
    def flag(cls, name: str) -> str:
        """Returns the flag of a field, such as `"--prior-batch-size"`."""
        return "--" + (cls.prefix + name).replace("_", "-")

    @classmethod
    def help(cls, name: str) -> str:
        """Returns the text of a field in the docstring."""
        entry = re.search(rf"^ +{name}: ((?:.+\n)(?: {{12}}.+\n)*)", cls.__doc__ or "", re.M)
        return " ".join(entry[1].split()) if entry else ""

    def _check(self, field: dataclasses.Field, value: Any) -> None:
        flag, limits = self.flag(field.name), field.metadata
        several = isinstance(field.default, tuple)
        values = value if several else (value,)
        kind = _kind(field)
        enough = isinstance(values, tuple) and (values or limits["repeated"])
        if not enough or not all(_is(v, kind) for v in values):
            raise HyperparameterError(f"{flag} must be {_EXPECTED[kind]}. Received: {value!r}")
        if limits["count"] not in (None, len(values)):
            raise HyperparameterError(f"{flag} takes {limits['count']} values. Received: {value}")
        if limits["choices"] and value not in limits["choices"]:
            choices = ", ".join(map(str, limits["choices"]))
            raise HyperparameterError(f"{flag} must be one of {choices}. Received: {value!r}")
        low, high = limits["low"], limits["high"]
        for number in values:
            if (low is not None and number < low) or (high is not None and number > high):
                bounds = f"at least {low}" if high is None else f"from {low} to {high}"
                raise HyperparameterError(f"{flag} must be {bounds}. Received: {number}")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """A whole configuration; every field is a `Part`.

    The names of all values are those of the flags: the field `epochs` of a part with the prefix
    `"prior_"` is called `prior_epochs`.
    """

    @classmethod
    def _options(cls) -> Iterator[tuple[str, str, type[Part], dataclasses.Field]]:
        """Yields the name of each value, the name and class of its part, and its field."""
        for place in dataclasses.fields(cls):
            part = type(place.default)
            assert issubclass(part, Part)
            for field in dataclasses.fields(part):
                yield part.prefix + field.name, place.name, part, field

    @classmethod
    def names(cls) -> list[str]:
        """Returns the names of all values, in order."""
        return [name for name, *_ in cls._options()]

    def replace(self, **values: Any) -> Self:
        """Returns a copy with new values, given by their names.

        Raises:
            HyperparameterError: If a name is unknown or a value is out of range.
        """
        unknown = sorted(set(values) - set(self.names()))
        if unknown:
            raise HyperparameterError(f"unknown hyperparameters: {', '.join(unknown)}")
        changes: dict[str, dict[str, Any]] = {}
        for name, place, _, field in self._options():
            if name in values:
                changes.setdefault(place, {})[field.name] = values[name]
        parts = {
            place: dataclasses.replace(getattr(self, place), **fields)
            for place, fields in changes.items()
        }
        return dataclasses.replace(self, **parts)

    def to_dictionary(self) -> dict[str, Any]:
        """Returns all values by their names, in the types of JSON."""
        values = {
            name: getattr(getattr(self, place), field.name)
            for name, place, _, field in self._options()
        }
        return json.loads(json.dumps(values))

    @classmethod
    def from_dictionary(cls, values: object) -> Self:
        """Returns the inverse of `to_dictionary`.

        Raises:
            HyperparameterError: If a value is missing, unknown or out of range.
        """
        if not isinstance(values, dict):
            raise HyperparameterError(f"expected hyperparameters. Received: {type(values)}")
        before = {
            name: field.metadata["before"]
            for name, _, _, field in cls._options()
            if field.metadata["before"] is not None
        }
        odd = sorted(set(before | values) ^ set(cls.names()))
        if odd:
            raise HyperparameterError(f"unknown or missing hyperparameters: {odd}")
        return cls().replace(**(before | values))

    @classmethod
    def add_flags(
        cls,
        parser: argparse.ArgumentParser,
        names: Collection[str] | None = None,
        default: str | None = None,
    ) -> None:
        """Adds a flag for each value to a parser; an absent flag leaves no attribute.

        Args:
            parser: The parser.
            names: The values that get a flag. Default: all.
            default: The text for their default in `--help`. Default: the value itself.
        """
        groups: dict[type[Part], Any] = {}
        for name, _, part, field in cls._options():
            if names is not None and name not in names:
                continue
            if part not in groups:
                groups[part] = parser.add_argument_group(part.title)
            options = _flag_options(field, part.help(field.name), default)
            groups[part].add_argument(part.flag(field.name), default=argparse.SUPPRESS, **options)

    def with_flags(self, arguments: argparse.Namespace) -> Self:
        """Returns a copy with the values that were given as flags."""
        given = vars(arguments)
        return self.replace(**{name: given[name] for name in self.names() if name in given})


def _flag_options(field: dataclasses.Field, text: str, default: str | None) -> dict[str, Any]:
    """Returns the arguments for `argparse` of the flag of a field."""
    text, kind, value = text.replace("%", "%%"), _kind(field), field.default
    if default is not None:  # in place of the one that the text names
        text = text.partition(" (default: ")[0]
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    if field.metadata["repeated"]:
        return {"action": "append", "metavar": _PLACEHOLDERS[kind], "help": text}
    several = isinstance(value, tuple)
    value = " ".join(map(str, value)) if isinstance(value, tuple) else value
    value = value if default is None else default
    return {
        "type": _reader(kind, field.metadata["words"]),
        "nargs": field.metadata["count"] or "+" if several else None,
        "choices": field.metadata["choices"],
        "metavar": None if field.metadata["choices"] else _PLACEHOLDERS[kind],
        "help": text if value == "" else f"{text} (default: {value})",
    }


def _reader(kind: type, words: dict[str, int]) -> Callable[[str], Any]:
    """Returns the function that reads a value of a flag: a word or a value of a type."""

    def read(text: str) -> Any:
        word = text.lower()
        return words[word] if word in words else kind(text)

    read.__name__ = kind.__name__  # argparse says "invalid int value"
    return read


def _kind(field: dataclasses.Field) -> type:
    """Returns the type of a field's value, or of each value of a tuple."""
    if field.metadata["repeated"]:
        return str
    return type(field.default[0] if isinstance(field.default, tuple) else field.default)


def _is(value: object, kind: type) -> bool:
    """Returns whether a value has a type; an integer is a float too, but NaN is not."""
    if isinstance(value, bool) != (kind is bool):
        return False
    if kind is float:
        return isinstance(value, (int, float)) and math.isfinite(value)
    return isinstance(value, kind)
