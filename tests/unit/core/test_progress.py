"""What is said of long work where nobody looks at a terminal."""

import io

from tqdm import tqdm

from oasisvq.core import progress
from oasisvq.core.progress import Progress


def counted(monkeypatch, interval):
    monkeypatch.setattr(progress, "INTERVAL", interval)
    written = io.StringIO()
    for _ in Progress(range(5), desc="Slicing", unit="scan", file=written, miniters=1):
        pass
    return written.getvalue()


def test_lines_are_whole_and_say_how_far_it_is(monkeypatch):
    lines = counted(monkeypatch, 0).splitlines()
    assert lines
    assert all(line.startswith("Slicing: ") and "/5" in line for line in lines)
    assert "\r" not in "".join(lines)


def test_other_lines_stand_alone(monkeypatch, capsys):
    monkeypatch.setattr(progress, "INTERVAL", 3600)
    for number in Progress(range(3)):
        Progress.write(f"epoch {number}")
        tqdm.write(f"server {number}")
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        f"{what} {n}" for n in range(3) for what in ("epoch", "server")
    ]
    assert printed.err == ""


def test_work_of_less_than_a_minute_writes_nothing(monkeypatch):
    assert counted(monkeypatch, 3600) == ""
