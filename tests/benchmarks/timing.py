"""Times functions in turns, so that other load on the machine meets all of them alike."""

import statistics
import time


def alternate(functions, rounds):
    """Runs each function once a round, one after the other, after one round unmeasured.

    Args:
        functions: Dictionary from a name to a function without arguments.
        rounds: Integer.

    Returns:
        Dictionary from each name to its seconds, a list as long as `rounds`.
    """
    seconds = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            function()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio_text(slow, fast):
    """Returns how many times as long `slow` takes: the median and the range over the rounds.

    Args:
        slow, fast: Seconds of either side in the same rounds.
    """
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    return (
        f"{_number(statistics.median(ratios))} times "
        f"({_number(min(ratios))} to {_number(max(ratios))}, {len(ratios)} rounds)"
    )


def _number(value):
    """Returns three figures, or a whole number above 100."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
