"""What a source holds, as `dataset.py --list` shows it before anything is sliced."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.files import whole_file
from oasisvq.core.tables import shielded
from oasisvq.data.demographics import join_sheets
from oasisvq.data.inventory import REASONS, Entry, count_entries, describe_entries
from oasisvq.data.sources.base import Source
from oasisvq.data.splits import SPLITS, assign_splits, join_people

FIELDS = ("subject", "session", "repeat", "index", "split", "group", "kind")  # of `Names`


def describe_source(source: Source, config: Any) -> list[str]:
    """Returns lines on what a source holds, by names and headers alone.

    Args:
        source: The source.
        config: `DataConfig`, for the split.
    """
    entries = source.inventory()
    if not entries:
        return source.describe()
    counts = count_entries(entries)
    left = len(entries) - counts["taken"]
    lines = [f"{source.name}: {counts['taken']:,} images taken, {left:,} left out"]
    lines += describe_entries(counts)
    columns = ["subject", "session", "split", "slices", "class"]
    table = pandas.DataFrame(source.listed_scans(), columns=columns)
    if table.empty:
        return lines
    sessions = table[["subject", "session"]].drop_duplicates()
    lines.append(
        f"{table['subject'].nunique():,} persons, {len(sessions):,} sessions, {len(table):,} "
        f"scans, {table['slices'].sum():,} slices"
    )
    lines += source.describe()
    joined, facts = join_sheets(table, source.sheets(fetch=False))
    lines += facts["sheet_notes"]
    joined["split"] = assign_splits(joined, config, join_people([]))
    persons = joined.groupby("split")["subject"].nunique()
    return [*lines, "Persons: " + ", ".join(f"{s} {persons.get(s, 0)}" for s in SPLITS)]


def write_listing(entries: Sequence[Entry], path: Path) -> None:
    """Writes a CSV file with a row for each image: its path, its names, why it is left out."""
    with whole_file(path) as partial, partial.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "taken", "reason", *FIELDS])
        for entry in entries:
            reason = REASONS.get(entry.reason) or entry.problem
            names = [getattr(entry.names, name) for name in FIELDS]
            writer.writerow(map(shielded, [entry.relative, entry.taken, reason, *names]))
