"""Understands the columns of subject sheets: who a row is about, and age, sex and CDR."""

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.files import read_json
from oasisvq.data.sheets import Sheet
from oasisvq.data.visits import read_dates

KNOWN = ("age", "sex", "cdr")  # the columns that every table of slices has
# Names of columns, of which `_words` leaves words in small letters; better ones first.
PERSON = (
    "mri?|oasis|ixi|adni|brats|participant|subject|subj|sub|patient|pat|pt|person|volunteer|case|"
    "scan|proband(?:en)?|study|record"
)
VISIT = r"(?:mri? )?(?:session|visit|viscode\d?|time ?point|tp|wave|months?)"
LABEL = "id|label|name|code|key|no|nr|num|number"
KEYS = (
    r"mri? ?(?:session ?)?(?:id|label)",
    rf"(?:(?:{PERSON}|session) ?)*(?:id|label)",
    rf"(?:id|label) (?:{PERSON}|{LABEL})|(?:{PERSON}|session)(?: (?:{PERSON}|session|{LABEL}))*|"
    r"[rep]id|mrn|guid|identifier|name",
    LABEL,
    r"(?:.* )?(?:file ?name|file ?id|file|file ?path|path|image|img|nifti)",
)
FILES = KEYS[-1:]
NUMBERED = KEYS[:3]  # names of columns whose numbers are those of subjects, not of rows
VISITS = (rf"{VISIT} ?(?:{LABEL})?|ses (?:{LABEL})",)  # OASIS's `SES` is no session
# The IDs of others, and of things, are not the subject's.
OTHERS = (
    "sex|gender|twin|sib|sibling|mother|father|parent|family|spouse|partner|rater|reader|site|"
    "scanner|cent(?:er|re)|group|match(?:ed)?|ethnic|race"
)
OTHER_KEYS = (rf"(?!(?:.* )?(?:{OTHERS})\b)(?:.* )?[^\W_]*(?:id|key)",)
SCAN_DATE = re.compile(
    r"(?=.*\b(?:date|day|time|datetime)\b)(?=.*\b(?:scan|mri?|acq|acquisition|image|imaging|exam|"
    r"examination|visit|session|study|test)).*|date|(?:scan|mri?|exam|visit) ?date"
)
OTHER_DATE = re.compile(r".*\b(?:birth|born|dob|death|died|update)\b.*")
# No word may be two others in a row, or a long name would take exponential time.
AGE_WORDS = (
    "age|ages|at|in|of|the|a|y|yrs?|years?|months?|weeks?|days?|time|(?<= )s|date|when|"
    "subject|participant|patient|pt|person|proband|decimal|exact|current|actual|chronological"
)
SCAN_WORDS = (
    "scan|scanning|mri?|imaging|visit|test|testing|session|study|exam|examination|assessment|"
    "acquisition|interview|evaluation|measurement|follow|up"
)
ENTRY_WORDS = (
    "entry|baseline|bl|base|first|inclusion|enroll?ment|recruitment|screening|intake|consent|"
    "admission|registration"
)
AGED = r"(?=.*\b(?:pt)?age)"
COLUMNS = {
    "age": (
        rf"{AGED}(?=.*\b(?:{SCAN_WORDS}))(?!.*\b(?:{ENTRY_WORDS})\b)"
        rf"(?:(?:{AGE_WORDS}|{SCAN_WORDS}) ?)+",
        rf"{AGED}(?:(?:{AGE_WORDS}) ?)+|alter|edad",
        rf"{AGED}(?:(?:{AGE_WORDS}|{SCAN_WORDS}|{ENTRY_WORDS}) ?)+",
    ),
    "sex": (
        r"sex|gender|m f",
        r"(?:.* )?(?:pt)?(?:sex|gender)(?: .*)?|f m|mf|male female|geschlecht|sexo|sexe|sesso",
    ),
    "cdr": (
        r"(?:global ?)?cdr ?(?:global|gs|glob|score|rating)?(?: \d.*)?|cd ?global",
        r"cdr ?(?:total|tot)(?: \d.*)?",
    ),
}
EXPECTED = {
    "age": "an age from 0 to 120",
    "sex": "male or female; numbers need a code book, such as a column named sex (1=m, 2=f)",
    "cdr": "only 0, 0.5, 1, 2 and 3 in the column",
}
RENAMED = {"mr delay": "delay", "mrdelay": "delay"}
BLANKS = {"", "na", "n/a", "#n/a", "nan", "none", "null", ".", "-", "?", "missing", "unknown"}
MALE, FEMALE = "m male males man men boy masculine", "f female females woman women girl feminine w"
SEXES: dict[str, str] = {
    word: sex for sex, words in (("M", MALE), ("F", FEMALE)) for word in words.split()
}
AGE = re.compile(  # 74.5, 018M as in DICOM, 74 years old, 74 Jahre, 74y6m
    r"(\d+(?:\.\d+)?|\.\d+)\s*(?:([ymwdja])[^\W\d_]*\.?(?: old)?)?"
    r"(?:[\s,]*(?:and )?(\d+)\s*([mwd])[a-z]*)?"
)
PER_YEAR = {"y": 1, "j": 1, "a": 1, "m": 12, "w": 365.25 / 7, "d": 365.25}
LARGEST_AGE = 120  # years
RATING = re.compile(r"0*[0123](?:\.0*)?|0*\.50*")
LARGEST_SUM = 18  # of the six boxes of the CDR; what is larger means that it is missing


@dataclasses.dataclass(frozen=True)
class Columns:
    """What the columns of a sheet say.

    Attributes:
        values: pandas table of the values, with `KNOWN` columns under those names.
        unclear: Texts that are no values, by the row number, by the column.
        at_entry: Whether the ages are those at entry into the study.
    """

    values: Any
    unclear: dict[str, dict[int, str]]
    at_entry: bool


def _words(name: str) -> str:
    """Returns the words of a column's name: `age at entry` of `ageAtEntry`."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return " ".join(re.findall(r"[^\W_]+", parted))


def named(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Returns the column names that fit a pattern, those of the first patterns first."""
    names = list(names)
    fitting = [name for p in patterns for name in names if re.fullmatch(p, _words(name))]
    return list(dict.fromkeys(fitting))


def is_column(name: str) -> bool:
    """Tells whether a name is that of a column: of subjects, sessions, ages, sexes or CDRs."""
    patterns = [*COLUMNS["age"], COLUMNS["sex"][0], COLUMNS["cdr"][0]]
    return bool(named([*KEYS, *OTHER_KEYS, *patterns], [name]))


def unnamed_keys(cells: Any) -> list[str]:
    """Returns columns whose name says nothing, and whose texts are different names or numbers."""
    patterns = [pattern for known in COLUMNS.values() for pattern in known]
    others = {*named(patterns, cells), *(c for c in cells if OTHER_DATE.fullmatch(_words(c)))}
    others.update(named([rf"(?:.* )?(?:{OTHERS})(?: .*)?"], cells))

    def is_key(texts: list[str]) -> bool:
        # Numbers below 100 may as well be a score or a rank.
        return len(set(texts)) == len(texts) and any(
            re.search(r"[^\W\d_]|\d{3}", text) for text in texts
        )

    return [
        name for name in cells if name not in others and is_key(list(filter(None, cells[name])))
    ]


def date_columns(cells: Any) -> tuple[list[str], list[str]]:
    """Returns the columns of dates that are named for scans, and the other ones."""
    dated = [name for name in cells if read_dates(list(cells[name]))]
    dated = [name for name in dated if not OTHER_DATE.fullmatch(_words(name))]
    sure = [name for name in dated if SCAN_DATE.fullmatch(_words(name))]
    return sure, [name for name in dated if name not in sure]


def interpret(sheet: Sheet) -> Columns:
    """Returns the values in a sheet, and what in it is no value."""
    book = _code_book(sheet.path.with_suffix(".json"))
    known, chosen, unclear = {}, {}, {}
    for column, patterns in COLUMNS.items():
        for name in named(patterns, sheet.cells):
            if any(known.get(column, [])):  # a column without a value gives way to the next
                break
            texts = [text.casefold() for text in sheet.cells[name]]
            values = READERS[column](texts, name, book.get(name.casefold(), {}))
            unclear.setdefault(column, {}).update(
                (number, text)
                for number, (text, value) in enumerate(zip(texts, values, strict=True))
                if not value and text not in BLANKS
            )
            known[column], chosen[name] = values, column
    values = {}
    for name in sheet.cells:
        column = chosen.get(name) or RENAMED.get(_words(name), name.lower())
        texts = known[column] if name in chosen else sheet.cells[name]
        if name in chosen or column not in {*values, *KNOWN}:
            values[column] = _numbers_if_all(
                pandas.Series(texts, dtype="string").replace("", pandas.NA)
            )
    entry = next((name for name in reversed(chosen) if chosen[name] == "age"), "")
    at_entry = re.search(rf"\b(?:{ENTRY_WORDS})\b", _words(entry)) is not None
    return Columns(pandas.DataFrame(values), unclear, at_entry)


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
    unit = stated[1][0] if stated else "y"
    matches = [AGE.fullmatch(text) for text in texts]
    # The archive of the NIMH keeps `interview_age` in months.
    if "interview" in name.lower() and any(m and float(m[1]) > LARGEST_AGE for m in matches):
        unit = "m"
    ages = []
    for match in matches:
        age = float(match[1]) / PER_YEAR[match[2] or unit] if match else LARGEST_AGE + 1
        if match and match[3]:
            age += int(match[3]) / PER_YEAR[match[4]]
        ages.append("" if age > LARGEST_AGE else f"{age:.10g}")
    return ages


def _read_sexes(texts: list[str], name: str, facts: dict[str, Any]) -> list[str]:
    """Returns `M`, `F` or `""`; a number has the meaning in the column's name or the code book."""
    levels, description = facts.get("Levels"), facts.get("Description", "")
    pairs = re.findall(r"(\w+)\s*[=:]\s*(\w+)", name.casefold())
    if isinstance(levels, dict):
        pairs += [(str(code).casefold(), str(text).casefold()) for code, text in levels.items()]
        levels = ""
    codes = {}
    for text in (name, str(description), str(levels)):
        codes |= _sexes_in_words(text)
    for code, text in pairs + [pair[::-1] for pair in pairs]:
        words = re.findall(r"\w+", text)
        if sex := next((SEXES[word] for word in words if word in SEXES), ""):
            codes[code] = sex
    if "h" in texts:  # Spanish: hombre, mujer
        codes.setdefault("m", "")
    return [(SEXES | codes).get(re.sub(r"\.0*$", "", text), "") for text in texts]


def _sexes_in_words(text: str) -> dict[str, str]:
    """Returns the sexes of the numbers in `male 1, female 2` or `1 for men and 2 for women`."""
    words = re.findall(r"\d+|[^\W\d_]+", text.casefold())
    words = [word for word in words if word in SEXES or word.isdecimal()][:4]
    for sexes, numbers in ((words[::2], words[1::2]), (words[1::2], words[::2])):
        found = {SEXES.get(sex) for sex in sexes}
        if all(number.isdecimal() for number in numbers) and found == {"M", "F"}:
            codes = dict(zip(numbers, (SEXES[sex] for sex in sexes), strict=False))
            return codes if len(codes) == 2 else {}
    return {}


def _read_ratings(texts: list[str], _name: str, _facts: dict[str, Any]) -> list[str]:
    """Returns CDRs, or `""`; a column with other numbers, such as sums of boxes, has none."""
    ratings = [text if RATING.fullmatch(text) else "" for text in texts]
    others = [text for text, rating in zip(texts, ratings, strict=True) if not rating]
    numbers = [float(text) for text in others if re.fullmatch(r"\d*\.?\d+", text)]
    return [""] * len(texts) if any(number <= LARGEST_SUM for number in numbers) else ratings


READERS = {"age": _read_ages, "sex": _read_sexes, "cdr": _read_ratings}
