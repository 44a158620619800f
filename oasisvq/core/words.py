"""Words for counts."""

from typing import Any


def counted(number: Any, noun: str) -> str:
    """Returns a number with its noun in the singular or the plural, as `"1 subject"`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
