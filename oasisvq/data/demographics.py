"""Joins subject sheets, with age, sex, CDR and more, to the sessions of a table of slices."""

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.errors import DatasetError
from oasisvq.core.files import read_json
from oasisvq.data import sheets
from oasisvq.data.session_names import Session, find_rows, full_name, respellings
from oasisvq.data.sheets import Sheet

KNOWN = ("age", "sex", "cdr")  # the columns that every table of slices has
MOST_NAMES = 5  # in a line
# Names of columns, of which `_words` leaves words in small letters; better ones first.
PERSON = "mri?|oasis|ixi|adni|participant|subject|subj|sub|patient|pt|person|volunteer|case|scan"
VISIT = r"(?:mri? )?(?:session|visit|viscode\d?|time ?point|tp|wave)"
LABEL = "id|label|name|code|no|nr|num|number"
KEYS = (
    r"mri? ?(?:session ?)?(?:id|label)",
    rf"(?:(?:{PERSON}|session) ?)*(?:id|label)",
    rf"(?:{PERSON}|session)(?: (?:{PERSON}|session|{LABEL}))*|rid|eid|identifier|name",
    r"(?:.* )?(?:file ?name|file|file ?path|path|image|img|nifti)",
)
VISITS = (rf"{VISIT} ?(?:{LABEL})?|ses (?:{LABEL})",)  # OASIS's `SES` is no session
OTHER_KEYS = (r"(?!sex|gender).* id",)  # of columns that are tried if there are no others
AGE_WORDS = (
    "age|ages|at|in|of|the|y|yrs?|years?|months?|weeks?|days?|scan|mri?|imaging|visit|test|"
    "entry|baseline|session|study|exam|assessment|inclusion|enrolment|enrollment|acquisition|"
    "subject|participant|patient|pt|decimal"
)
COLUMNS = {
    "age": (
        r"age(?: (?:in )?(?:y|yrs?|years?))?",
        rf"(?=.*\b(?:scan|mri?|imaging)\b)(?=.*\bage)(?:(?:{AGE_WORDS}) ?)+",
        rf"(?=.*\b(?:pt)?age)(?:(?:{AGE_WORDS}) ?)+",
    ),
    "sex": (r"sex|gender|m f", r"(?:.* )?(?:pt)?(?:sex|gender)(?: .*)?|f m|mf|male female"),
    "cdr": (r"(?:global ?)?cdr ?(?:global|gs|total|tot|score|rating)?(?: \d.*)?|cd ?global",),
}
EXPECTED = {
    "age": "an age from 0 to 120",
    "sex": "male or female; numbers need a code book, such as a column named sex (1=m, 2=f)",
    "cdr": "0, 0.5, 1, 2 or 3",
}
RENAMED = {"mr delay": "delay", "mrdelay": "delay"}
BLANKS = {"", "na", "n/a", "#n/a", "nan", "none", "null", ".", "-", "?", "missing", "unknown"}
MALE, FEMALE = "m male males man men boy masculine", "f female females woman women girl feminine w"
SEXES = dict.fromkeys(MALE.split(), "M") | dict.fromkeys(FEMALE.split(), "F")
AGE = re.compile(
    r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([ymwd])[a-z]*(?: old)?)?", re.I
)  # 74.5, or 018M as in DICOM
PER_YEAR = {"y": 1, "m": 12, "w": 365.25 / 7, "d": 365.25}
LARGEST_AGE = 120  # years


def _words(name: str) -> str:
    """Returns the words of a column's name: `age at entry` of `ageAtEntry`."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return " ".join(re.findall(r"[^\W_]+", parted))


def _named(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Returns the column names that fit a pattern, those of the first patterns first."""
    names = list(names)
    fitting = [name for p in patterns for name in names if re.fullmatch(p, _words(name))]
    return list(dict.fromkeys(fitting))


def read_sheets(path: Path, suffix: str = "") -> list[Sheet]:
    """Reads the sheets in a file, see `oasisvq.data.sheets.read_sheets`.

    Raises:
        DatasetError: If the file cannot be read, or no column names subjects.
    """
    return sheets.read_sheets(path, lambda name: bool(_named((*KEYS, *OTHER_KEYS), [name])), suffix)


def join_sheets(
    table: Any, paths: Sequence[Path], strict: bool = False
) -> tuple[Any, dict[str, Any]]:
    """Adds the columns of sheets to a table of slices, by session or by subject.

    The sheet with age, sex or CDR of most sessions comes first. Each further sheet is joined to the
    sessions that are in no earlier one. A value is unknown if rows of one session contradict one
    another in it, or if it cannot be right.

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
    matches, notes, parts = [], [], {}
    for path in paths:
        if not sheets.is_code_book(path, paths):
            try:
                matches += [_match(sheet, sessions) for sheet in read_sheets(path)]
            except DatasetError as error:
                if strict:
                    raise
                notes.append(str(error).replace(str(path), path.name))
    missing = sessions
    for number in sorted(range(len(matches)), key=lambda n: matches[n].rank(), reverse=True):
        match = matches[number]
        rows = {session: match.rows[session] for session in missing if session in match.rows}
        others = [session for session in missing if session not in rows]
        values, differing = _values(match.values, rows)
        notes.append(_summary(match, values, missing, others))
        notes += _problems(match, rows, values, differing)
        missing = others
        if rows:
            parts[number] = values
    if parts:
        joined = pandas.concat([parts[number] for number in sorted(parts)])
        joined = joined[[column for column in joined if column not in table]]
        index = pandas.MultiIndex.from_frame(table[["subject", "session"]])
        table = pandas.concat([table, joined.reindex(index).set_axis(table.index)], axis=1)
    table = table.assign(**{column: None for column in KNOWN if column not in table})
    return table, {
        "sessions_without_a_row": sorted(map(full_name, missing)),
        "sheet_notes": notes,
    }


@dataclasses.dataclass(frozen=True)
class _Match:
    """A sheet, and where the sessions are in it.

    Attributes:
        sheet: The sheet.
        values: pandas table of its values, with `KNOWN` columns under those names.
        unclear: Texts that are no values, by the row number, by the column.
        names: The names of sessions or subjects in its rows.
        rows: Lists of row numbers by session.
        ambiguous: The sessions that several names fit.
    """

    sheet: Sheet
    values: Any
    unclear: dict[str, dict[int, str]]
    names: list[str]
    rows: dict[Session, list[int]]
    ambiguous: list[Session]

    def rank(self) -> tuple[bool, int, int]:
        """Returns a key that is higher for sheets that tell more."""
        numbers = [number for found in self.rows.values() for number in found]
        known = self.values[[column for column in KNOWN if column in self.values]]
        count = int(known.iloc[numbers].notna().to_numpy().sum())
        return count > 0, len(self.rows), count


def _match(sheet: Sheet, sessions: list[Session]) -> _Match:
    """Finds the rows of each session by the columns that name most sessions."""
    cells, visits = sheet.cells, _named(VISITS, sheet.cells)
    keys = _named(KEYS, cells) or _named(OTHER_KEYS, cells)
    pairs = [(key, "") for key in keys if key in visits or not visits]
    pairs += [(key, visit) for key in keys if key not in visits for visit in visits]
    values, unclear = _interpret(sheet)
    files = _named(KEYS[-1:], cells)  # not every number in the name of a file is a visit
    best, best_score = _Match(sheet, values, unclear, list(cells[keys[0]]), {}, []), (False, 0, 0)
    for functions in respellings(sessions):
        for function in functions:
            if len(best.rows) == len(sessions):
                break
            for key, visit in pairs:
                names = list(cells[key].map(functools.cache(function)))
                days = list(cells[visit]) if visit else [""] * len(cells)
                rows, ambiguous, visited = find_rows(names, days, sessions, whole=key in visits)
                # A sheet with a row per visit is never joined by its column of subjects alone.
                score = (visited and key not in files, len(rows), len(ambiguous))
                if score > best_score:
                    spelled = [
                        f"{who} {day}".strip() for who, day in zip(cells[key], days, strict=True)
                    ]
                    others = values.drop(columns=key.lower(), errors="ignore")
                    best = _Match(sheet, others, unclear, spelled, rows, ambiguous)
                    best_score = score
        if best.rows or best.ambiguous:
            break
    return best


def _interpret(sheet: Sheet) -> tuple[Any, dict[str, dict[int, str]]]:
    """Returns a table of the values in a sheet; and texts that are no values, by column and row."""
    book = _code_book(sheet.path.with_suffix(".json"))
    known, chosen, unclear = {}, {}, {}
    for column, patterns in COLUMNS.items():
        for name in _named(patterns, sheet.cells):
            if any(known.get(column, [])):  # a column without a value gives way to the next
                break
            texts = [text.casefold() for text in sheet.cells[name]]
            known[column] = READERS[column](texts, name, book.get(name.casefold(), {}))
            chosen[name] = column
            unclear[column] = {
                number: text
                for number, (text, value) in enumerate(zip(texts, known[column], strict=True))
                if not value and text not in BLANKS
            }
    values = {}
    for name in sheet.cells:
        column = chosen.get(name) or RENAMED.get(_words(name), name.lower())
        texts = known[column] if name in chosen else sheet.cells[name]
        if name in chosen or (column not in values and column not in KNOWN):
            values[column] = _numbers_if_all(
                pandas.Series(texts, dtype="string").replace("", pandas.NA)
            )
    return pandas.DataFrame(values), unclear


def _numbers_if_all(texts: Any) -> Any:
    """Returns a column as numbers if all its texts are, and as it is otherwise."""
    numbers: Any = pandas.to_numeric(texts, errors="coerce")
    return numbers if numbers.notna().sum() == texts.notna().sum() else texts


def _code_book(path: Path) -> dict[str, dict[str, Any]]:
    """Returns what a file such as `participants.json` of BIDS says of columns, by their names."""
    try:
        columns = read_json(path)
        return {
            name.casefold(): facts for name, facts in columns.items() if isinstance(facts, dict)
        }
    except (OSError, ValueError, AttributeError):
        return {}


def _read_ages(texts: list[str], name: str, facts: dict[str, Any]) -> list[str]:
    """Returns ages in years, as numbers or `""`, of texts such as `74.5`, `074Y` and `018M`."""
    stated = re.search(r"\b(month|week|day)", f"{_words(name)} {facts.get('Units', '')}".lower())
    ages = []
    for text in texts:
        match = AGE.fullmatch(text)
        per_year = PER_YEAR[match[2] or (stated[1][0] if stated else "y")] if match else 1
        age = float(match[1]) / per_year if match else LARGEST_AGE + 1
        ages.append("" if not match or age > LARGEST_AGE else f"{age:.10g}")
    return ages


def _read_sexes(texts: list[str], name: str, facts: dict[str, Any]) -> list[str]:
    """Returns `M`, `F` or `""`; a number has the meaning in the column's name or the code book."""
    levels = facts.get("Levels")
    pairs = re.findall(r"(\w+)\s*[=:]\s*(\w+)", name.casefold())
    pairs += [pair[::-1] for pair in pairs]
    pairs += [(str(code).casefold(), str(text)) for code, text in dict(levels or {}).items()]
    codes = {}
    for code, text in pairs:
        words = re.findall(r"\w+", text.casefold())
        if sex := next((SEXES[word] for word in words if word in SEXES), ""):
            codes[code] = sex
    if "h" in texts:  # Spanish: hombre, mujer
        codes.setdefault("m", "")
    return [(SEXES | codes).get(re.sub(r"\.0*$", "", text), "") for text in texts]


def _read_ratings(texts: list[str], _name: str, _facts: dict[str, Any]) -> list[str]:
    """Returns CDRs, or `""`."""
    return [text if re.fullmatch(r"0*[0123](?:\.0*)?|0*\.50*", text) else "" for text in texts]


READERS = {"age": _read_ages, "sex": _read_sexes, "cdr": _read_ratings}


def _values(values: Any, rows: dict[Session, list[int]]) -> tuple[Any, Any]:
    """Returns a table with a row per session, and a boolean one: where its rows contradict."""
    sessions = [session for session, found in rows.items() for _ in found]
    numbers = [number for found in rows.values() for number in found]
    index = pandas.MultiIndex.from_arrays([[names[n] for names in sessions] for n in (0, 1)])
    groups = values.iloc[numbers].set_axis(index).groupby(level=[0, 1], sort=False)
    differing = groups.nunique() > 1
    return groups.first().mask(differing), differing


def _summary(match: _Match, values: Any, before: list[Session], missing: list[Session]) -> str:
    """Returns a line about how many sessions a sheet was joined to."""
    count = len(before) - len(missing)
    if match.rows and not count:
        return f"{match.sheet.name}: not used, because other sheets have rows for its sessions"
    line = f"{match.sheet.name}: joined to {count} of {len(before)} sessions"
    if count:
        counts = {name: values[name].notna().sum() for name in KNOWN if name in values}
        known = [f"{name} of {counts[name]}" if name in counts else f"no {name}" for name in KNOWN]
        line += f" ({', '.join(known)})"
    if not match.names:
        return f"{line}; it has no rows"
    if 2 * count < len(before):
        used = {number for found in match.rows.values() for number in found}
        names = [name for number, name in enumerate(match.names) if number not in used]
        line += f"; its IDs are like {(names or match.names)[0]}, those of the files like "
        line += full_name(missing[0])
    return line


def _problems(
    match: _Match, rows: dict[Session, list[int]], values: Any, differing: Any
) -> Iterator[str]:
    """Yields lines about what in a sheet was not read."""
    name = match.sheet.name
    if match.sheet.long_rows:
        yield f"{name}: rows left out, with more cells than the header: {match.sheet.long_rows}"
    if match.ambiguous:
        yield f"{name}: several IDs are alike; none is joined to {_some(match.ambiguous)}"
    for column, texts in match.unclear.items():
        numbers = {who: [n for n in found if n in texts] for who, found in rows.items()}
        wrong = [who for who in rows if numbers[who] and pandas.isna(values[column][who])]
        if wrong:
            received = dict.fromkeys(texts[number] for who in wrong for number in numbers[who])
            yield (
                f"{name}: {column} is unknown of {_some(wrong)}. Expected {EXPECTED[column]}. "
                f"Received: {', '.join(list(received)[:MOST_NAMES])}"
            )
    if differing.to_numpy().any():
        columns, who = differing.columns[differing.any()], differing.index[differing.any(axis=1)]
        columns = ", ".join(columns)
        yield f"{name}: rows contradict one another, so {columns} is unknown of {_some(who)}"


def _some(sessions: Iterable[Session]) -> str:
    """Returns the number of some sessions, and the names of the first ones."""
    names = list(map(full_name, sessions))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    plural = "s" if len(names) > 1 else ""
    return f"{len(names)} session{plural}: {', '.join(names[:MOST_NAMES])}{more}"
