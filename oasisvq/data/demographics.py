"""Joins subject sheets, with age, sex, CDR and more, to the sessions of a table of slices."""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.errors import DatasetError
from oasisvq.core.words import counted
from oasisvq.data import sheets
from oasisvq.data.session_names import Session, full_name
from oasisvq.data.sheet_columns import EXPECTED, KNOWN, RATING, is_column
from oasisvq.data.sheet_matches import Match, match_sheet
from oasisvq.data.sheets import Sheet

CHANGING = ("age", "cdr")  # from one visit to the next
MOST_NAMES = 5  # in a line


def read_sheets(path: Path, suffix: str = "") -> list[Sheet]:
    """Reads the sheets in a file, see `oasisvq.data.sheets.read_sheets`.

    Raises:
        DatasetError: If the file cannot be read, or no column names subjects.
    """
    return sheets.read_sheets(path, is_column, suffix)


def join_sheets(
    table: Any, paths: Sequence[Path], strict: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Adds the columns of sheets to a table of slices, by session or by subject.

    The sheet with age, sex or CDR of most sessions comes first, and the others give what it lacks.
    A value is unknown if rows of one session, or sheets, contradict one another in it, or if it
    cannot be right. A row about a visit precedes one about a person.

    Args:
        table: pandas table with one row per slice, its `subject` and its `session`.
        paths: Paths of the sheets and of their code books.
        strict: Whether a sheet that cannot be read is an error.

    Returns:
        The table, always with age, sex and cdr; and a dictionary with `sessions_without_a_row`,
        their names, and `sheet_notes`, lines about what was joined and what was not.

    Raises:
        DatasetError: If a sheet cannot be read, or names no subjects, and `strict` is true.
    """
    sessions = list(dict.fromkeys(zip(table["subject"], table["session"], strict=True)))
    matches, notes = [], []
    for name, read in _readers(paths):
        try:
            matches += [match_sheet(sheet, sessions) for sheet in read()]
        except DatasetError as error:
            if strict:
                raise
            notes.append(str(error).replace(str(name), name.name))
    matches.sort(key=Match.rank, reverse=True)
    merged, given, clashes = _merge(matches, sessions)
    missing = sessions
    for match, counts in zip(matches, given, strict=True):
        others = [session for session in missing if session not in match.found.rows]
        notes.append(_summary(match, counts, sessions, missing, others))
        notes += _problems(match, merged)
        missing = others
    notes += clashes
    if merged:
        index = pandas.MultiIndex.from_frame(table[["subject", "session"]])
        joined = pandas.DataFrame(merged)
        joined = joined[[column for column in joined if column not in table]]
        table = pandas.concat([table, joined.reindex(index).set_axis(table.index)], axis=1)
    table = table.assign(**{column: None for column in KNOWN if column not in table})
    return table, {
        "sessions_without_a_row": sorted(map(full_name, missing)),
        "sheet_notes": notes,
    }


def _readers(paths: Sequence[Path]) -> Iterator[tuple[Path, Callable[[], list[Sheet]]]]:
    """Yields the path of each sheet, and a function that reads it.

    The `sub-*/sub-*_sessions.tsv` of BIDS are one sheet.
    """
    parts = [path for path in paths if path.name == f"{path.parent.name}_sessions.tsv"]
    for path in paths:
        if path not in parts and not sheets.is_code_book(path, paths):
            yield path, functools.partial(read_sheets, path)
    if parts:
        yield parts[0], functools.partial(_read_parts, parts)


def _read_parts(paths: Sequence[Path]) -> list[Sheet]:
    """Returns one sheet of those that lie in the folders of subjects."""
    parts = [
        sheet.cells.assign(participant_id=path.parent.name)
        for path in paths
        for sheet in read_sheets(path)
    ]
    cells = pandas.concat(parts, ignore_index=True).fillna("")
    folder = paths[0].parent.parent
    return [Sheet(folder / "sessions.tsv", "sub-*/sub-*_sessions.tsv", cells)]


def _merge(
    matches: list[Match], sessions: list[Session]
) -> tuple[dict[str, Any], list[dict[str, int]], list[str]]:
    """Joins the values of sheets, the best one first.

    Returns:
        The columns, with a row per session; how many values each sheet gives in each column; and
        lines about sheets that contradict one another.
    """
    merged, clashes = {}, []
    given: list[dict[str, int]] = [{} for _ in matches]
    found = [number for number, match in enumerate(matches) if match.found.rows]
    for column in dict.fromkeys(column for number in found for column in matches[number].table):
        parts = [number for number in found if column in matches[number].table]
        if column in CHANGING:
            parts.sort(key=lambda number: not matches[number].by_visit)
        merged[column], counts, lines = _merge_column([matches[n] for n in parts], column, sessions)
        clashes += lines
        for number, count in zip(parts, counts, strict=True):
            given[number][column] = count
    return merged, given, clashes


def _merge_column(
    matches: list[Match], column: str, sessions: list[Session]
) -> tuple[Any, list[int], list[str]]:
    """Returns a column of several sheets, see `_merge`."""
    index = pandas.MultiIndex.from_tuples(sessions)
    subjects, told = index.get_level_values(0), set()
    clash, parts, new, lines = pandas.Series(False, index), {}, [], []
    values: Any = None
    for match in matches:
        part = match.table[column].reindex(index)
        if column in CHANGING and not match.by_visit:
            part = part.mask(subjects.isin(told))  # it is of a visit that the sheet does not name
        differing = clash & False if values is None else _differ(values, part, column)
        if differing.any():
            others = [name for name, other in parts.items() if other[differing].notna().any()]
            lines.append(
                f"{match.sheet.name} and {', '.join(others)} contradict one another, so {column} "
                f"is unknown of {_some(index[differing])}"
            )
        new.append(part.notna() if values is None else part.notna() & values.isna())
        values = part if values is None else values.combine_first(part)
        clash |= differing
        parts[match.sheet.name] = part
        if match.by_visit:
            told.update(subjects[values.notna()])
    return values.mask(clash), [int((given & ~clash).sum()) for given in new], lines


def _differ(values: Any, others: Any, column: str) -> Any:
    """Returns where two columns contradict one another; ages may be rounded to years."""
    both = values.notna() & others.notna()
    if column not in KNOWN:
        return both & False
    differing = (values - others).abs() >= 1 if column == "age" else values != others
    return both & differing.fillna(False)


def _summary(
    match: Match,
    counts: dict[str, int],
    sessions: list[Session],
    before: list[Session],
    missing: list[Session],
) -> str:
    """Returns a line about how many sessions a sheet was joined to, and which values it gave."""
    rows = match.found.rows
    line = f"{match.sheet.name}: joined to {len(rows)} of {len(sessions)} sessions"
    if rows:
        given = [f"{name} of {counts[name]}" if name in counts else f"no {name}" for name in KNOWN]
        line += f" ({', '.join(given)})"
        if not any(counts.values()) and match.table.notna().to_numpy().any():
            line += "; it adds nothing to the other sheets"
    if not match.names:
        return f"{line}; it has no rows"
    # Another sheet may be about the other sessions.
    if not rows or 2 * max(len(rows), len(before) - len(missing)) < min(len(sessions), len(before)):
        used = {number for found in rows.values() for number in found}
        names = [name for number, name in enumerate(match.names) if number not in used]
        line += f"; its IDs are like {(names or match.names)[0]}, those of the files like "
        line += full_name((missing or sessions)[0])
    return line


def _problems(match: Match, merged: dict[str, Any]) -> Iterator[str]:
    """Yields lines about what in a sheet was not read."""
    name, rows, differing = match.sheet.name, match.found.rows, match.differing
    if match.sheet.long_rows:
        rows_left = counted(match.sheet.long_rows, "row")
        yield f"{name}: {rows_left} left out, with more cells than the header"
    if match.found.ambiguous:
        yield f"{name}: several IDs are alike; none is joined to {_some(match.found.ambiguous)}"
    if match.found.shifted:
        yield (
            f"{name}: visits are counted from 0 here and from 1 in the files, or the reverse. They "
            "are not joined; write the names of the visits as in the files"
        )
    for column in match.undated:
        yield (
            f"{name}: the dates in {column} may be read day first or month first. They are not "
            "joined; write them as 2019-05-03"
        )
    for column, texts in match.columns.unclear.items():
        numbers = {who: [n for n in found if n in texts] for who, found in rows.items()}
        wrong = [who for who in rows if numbers[who] and pandas.isna(merged[column][who])]
        if wrong:
            received = dict.fromkeys(texts[number] for who in wrong for number in numbers[who])
            received = sorted(received, key=lambda text: RATING.fullmatch(text) is not None)
            yield (
                f"{name}: {column} is unknown of {_some(wrong)}. Expected {EXPECTED[column]}. "
                f"Received: {', '.join(received[:MOST_NAMES])}{_formulas(received)}"
            )
    for column, later in match.later.items():
        if later:
            what = (
                "the ages are those" if column == "age" else "there is one CDR for all visits, that"
            )
            yield f"{name}: {what} at entry, so {column} is unknown later, of {_some(later)}"
    wanted = [c for c in ("age", "cdr") if c in merged]
    unknown = [who for who in match.unnamed if any(pandas.isna(merged[c][who]) for c in wanted)]
    if unknown or (match.unnamed and not wanted):
        yield (
            f"{name}: columns of single visits ({_listed(match.of_visits)}) do not name that of "
            f"{_some(unknown or match.unnamed)}"
        )
    if match.columns.of_others and rows:
        yield f"{name}: not read, as of other persons: {_listed(match.columns.of_others)}"
    for column in differing if rows else ():
        differing[column] &= merged[column][differing.index].isna()
    if differing.to_numpy().any():
        columns, who = differing.columns[differing.any()], differing.index[differing.any(axis=1)]
        columns = ", ".join(columns)
        yield f"{name}: rows contradict one another, so {columns} is unknown of {_some(who)}"


def _formulas(texts: Iterable[str]) -> str:
    """Returns what to do about texts that are formulas, if any are."""
    hint = ". Open the sheet in a spreadsheet program and save it, so that formulas have values"
    return hint if any(text.startswith("=") for text in texts) else ""


def _some(sessions: Iterable[Session]) -> str:
    """Returns the number of some sessions, and the names of the first ones."""
    names = list(map(full_name, sessions))
    return f"{counted(len(names), 'session')}: {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    """Returns the first of some names in one text."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return f"{', '.join(names[:MOST_NAMES])}{more}"
