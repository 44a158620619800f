"""Finds the sessions of a table of slices in the rows of a sheet, and the values of each."""

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable
from typing import Any

import pandas

from oasisvq.core.errors import DatasetError
from oasisvq.data.session_names import Found, Session, days_of, find_rows, plain_visit, respellings
from oasisvq.data.sheet_columns import (
    FILES,
    KEYS,
    KNOWN,
    NUMBERED,
    OTHER_KEYS,
    VISITS,
    Columns,
    date_columns,
    interpret,
    named,
    unnamed_keys,
)
from oasisvq.data.sheets import HEADER_WITHIN, Sheet
from oasisvq.data.visits import DAYS_PER_YEAR, days_since_entry, is_first, read_dates, years_between
from oasisvq.data.wide_sheets import VISIT, to_long, visit_columns

YEARS_WITHOUT_AGEING = 1.5  # between visits with one age: more means that it is the age at entry


@dataclasses.dataclass(frozen=True, eq=False)
class Match:
    """A sheet, and where the sessions are in it.

    Attributes:
        sheet: The sheet.
        columns: What its columns say.
        names: The names of sessions or subjects in its rows.
        found: The rows of the sessions.
        by_visit: Whether the rows were found by visits.
        undated: The columns of dates of which the order of day and month is unclear.
        table: pandas table of its values, with a row per session.
        differing: Boolean table of the same shape: where rows of one session contradict.
        later: The sessions to which the age or CDR of a first visit does not belong, by the column.
        of_visits: Names of the columns that are about one visit each.
        unnamed: The sessions whose visits these columns do not name.
    """

    sheet: Sheet
    columns: Columns
    names: list[str]
    found: Found
    by_visit: bool
    undated: list[str]
    table: Any
    differing: Any
    later: dict[str, list[Session]]
    of_visits: list[str] = dataclasses.field(default_factory=list)
    unnamed: list[Session] = dataclasses.field(default_factory=list)

    def rank(self) -> tuple[bool, int, int]:
        """Returns a key that is higher for sheets that tell more."""
        known = self.table[[column for column in KNOWN if column in self.table]]
        count = int(known.notna().to_numpy().sum())
        return count > 0, len(self.found.rows), count


@dataclasses.dataclass(frozen=True)
class _Choice:
    """Columns that may name the sessions, and what they find.

    Attributes:
        key: Name of the column of subjects or sessions.
        visit: Name of the column of visits, or `""`.
        found: The rows of the sessions.
        score: A key that is higher for better choices.
    """

    key: str
    visit: str
    found: Found = Found({}, [], False, False)
    score: tuple[bool, int, int] = (False, 0, 0)


def match_sheet(sheet: Sheet, sessions: list[Session]) -> Match:
    """Finds the rows of each session by the columns that name most sessions.

    Raises:
        DatasetError: If no column names subjects.
    """
    of_visits = visit_columns(sheet.cells)
    if not of_visits:
        return _match(sheet, interpret(sheet), sessions)
    names = [column.name for column in of_visits]
    plain = dataclasses.replace(sheet, cells=sheet.cells.drop(columns=names))
    match = _match(plain, interpret(plain), sessions)
    visits = set()
    if not match.by_visit and not named(VISITS, sheet.cells):
        match = _match(*to_long(sheet, of_visits, sessions), sessions)
        visits = {text for text in match.sheet.cells[VISIT] if text}
    unnamed = [who for who in match.found.rows if who[1] and plain_visit(who[1]) not in visits]
    return dataclasses.replace(match, of_visits=names, unnamed=unnamed)


def _match(sheet: Sheet, columns: Columns, sessions: list[Session]) -> Match:
    """Finds the rows of each session, see `match_sheet`, and their values in `columns`."""
    cells = sheet.cells
    visits, optional, undated = _visit_texts(cells, sessions)
    choice = _choose(cells, visits, optional, sessions)
    if choice is None:
        raise DatasetError(
            f"{sheet.path}: no column names the subjects. Expected one named ID or MRI ID in the "
            f"first {HEADER_WITHIN} rows; repair the sheet, or take it out"
        )
    days = visits.get(choice.visit, [""] * len(cells))
    names = [f"{who} {day}".strip() for who, day in zip(cells[choice.key], days, strict=True)]
    values = columns.values.drop(columns=choice.key.lower(), errors="ignore")
    texts = [] if choice.visit else list(cells[choice.key])
    table, differing = _values(values, choice.found.rows, texts)
    later = {"cdr": _mask_ratings(table, choice.found.rows, sessions)}
    if columns.at_entry or _are_constant(table):
        later["age"] = _move_ages(table, sessions)
    undated = [name for name in undated if not choice.found.rows]
    by_visit = choice.score[0]
    return Match(sheet, columns, names, choice.found, by_visit, undated, table, differing, later)


def _visit_texts(
    cells: Any, sessions: list[Session]
) -> tuple[dict[str, list[str]], list[str], list[str]]:
    """Returns texts of the columns of visits, dates as in `20190503` if sessions have such names.

    Also returns the columns that need not be dates of visits, and those of unclear dates.
    """
    days = days_of(sessions)
    sure, others = date_columns(cells) if days else ([], [])
    sure = list(dict.fromkeys([*named(VISITS, cells), *sure]))
    texts, undated = {}, []
    for name in dict.fromkeys([*others, *sure]):
        texts[name] = list(cells[name])
        if "month" in name.lower():
            texts[name] = [f"m{text}" if text.isdecimal() else text for text in texts[name]]
        readings = read_dates(texts[name]) if days else []
        if len(readings) > 1:  # two days at least must fit, in one of the two orders
            hits = [len(days.intersection(reading)) for reading in readings]
            readings = [
                r for r, count in zip(readings, hits, strict=True) if count == sum(hits) > 1
            ]
            undated += [] if readings else [name]
        if readings:
            texts[name] = readings[0]
    return texts, [name for name in others if name not in sure], undated


def _choose(
    cells: Any, visits: dict[str, list[str]], optional: list[str], sessions: list[Session]
) -> _Choice | None:
    """Returns the columns that name most sessions, or `None` if no column names subjects."""
    keys = named([*KEYS, *OTHER_KEYS], cells)
    sure = [visit for visit in visits if visit not in optional]
    unnamed = [key for key in unnamed_keys(cells) if key not in keys or key in visits]
    unnamed_pairs = [(key, v) for key in unnamed for v in [v for v in sure if v != key] or [""]]
    names, files, numbers = respellings(sessions)
    best = _Choice(keys[0], "") if keys else None
    for functions, pairs, unique in (
        (names, _pairs(keys, sure, optional), False),
        (names, unnamed_pairs, True),
        (files, _pairs(keys, sure, optional), False),
        (files, [pair for pair in unnamed_pairs if _has_paths(cells[pair[0]])], True),
        (
            numbers,
            _pairs(named(NUMBERED, cells) or named(OTHER_KEYS, cells), sure, optional),
            False,
        ),
    ):
        zeros = (False, True) if functions is names else (False,)
        for function, loose in itertools.product(functions, zeros):
            if best and len(best.found.rows) == len(sessions):
                return best
            for key, visit in pairs:
                texts = list(cells[key].map(functools.cache(function)))
                days = visits[visit] if visit else [""] * len(cells)
                rows = [row for row in zip(texts, days, strict=True) if row[0]]
                if unique and len(set(rows)) < len(rows):
                    continue
                whole = key in visits and not unique
                found = find_rows(texts, days, sessions, whole, loose)
                by_visit = (
                    found.visited and visit not in optional and key not in named(FILES, cells)
                )
                # A sheet with a row per visit is never joined by its column of subjects alone.
                score = (by_visit, len(found.rows), len(found.ambiguous))
                if score > (best.score if best else (False, 0, 0)):
                    best = _Choice(key, visit, found, score)
        if best and (best.found.rows or best.found.ambiguous):
            return best
    return best


def _has_paths(texts: Any) -> bool:
    """Tells whether the first text of a column that is not blank is a path or a file's name."""
    return re.search(r"[\\/]|\.[a-z]\w+$", next(filter(None, texts), ""), re.I) is not None


def _pairs(keys: list[str], sure: list[str], optional: list[str]) -> list[tuple[str, str]]:
    """Returns pairs of a column of subjects or sessions, and one of visits or `""`."""
    pairs = [(key, visit) for key in keys if key not in sure for visit in optional if visit != key]
    pairs += [(key, "") for key in keys if key in sure or not sure]
    return pairs + [(key, visit) for key in keys if key not in sure for visit in sure]


def _values(values: Any, rows: dict[Session, list[int]], names: list[str]) -> tuple[Any, Any]:
    """Returns a table with a row per session, and a boolean one: where its rows contradict.

    Rows without a name may go on with the one above, as merged cells do. They can contradict it,
    but give no values.

    Args:
        values: pandas table of the values in the sheet.
        rows: Row numbers by session.
        names: The names in the rows; `[]` if no row goes on with another.
    """
    table = _group(values, rows).first()
    below = {}
    for session, found in rows.items():
        blank = (
            itertools.takewhile(lambda n: not names[n], range(n + 1, len(names))) for n in found
        )
        below[session] = [*found, *itertools.chain(*blank)]
    differing = _group(values, below).nunique() > 1
    return table.mask(differing), differing


def _group(values: Any, rows: dict[Session, list[int]]) -> Any:
    """Returns the values of each session as a group of pandas."""
    sessions = [session for session, found in rows.items() for _ in found]
    numbers = [number for found in rows.values() for number in found]
    index = pandas.MultiIndex.from_arrays([[names[n] for names in sessions] for n in (0, 1)])
    return values.iloc[numbers].set_axis(index).groupby(level=[0, 1], sort=False)


def _by_subject(sessions: Iterable[Session]) -> dict[str, list[str]]:
    """Returns the visits of each subject."""
    visits = collections.defaultdict(list)
    for subject, visit in sessions:
        visits[subject].append(visit)
    return visits


def _are_constant(table: Any) -> bool:
    """Tells whether somebody's age is the same at visits that are far from one another."""
    visits = _by_subject(table["age"].dropna().index if "age" in table else ())
    return any(
        years_between(names) > YEARS_WITHOUT_AGEING
        and table["age"].loc[[(subject, name) for name in names]].nunique() == 1
        for subject, names in visits.items()
        if len(names) > 1
    )


def _move_ages(table: Any, sessions: list[Session]) -> list[Session]:
    """Turns ages at entry into ages at the sessions; returns the sessions where that cannot be."""
    visits = _by_subject(sessions)
    days = [days_since_entry(visit) for _, visit in table.index]
    first = [is_first(visit, visits[subject]) for subject, visit in table.index]
    years = [0.0 if day is None else round(day / DAYS_PER_YEAR, 2) for day in days]
    unknown = [day is None and not one for day, one in zip(days, first, strict=True)]
    later = [who for who, no in zip(table.index, unknown, strict=True) if no]
    later = [who for who in later if pandas.notna(table["age"][who])]
    if any(years):
        table["age"] = (table["age"] + years).round(6)
    table["age"] = table["age"].mask(pandas.Series(unknown, table.index))
    return later


def _mask_ratings(
    table: Any, rows: dict[Session, list[int]], sessions: list[Session]
) -> list[Session]:
    """Makes a CDR unknown where it is of an earlier, distant visit; returns the sessions."""
    if "cdr" not in table:
        return []
    visits = _by_subject(sessions)
    far = {who for who, names in visits.items() if years_between(names) > YEARS_WITHOUT_AGEING}
    users = collections.Counter((who[0], number) for who, found in rows.items() for number in found)
    later = [
        who
        for who, found in rows.items()
        if who[0] in far
        and not is_first(who[1], visits[who[0]])
        and any(users[who[0], number] > 1 for number in found)
        and pandas.notna(table["cdr"][who])
    ]
    table["cdr"] = table["cdr"].mask(table.index.isin(later))
    return later
