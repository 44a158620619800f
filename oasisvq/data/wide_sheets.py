"""Turns a sheet with a column of ages or CDRs per visit into one with a row per visit."""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas

from oasisvq.data.session_names import Session, plain_visit
from oasisvq.data.sheet_columns import COLUMNS, Columns, interpret, named, words_of
from oasisvq.data.sheets import Sheet
from oasisvq.data.visits import is_first

KINDS = ("age", "cdr")  # that change from one visit to the next
LONGEST_NAME = 100  # characters; the time grows with the square
VISIT = "visit"  # the column of visits in the sheet that is made
ORDINALS = {"first": "1", "1st": "1", "second": "2", "2nd": "2", "third": "3", "3rd": "3"}
ENTRY = r"(?:baseline|bl|base|screening|entry)"
PLACE = (
    r"(?:visit|v|time ?point|tp|time|t|wave|w|session|ses|s|scan|mri?|exam|assessment|test|phase|"
    r"round|measurement)"
)
FOLLOW_UP = r"(?:follow ?up|fu)"
UNIT = r"(?:years?|yrs?|y|months?|mos?|mths?|m)"
LABELS = re.compile(  # of visits, in names of columns
    rf"(?<!\S)(?:(?:{ENTRY}|pre|post)(?: {PLACE})?|{PLACE} ?\d+|{FOLLOW_UP} ?\d+(?: ?{UNIT})?|"
    rf"{FOLLOW_UP}(?: {PLACE})?|(?:{UNIT}|d|days?) ?\d+|"
    rf"\d+ ?{UNIT}(?: (?:{FOLLOW_UP}|{PLACE}))?|(?:19|20)\d\d|"
    rf"(?:{'|'.join(ORDINALS)})(?: {PLACE}| {FOLLOW_UP})?|\d)(?!\S)"
)
PREPOSITIONS = re.compile(r"(?: (?:at|in|of|the))+$")


@dataclasses.dataclass(frozen=True)
class VisitColumn:
    """A column about one visit.

    Attributes:
        name: Its name in the sheet.
        kind: `age` or `cdr`.
        base: Its name without that of the visit.
        visit: What matters of the visit's name, see `plain_visit`.
        bare: Whether its name is a number alone, as in `age 2`.
    """

    name: str
    kind: str
    base: str
    visit: str
    bare: bool


def visit_columns(names: Iterable[str]) -> list[VisitColumn]:
    """Returns the columns that name a visit; `[]` if none of them names one after entry."""
    names = list(names)
    found = [column for name in names for column in _visit_column(name)]
    # Numbers alone may be powers of an age.
    if not {"1", "2"} <= {column.visit for column in found if column.bare}:
        found = [column for column in found if not column.bare]
    plain = [pattern for kind in KINDS for pattern in COLUMNS[kind]]
    later = [c for c in found if c.visit not in ("m0", "1", "pre") or not named(plain, [c.name])]
    return found if later else []


def _visit_column(name: str) -> list[VisitColumn]:
    """Returns what a column's name says of a visit, in a list that is empty if it says nothing."""
    words, found = words_of(name), []
    for match in LABELS.finditer(words if len(words) <= LONGEST_NAME else ""):
        rest = f"{words[: match.start()]} {words[match.end() :]}".split()
        base = PREPOSITIONS.sub("", " ".join(rest))
        visit, bare = _visit(match[0]), len(match[0]) == 1
        kinds = [kind for kind in KINDS if named(COLUMNS[kind], [base])]
        found += [VisitColumn(name, kind, base, visit, bare) for kind in kinds]
    return found[:1]


def _visit(label: str) -> str:
    """Returns what matters of a label: `2` of `second scan`, `m24` of `2 year follow up`."""
    if label.split()[0] in ORDINALS:
        return ("fu" if re.search(FOLLOW_UP, label) else "") + ORDINALS[label.split()[0]]
    if re.match(ENTRY, label):
        return "m0"
    if since := re.search(rf"\d+ ?{UNIT}(?!\S)", label):
        return plain_visit(since[0])
    if counted := re.fullmatch(rf"(?!w|s ?\d){PLACE} ?(\d+)", label):
        return plain_visit(counted[1])
    return plain_visit(re.sub(rf" {PLACE}$", "", label))


def to_long(
    sheet: Sheet, columns: Sequence[VisitColumn], sessions: Iterable[Session]
) -> tuple[Sheet, Columns]:
    """Returns a sheet with a row per visit, and what its columns say.

    A column without a visit's name is about the first visit, if it is the same of all persons. A
    further row of each person, about no visit, has what does not change.
    """
    cells, kinds = sheet.cells, dict.fromkeys(column.kind for column in columns)
    of_visits = defaultdict(dict)  # names of columns by their base, by the visit
    for column in columns:
        of_visits[column.visit].setdefault(column.base, column.name)
    fixed, first = cells.drop(columns=[column.name for column in columns]), _first_visit(sessions)
    for kind in kinds:
        plain = named(COLUMNS[kind], fixed)
        fixed = fixed.drop(columns=plain)
        told = any((column.kind, column.visit) == (kind, first) for column in columns)
        if plain and first is not None and not told:
            of_visits[first].update({name: name for name in plain})
    of_visits.setdefault("", {})
    tables, parts = [], []
    for visit, chosen in of_visits.items():
        table = fixed.assign(**{base: cells[name] for base, name in chosen.items()})
        parts.append(interpret(dataclasses.replace(sheet, cells=table), chosen))
        tables.append(fixed.assign(**{VISIT: visit}))
    values = pandas.concat([part.values for part in parts], ignore_index=True)
    unclear = defaultdict(dict)
    for number, part in enumerate(parts):
        for column, texts in part.unclear.items():
            unclear[column].update({row + number * len(cells): t for row, t in texts.items()})
    long = dataclasses.replace(sheet, cells=pandas.concat(tables, ignore_index=True))
    return long, Columns(values, dict(unclear), False, parts[0].of_others)


def _first_visit(sessions: Iterable[Session]) -> str | None:
    """Returns what matters of the name of the first visit, if it is the same of all persons."""
    visits = defaultdict(list)
    for subject, visit in sessions:
        visits[subject].append(visit)
    firsts = {
        plain_visit(visit) for names in visits.values() for visit in names if is_first(visit, names)
    }
    return firsts.pop() if len(firsts) == 1 else None
