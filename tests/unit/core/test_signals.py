"""Signals: the first one requests a stop, the second one ends the process at once."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oasisvq.core import signals
from support.processes import HANG

ROOT = Path(signals.__file__).parents[2]
NUMBERS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(autouse=True)
def watching():
    """Watches signals during a test, and gives pytest its own handlers back."""
    before = {number: signal.getsignal(number) for number in signals.NAMES}
    signals.watch()
    yield
    signals.watch()  # forgets the signal that the test has sent
    for number, handler in before.items():
        signal.signal(number, handler)


@NUMBERS
def test_a_first_signal_stops_with_the_status_that_a_shell_expects(number):
    with pytest.raises(signals.Stopped, match=signals.NAMES[number]) as stopped:
        signal.raise_signal(number)
    assert stopped.value.status == 128 + number
    assert signals.stop_requested()


@NUMBERS
def test_a_deferred_signal_waits_for_the_end_of_a_step(number):
    with pytest.raises(signals.Stopped) as stopped, signals.deferred():
        signals.raise_if_requested()
        assert not signals.stop_requested()
        signal.raise_signal(number)
        assert signals.stop_requested()
        signals.raise_if_requested()
    assert stopped.value.status == 128 + number


@NUMBERS
def test_a_deferred_signal_is_obeyed_at_the_end_of_the_block_at_the_latest(number):
    done = False
    with pytest.raises(signals.Stopped) as stopped, signals.deferred():
        signal.raise_signal(number)
        done = True
    assert done
    assert stopped.value.status == 128 + number


def test_after_a_deferred_block_a_signal_stops_again():
    with pytest.raises(ValueError, match="wrong"), signals.deferred():
        raise ValueError("wrong")
    with pytest.raises(signals.Stopped):
        signal.raise_signal(signal.SIGINT)


def test_no_handler_of_failures_takes_a_stop_for_one():
    assert not issubclass(signals.Stopped, Exception)


TWO_SIGNALS = """
from oasisvq.core import signals
signals.watch()
with signals.deferred():
    print("ready", flush=True)
    while not signals.stop_requested():
        pass
    print("goes on", flush=True)
    while True:
        pass
"""


def test_a_second_signal_ends_it_at_once():
    command = [sys.executable, "-c", TWO_SIGNALS]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "goes on\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(HANG) == 143
        finally:
            process.kill()
