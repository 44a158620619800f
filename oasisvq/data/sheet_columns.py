"""Understands the columns of subject sheets: who a row is about, and age, sex and CDR."""

import dataclasses
import re
import statistics
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas

from oasisvq.core.files import read_json
from oasisvq.data.sheets import Sheet
from oasisvq.data.visits import read_dates

KNOWN = ("age", "sex", "cdr")  # the columns that every table of slices has
# Names of columns, of which `words_of` leaves words in small letters; better ones first.
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
VISITS = (
    rf"{VISIT} ?(?:{LABEL})?|redcap event|(?:ses|redcap event|event) ?(?:{LABEL})",
)  # OASIS's `SES` is no session
# The IDs of others, and of things, are not the subject's.
OTHERS = (
    "sex|gender|twin|sib|sibling|mother|father|parent|family|spouse|partner|rater|reader|site|"
    "scanner|cent(?:er|re)|group|match(?:ed)?|ethnic|race"
)
# A sex may be that of one of these persons, not of the subject.
OTHER_PERSON = re.compile(
    r".*\b(?:(?:care ?giver|carer|care ?taker|partner|spouse|husband|child|sibling|brother|sister|"
    r"co ?twin|twin|mother|father|parent|son|daughter|relative|friend|informant|proxy|companion|"
    r"rater|reader|examiner|interviewer|experimenter|assessor|observer|evaluator|clinician|doctor|"
    r"physician|therapist|operator|technician|donor|offspring|family|control|match)s?|wife|wives|"
    r"children|matched|maternal|paternal)\b.*"
)
OWNER = re.compile(
    r"(?:sex|gender) of (?:(?:the|a|each|all) )?(\w+)|(\w+) s (?:sex|gender)\b"  # subject's sex
)
SUBJECT = re.compile(rf"(?:{PERSON}|individual|animal|infant|baby|birth|user|member)s?")
OTHER_KEYS = (rf"(?!(?:.* )?(?:{OTHERS})\b)(?:.* )?[^\W_]*(?:id|key)",)
SCAN_DATE = re.compile(
    r"(?=.*\b(?:date|day|time|datetime)\b)(?=.*\b(?:scan|mri?|acq|acquisition|image|imaging|exam|"
    r"examination|visit|session|study|test)).*|date|(?:scan|mri?|exam|visit) ?date"
)
OTHER_DATE = re.compile(r".*\b(?:birth|born|dob|death|died|update)\b.*")
# Words for the units of ages; `PER_YEAR` has their letters.
UNIT_OF = {
    word: letter
    for letter, words in {
        "y": "year years yr yrs jahr jahre jahren ans annees anos anni jaar",
        "m": "month months mo mos mth mths monat monate monaten mois meses mesi maanden",
        "w": "week weeks wk wks woche wochen semaines semanas settimane weken",
        "d": "day days tag tage tagen jours dias giorni dagen",
    }.items()
    for word in words.split()
}
UNIT_WORDS = "|".join(sorted(UNIT_OF, key=len, reverse=True))
# No word may be two others in a row, or a long name would take exponential time.
AGE_WORDS = (
    f"age|ages|at|in|en|of|the|a|y|{UNIT_WORDS}|time|(?<= )s|date|when|subject|participant|patient|"
    "pt|person|proband|decimal|exact|current|actual|chronological"
)
IMAGE_WORDS = "scan|scanned|scanning|mri?|imaging|acquisition"
SCAN_WORDS = (
    f"{IMAGE_WORDS}|visit|test|testing|session|study|exam|examination|assessment|interview|"
    "evaluation|measurement|follow|up"
)
ENTRY_WORDS = (
    "entry|baseline|bl|base|first|inclusion|enroll?ment|recruitment|screening|intake|consent|"
    "admission|registration"
)
AGED = r"(?=.*\b(?:pt)?age)"
COLUMNS = {
    "age": (
        rf"{AGED}(?=.*\b(?:{IMAGE_WORDS})\b)(?!.*\b(?:{ENTRY_WORDS})\b)"
        rf"(?:(?:{AGE_WORDS}|{SCAN_WORDS}) ?)+",
        rf"{AGED}(?=.*\b(?:{SCAN_WORDS}))(?!.*\b(?:{ENTRY_WORDS})\b)"
        rf"(?:(?:{AGE_WORDS}|{SCAN_WORDS}) ?)+",
        rf"{AGED}(?:(?:{AGE_WORDS}) ?)+|(?:alter|edad|eta|idade|leeftijd)(?: (?:in|en|em))?"
        rf"(?: (?:{UNIT_WORDS}))?",
        rf"{AGED}(?:(?:{AGE_WORDS}|{SCAN_WORDS}|{ENTRY_WORDS}) ?)+",
    ),
    "sex": (
        r"sex|gender|m f",
        r"(?:.* )?(?:pt)?(?:sex|gender)(?: .*)?|f m|mf|male female|geschlecht|geslacht|sexo|sexe|"
        r"sesso",
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
MALE = (
    "m male males man men boy masculine homme garcon masculin hombre varon masculino homem uomo "
    "maschio mann mannlich mand mezczyzna erkek"
)
FEMALE = (
    "f female females woman women girl feminine w femme fille feminin mujer femenino feminino "
    "mulher donna femmina frau weiblich vrouw kvinde kvinna kobieta kadin kadın"
)
SEXES: dict[str, str] = {
    word: sex for sex, words in (("M", MALE), ("F", FEMALE)) for word in words.split()
}
# The letters of one language for the two sexes; others, such as V and M, or F and N, have two
# meanings. The letters of `OTHER_SEXES` may stand beside them.
ALONE = ({"m": "M", "f": "F"}, {"m": "M", "w": "F"})  # männlich, weiblich
PAIRS = (
    {"h": "M", "f": "F"},  # homme, femme
    {"e": "M", "k": "F"},  # erkek, kadın
    {"m": "M", "k": "F"},  # mand, kvinde
)
OTHER_SEXES = set("uxod")
NEGATED = re.compile(
    r"\b(?:not|non|no|un(?:known|sure|specified|disclosed|determined)|other)\b", re.I
)
AGE_UNIT = (r"(?:.* )?age units?|units? (?:of )?age", "units?")
UNITS = rf"({UNIT_WORDS})"
# Numbers that are no age, though they are called so.
SCALED = re.compile(
    r"\bz\b|z.?scores?|standardi[sz]ed|normali[sz]ed|scaled|log\b|squared|cent(?:er|re)d|centile|"
    r"decades?",
    re.I,
)
UNIT = re.compile(rf"{UNITS}|[ymwd]")
NUMBER = re.compile(r"[\d.]+")
STATED = re.compile(  # a unit in a description
    rf"\b(?:in|en|as|number of)\s+(?:[^\W\d_]+\s+)?{UNITS}\b|[(,:;\[]\s*{UNITS}\s*(?:[)\],;.]|$)|"
    rf"^{UNITS}$|\b{UNITS}\s+(?:of age|old|since birth)\b",
    re.I,
)
NEGATIVE = re.compile(r"[-−–]\s*\d*[.,]?\d+")
MISSING = re.compile(r"-(?:[14789]|([6-9])\1+)(?:\.0*)?")  # numbers that mean an unknown age
ADULT = 18  # years; scaled ages are smaller numbers
AGE = re.compile(  # 74.5, 018M as in DICOM, 74 years old, 74 Jahre, 74y6m
    r"(\d+(?:\.\d+)?|\.\d+)\s*(?:(?!jour)([ymwdja])[^\W\d_]*\.?(?: old)?)?"
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
        of_others: Names of columns with the sex of other persons, if no column has the subject's.
    """

    values: Any
    unclear: dict[str, dict[int, str]]
    at_entry: bool
    of_others: list[str] = dataclasses.field(default_factory=list)


def words_of(name: str) -> str:
    """Returns the words of a column's name, without accents: `age at entry` of `ageAtEntry`."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", _plain(name)).lower()
    return " ".join(re.findall(r"[^\W_]+", parted))


def _plain(text: str) -> str:
    """Returns a text without accents."""
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part))


def named(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Returns the column names that fit a pattern, those of the first patterns first."""
    words = [(name, words_of(name)) for name in names]
    fitting = [name for p in patterns for name, text in words if re.fullmatch(p, text)]
    return list(dict.fromkeys(fitting))


def is_column(name: str) -> bool:
    """Tells whether a name is that of a column: of subjects, sessions, ages, sexes or CDRs."""
    patterns = [*COLUMNS["age"], COLUMNS["sex"][0], COLUMNS["cdr"][0]]
    return bool(named([*KEYS, *OTHER_KEYS, *patterns], [name]))


def unnamed_keys(cells: Any) -> list[str]:
    """Returns columns whose name says nothing, and whose texts are different names or numbers."""
    patterns = [pattern for known in COLUMNS.values() for pattern in known]
    others = {*named(patterns, cells), *(c for c in cells if OTHER_DATE.fullmatch(words_of(c)))}
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
    dated = [name for name in dated if not OTHER_DATE.fullmatch(words_of(name))]
    sure = [name for name in dated if SCAN_DATE.fullmatch(words_of(name))]
    return sure, [name for name in dated if name not in sure]


def interpret(sheet: Sheet, originals: dict[str, str] | None = None) -> Columns:
    """Returns the values in a sheet, and what in it is no value.

    Args:
        sheet: The sheet.
        originals: The names of columns in the file, if they were renamed.
    """
    book = _code_book(sheet.path.with_suffix(".json"))
    originals, known, chosen, unclear = originals or {}, {}, {}, {}
    sexes = named(COLUMNS["sex"], sheet.cells)
    of_others = [name for name in sexes if _is_of_others(words_of(name))]
    for column, patterns in COLUMNS.items():
        for name in named(patterns, sheet.cells):
            if name in of_others:
                continue
            if any(known.get(column, [])):  # a column without a value gives way to the next
                break
            texts = [text.casefold() for text in sheet.cells[name]]
            if column == "age":
                texts = _with_units(texts, name, sheet.cells)
            facts = book.get(originals.get(name, name).casefold(), {})
            values = READERS[column](texts, name, facts)
            unclear.setdefault(column, {}).update(
                (number, text)
                for number, (text, value) in enumerate(zip(texts, values, strict=True))
                if not value and text not in BLANKS
            )
            known[column], chosen[name] = values, column
    values = {}
    for name in sheet.cells:
        column = chosen.get(name) or RENAMED.get(words_of(name), name.lower())
        texts = known[column] if name in chosen else sheet.cells[name]
        if name in chosen or column not in {*values, *KNOWN}:
            values[column] = _numbers_if_all(
                pandas.Series(texts, dtype="string").replace("", pandas.NA)
            )
    entry = next((name for name in reversed(chosen) if chosen[name] == "age"), "")
    at_entry = re.search(rf"\b(?:{ENTRY_WORDS})\b", words_of(entry)) is not None
    of_others = [] if "sex" in known else of_others
    return Columns(pandas.DataFrame(values), unclear, at_entry, of_others)


def _is_of_others(words: str) -> bool:
    """Tells whether the name of a column of sexes names another person than the subject."""
    if OTHER_PERSON.fullmatch(words):
        return True
    match = OWNER.search(words)
    return match is not None and not SUBJECT.fullmatch(match[1] or match[2])


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
    unit = _age_unit(name, facts)
    matches = [AGE.fullmatch(text) for text in texts]
    # Others than the NIMH keep such ages in years, see `_age_unit`.
    if "interview" in name.lower() and any(m and float(m[1]) > LARGEST_AGE for m in matches):
        unit = "m"
    # Standardised or centred ages have negative numbers; those above 0 are not years either.
    negative = [text for text in texts if NEGATIVE.fullmatch(text)]
    numbers = [float(m[1]) for m in matches if m and not m[2] and float(m[1]) <= LARGEST_AGE]
    coded = all(map(MISSING.fullmatch, negative)) and len(set(negative)) <= 2
    scaled = negative and not (coded and statistics.median(numbers or [LARGEST_AGE]) > ADULT)
    levels, plain = facts.get("Levels"), {text for text in texts if NUMBER.fullmatch(text)}
    grouped = isinstance(levels, dict) and plain and plain <= set(levels)
    if scaled or grouped:
        return [""] * len(texts)
    ages = []
    for match in matches:
        own = (match[2] or unit) if match else ""
        age = float(match[1]) / PER_YEAR[own] if match and own else LARGEST_AGE + 1
        if match and match[3]:
            age += int(match[3]) / PER_YEAR[match[4]]
        ages.append("" if age > LARGEST_AGE else f"{age:.10g}")
    return ages


def _with_units(texts: list[str], name: str, cells: Any) -> list[str]:
    """Returns ages with their units, if another column has these.

    A column `Unit` may be of other things; it counts if all its texts are units of time.
    """
    for pattern, sure in zip(AGE_UNIT, (True, False), strict=True):
        for column in named([pattern], cells):
            units = [_plain(text).casefold().strip(" .") for text in cells[column]]
            others = [unit for unit in units if unit and not UNIT.fullmatch(unit)]
            if column != name and any(units) and (sure or not others):
                return [
                    f"{text} {'?' if unit in others else UNIT_OF.get(unit, unit)}"
                    if unit and NUMBER.fullmatch(text)
                    else text
                    for text, unit in zip(texts, units, strict=True)
                ]
    return texts


def _age_unit(name: str, facts: dict[str, Any]) -> str:
    """Returns the unit of a column of ages: `y`, `m`, `w` or `d`; `""` if several are named."""
    stated = str(facts.get("Units", ""))
    described = [str(facts.get(key, "")) for key in ("LongName", "Description")]
    if any(map(SCALED.search, [stated, *described])):
        return ""
    if stated.lower() in UNIT_OF.values():
        return stated.lower()
    found = re.findall(rf"\b{UNITS}\b", _plain(stated).lower())
    if not found:
        found = re.findall(rf"\b{UNITS}\b", words_of(name))
        for text in described:
            found += [next(filter(None, match)) for match in STATED.findall(_plain(text))]
    if found:
        units = {UNIT_OF.get(text.lower(), "") for text in found}
        return units.pop() if len(units) == 1 else ""
    # The archive of the NIMH keeps `interview_age` in months.
    return "m" if words_of(name) == "interview age" else "y"


def _read_sexes(texts: list[str], name: str, facts: dict[str, Any]) -> list[str]:
    """Returns `M`, `F` or `""`; a number has the meaning in the column's name or the code book."""
    levels, described = facts.get("Levels"), [name, str(facts.get("Description", ""))]
    pairs = re.findall(r"(\w+)\s*[=:]\s*(\w+)", name.casefold())
    if isinstance(levels, dict):
        pairs += [(str(code).casefold(), str(text).casefold()) for code, text in levels.items()]
    else:
        described.append(str(levels))
    codes = {}
    for text in described:
        codes |= _sexes_in_words(text)
    if isinstance(levels, dict):  # a letter that means what is not understood
        codes |= {
            code: ""
            for code, text in pairs
            if not _sexes_named(text) and re.search(r"[^\W\d_]", text)
        }
    for code, text in [pair if _sexes_named(pair[1]) else pair[::-1] for pair in pairs]:
        if found := _sexes_named(text):
            codes[code] = found.pop() if len(found) == 1 and not NEGATED.search(text) else ""
    if not {"M", "F"} <= set(codes.values()):  # half a code book may be a wrong one
        codes = {code: sex if SEXES.get(code) == sex else "" for code, sex in codes.items()}
    letters = {text for text in texts if len(text) == 1 and text.isalpha()}
    letters -= {*OTHER_SEXES, *codes}
    fitting = [known for known in ALONE if letters <= set(known)]
    fitting += [known for known in PAIRS if letters == set(known)]
    codes = (fitting[0] if fitting else dict.fromkeys(letters, "")) | codes
    plain = [_plain(re.sub(r"\.0*$", "", text)) for text in texts]
    return [(SEXES | codes).get(text, "") for text in plain]


def _sexes_named(text: str) -> set[str]:
    """Returns the sexes, `M` and `F`, of the words in a text."""
    return {SEXES[word] for word in re.findall(r"\w+", _plain(text)) if word in SEXES}


def _sexes_in_words(text: str) -> dict[str, str]:
    """Returns the sexes of the numbers in `male 1, female 2` or `1 for men and 2 for women`."""
    words = re.findall(r"\d+|[^\W\d_]+", _plain(text).casefold())
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
