"""What a source holds, as `dataset.py --list` shows it before anything is sliced."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.errors import HyperparameterError
from oasisvq.core.files import whole_file
from oasisvq.core.tables import shielded
from oasisvq.core.words import counted
from oasisvq.data.demographics import join_sheets
from oasisvq.data.entries import REASONS, Entry, count_entries, describe_entries
from oasisvq.data.sheets import LISTING, is_listing
from oasisvq.data.sources.base import Source
from oasisvq.data.splits import SPLITS, Split, join_people

FIELDS = ("subject", "session", "repeat", "index", "split", "group", "kind")  # of `Names`


def describe_source(source: Source, config: Any, data_dir: Path) -> list[str]:
    """Returns lines on what a source holds, by names and headers alone.

    Args:
        source: The source.
        config: `DataConfig`, for the split.
        data_dir: Path of the folder for prepared slices, where persons are recorded who were moved
            to an empty split. Nothing is written there.
    """
    entries = source.inventory()
    if not entries:
        return source.describe()
    counts = count_entries(entries)
    left = len(entries) - counts["taken"]
    lines = [f"{source.name}: {counted(counts['taken'], 'image')} taken, {left:,} left out"]
    lines += describe_entries(counts)
    columns = ["subject", "session", "split", "slices", "class"]
    table = pandas.DataFrame(source.listed_scans(), columns=columns)
    if table.empty:
        return lines
    sessions = table[["subject", "session"]].drop_duplicates()
    lines.append(
        f"{counted(table['subject'].nunique(), 'person')}, {counted(len(sessions), 'session')}, "
        f"{counted(len(table), 'scan')}, {counted(table['slices'].sum(), 'slice')}"
    )
    lines += source.describe()
    joined, facts = join_sheets(table, source.sheets(fetch=False))
    lines += facts["sheet_notes"]
    if config.persons == "by-likeness":
        return [*lines, "Persons: not known before the pictures are compared"]
    split = Split(joined, config, join_people([]))
    split.fill(source.name, data_dir, write=False)
    counts = Counter(split.splits[person] for person in split.people.values())
    persons = ", ".join(f"{name} {counts[name]}" for name in SPLITS)
    return [*lines, f"Persons, before near-duplicates are looked for: {persons}", *split.notes]


def check_listing(path: Path) -> None:
    """Refuses a path at which something else than a listing lies, such as a subject sheet.

    Raises:
        HyperparameterError: If the path is refused.
    """
    if path.exists() and not is_listing(path):
        raise HyperparameterError(
            f"--output {path}: a file that is no listing lies there. Give another name"
        )


def write_listing(entries: Sequence[Entry], path: Path) -> None:
    """Writes a CSV file with a row for each image: its path, its names, why it is left out."""
    with whole_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*LISTING, *FIELDS])
        for entry in entries:
            reason = REASONS.get(entry.reason) or entry.problem
            names = [getattr(entry.names, name) for name in FIELDS]
            writer.writerow(map(shielded, [entry.relative, entry.taken, reason, *names]))
