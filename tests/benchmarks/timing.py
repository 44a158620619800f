"""Timing in turns, in one process."""

import statistics
import time


def alternate(functions, rounds):
    """Calls each function once untimed, then all of them in turns.

    Args:
        functions: Dictionary from names to functions without arguments.
        rounds: How many times each is timed.

    Returns:
        Dictionary from names to lists of seconds, a round each.
    """
    for function in functions.values():
        function()
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio_text(slow, fast):
    """How many times as long the first takes: the median of the rounds' ratios and their range."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return (
        f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{len(ratios)} rounds)"
    )
