"""Finds the sessions that the names in a sheet mean, however they are spelled."""

import collections
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from oasisvq.data.filenames import SUFFIXES, names_in_path
from oasisvq.data.visits import DATE
from oasisvq.data.volumes import is_volume

Session = tuple[str, str]  # subject and session as paths name them; the session may be ""
PREFIX = re.compile(r"(?:sub(?:j(?:ect)?)?(?=[\W_\d])[\W_]*)?(?:adni[\W_]*(?=\d))?", re.I)
VISIT_PREFIX = re.compile(
    r"^(?:(?:session|ses|visit|scan|timepoint|wave|event|mri?|tp)|(?:time|[vt])(?=\d))+"
)
ARM = re.compile(r"(?<=.)arm\d+.*$")  # of a study in REDCap, `baseline_arm_1`
FIRST_VISIT = ("bl", "baseline")  # ADNI's names for `M00`
VISIT = re.compile(r"(?:[^\W\d_]*\d+)+|" + "|".join(FIRST_VISIT))


class Found(NamedTuple):
    """The rows of sessions.

    Attributes:
        rows: Lists of row numbers by session.
        ambiguous: The sessions for which the rows are ambiguous, because several sessions, or
            several names in the sheet, differ in nothing that matters.
        visited: Whether rows of known subjects name visits.
        shifted: Whether visits are counted from 0 in either the sheet or the files, and from 1 in
            the other. Rows of such visits are not found.
    """

    rows: dict[Session, list[int]]
    ambiguous: list[Session]
    visited: bool
    shifted: bool


def full_name(session: Session) -> str:
    """Returns subject and session in one name, as OASIS has them."""
    return "_".join(filter(None, session))


def find_rows(
    names: Sequence[str],
    visits: Sequence[str],
    sessions: Sequence[Session],
    whole: bool = False,
    loose: bool = False,
) -> Found:
    """Finds the rows of each session.

    Upper and lower case, separators, `sub-`, and words such as `ses-` or `MR` before a visit do not
    matter. A row without a visit is about all sessions of its subject, and all rows of a subject
    are about a session without a name.

    Args:
        names: Names of sessions or subjects, one per row.
        visits: Names of the visits, one per row, used where `names` are of subjects; maybe `""`.
        sessions: The sessions.
        whole: Whether names of subjects do not count.
        loose: Whether zeros before numbers do not matter, as in `AD-1` and `AD_01`.
    """
    keys = {
        session: (_subject_key(_tokens(session[0]), loose), plain_visit(session[1]))
        for session in sessions
    }
    alike = collections.Counter(keys.values())
    subjects, known_visits = map(set, zip(*keys.values(), strict=True))
    split = functools.cache(functools.partial(_split, subjects, known_visits, loose))
    spellings = collections.defaultdict(lambda: collections.defaultdict(list))
    groups = collections.defaultdict(set)  # keys of rows by subject
    for number, (name, visit) in enumerate(zip(names, visits, strict=True)):
        subject, own = split(name)
        if subject and (own or not whole):
            key = subject, own or plain_visit(visit)
            spellings[key][name if own else full_name((name, visit))].append(number)
            groups[subject].add(key)
    visited = any(visit for _, visit in spellings)
    shifted = _are_shifted({visit for _, visit in spellings}, known_visits)
    if shifted:
        spellings = {key: found for key, found in spellings.items() if not key[1].isdecimal()}
    rows, ambiguous = {}, []
    for session, key in keys.items():
        fitting = [key] if key in spellings else [(key[0], "")]
        for fit in sorted(groups[key[0]]) if not key[1] else fitting:
            found = spellings.get(fit, {})
            exact = [name for name in found if name in (session[0], full_name(session))]
            if exact or len(found) == alike[key] == 1:
                rows.setdefault(session, []).extend(found[(exact or list(found))[0]])
            elif found:
                ambiguous.append(session)
    ambiguous = [session for session in ambiguous if session not in rows]
    return Found(rows, ambiguous, visited, shifted)


def days_of(sessions: Iterable[Session]) -> set[str]:
    """Returns the dates in the names of sessions, as `20190503`."""
    return {day for day in (plain_visit(visit) for _, visit in sessions) if DATE.fullmatch(day)}


def respellings(sessions: Sequence[Session]) -> Iterator[list[Callable[[str], str]]]:
    """Yields functions that turn what a sheet may have in place of names into names.

    The surest ones come first: for names, for paths of images, for the numbers of subjects.
    """
    yield [str]
    yield [functools.partial(_name_of_file, depth=depth) for depth in (1, 2, 3, 100)]
    subjects = dict.fromkeys(subject for subject, _ in sessions)
    patterns = r"(.*?)(\d+)", r"(\D*)(\d+)[\W_]+[^\W\d_].*"  # OAS1_0002, IXI002-Guys-0828
    numberings = [_numbered(subjects, pattern) for pattern in patterns]
    yield [functools.partial(_name_of_number, subjects=numbers) for numbers in numberings]


def _tokens(text: str) -> list[str]:
    """Returns the words and numbers of a name in small letters, without `sub-`."""
    text = unicodedata.normalize("NFC", text.strip())
    text = SUFFIXES.sub("", re.sub(r"^(\d+)\.0+$", r"\1", text)).casefold()
    return re.findall(r"\d+|[^\W\d_]+", PREFIX.sub("", text, count=1))


def _are_shifted(*numberings: set[str]) -> bool:
    """Tells whether of two sets of visits one counts from 0 and the other from 1."""
    numbers = [[int(visit) for visit in visits if visit.isdecimal()] for visits in numberings]
    return {min(found, default=-1) for found in numbers} == {0, 1}


def _subject_key(tokens: Sequence[str], loose: bool) -> str:
    """Returns what matters of a subject's name, see `find_rows`."""
    if not loose:
        return "".join(tokens)
    return "_".join(str(int(token)) if token.isdecimal() else token for token in tokens)


def plain_visit(text: str) -> str:
    """Returns what matters of a visit's name: `1` of `MR1`, `m6` of `ses-M06`, `20190503`."""
    text = VISIT_PREFIX.sub("", "".join(_tokens(text)), count=1)
    if DATE.fullmatch(text):
        return text[:8]  # without the time of day
    text = ARM.sub("", text)
    text = re.sub(r"^months?(?=\d)", "m", text)
    text = re.sub(r"^(?:years?|yrs?)(?=\d)", "y", text)
    text = re.sub(r"^(?:followup|fup)(?=\d*$)", "fu", text)
    if since := re.fullmatch(r"(\d+)(?:(months?|mos?|mths?|m)|years?|yrs?)(?:fu|followup)?", text):
        text = f"m{int(since[1]) * (1 if since[2] else 12)}"
    text = re.sub(r"\d+", lambda number: str(int(number[0])), text)
    return "m0" if text in FIRST_VISIT else text


def _split(subjects: set[str], visits: set[str], loose: bool, name: str) -> Session:
    """Returns the plain subject and visit in a name; a subject of `""` if it is not known."""
    tokens = _tokens(name)
    for count in range(len(tokens), 0, -1):
        subject, rest = _subject_key(tokens[:count], loose), "".join(tokens[count:])
        if subject in subjects and (
            not rest or plain_visit(rest) in visits or VISIT.fullmatch(rest)
        ):
            return subject, plain_visit(rest)
    return "", ""


def _name_of_file(text: str, depth: int) -> str:
    """Returns the name of the session in the last parts of a path."""
    path = PurePosixPath(*PurePosixPath(text.replace("\\", "/")).parts[-depth:])
    if not path.name:
        return ""
    names = names_in_path(path, None, is_volume(path.name))
    return full_name((names.subject, names.session))


def _numbered(subjects: Iterable[str], pattern: str) -> dict[int, str]:
    """Returns the subjects by their numbers, if these differ.

    They must be large, such as 50003, if not all subjects have the same prefix.
    """
    matches = [(subject, re.fullmatch(pattern, subject)) for subject in subjects]
    found = [(subject, match[1], int(match[2])) for subject, match in matches if match]
    numbers = {number: subject for subject, _, number in found}
    prefixes = {prefix.casefold() for _, prefix, _ in found}
    sure = len(prefixes) == 1 or min(numbers, default=0) >= 1000
    return numbers if sure and len(numbers) == len(found) else {}


def _name_of_number(text: str, subjects: dict[int, str]) -> str:
    """Returns the subject with a number, such as `1`, `1.0` or `sub-1`; `""` without one."""
    digits = re.fullmatch(r"(\d+)(?:\.0+)?", PREFIX.sub("", text, count=1))
    return subjects.get(int(digits[1]), "") if digits else ""
