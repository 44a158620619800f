"""Which words of names are slices' numbers or visits, told by comparing all names of a folder."""

import collections
import re
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

from oasisvq.data.name_words import (
    DAY,
    FRONT_VISIT,
    IN_FRONT,
    JOINED_LETTER,
    JOINED_WORD,
    MONTH,
    NOBODY,
    PLACE,
    YEAR,
)

WORD = re.compile(r"(?:(?<![^._ ()])[+-])?[^._ ()-]+")
NUMBER = re.compile(r"(?P<word>[a-z]{0,6})(?P<digits>[+-]?\d{1,4})[a-z%]{0,2}", re.I)
# A counter, or a hash: what a computer makes up.
HASH = re.compile(r"\d+|[0-9a-f]{6,}|[a-z]{2,}\d{3,}", re.I)
UNIQUE = 0.95  # of the values of a hash or counter; there may be two alike
DIFFERENT = 0.9  # of slices' numbers beside the same other words; there may be two alike
MOST_VISITS = 9  # smaller numbers, and this one, may be those of visits
DATE_TAIL = re.compile(rf"{YEAR}|\d\d{MONTH}{DAY}|{DAY}{MONTH}\d\d")
MOST_SCANS = 4  # of a person, on average, whose numbers do not recur behind others


class Field(NamedTuple):
    """The number of a slice amid a name.

    Attributes:
        digits: The number.
        before: The words before it, without hashes and counters.
        behind: The words behind it.
        person: What of them may be the person.
    """

    digits: str
    before: str
    behind: str
    person: str


def find_slice_fields(
    names: Sequence[str], places: Sequence[Hashable], persons: Sequence[str]
) -> dict[int, Field]:
    """Returns the slice's number amid the names of pictures that would each be a person's.

    The slice's number is the last one of whose values several stand beside the same other words,
    hashes and counters apart: 72 in `P01_72_AD`, `P01_72_512`, `P01_72_3fa21b` and `00072_P01_72`.
    Only names with the same number of words are compared. They are left as they are if they have
    two pictures or more of each person, on average.

    Args:
        names: Names of files without suffixes, visits and the like.
        places: What else the pictures of one person and visit share: folders, session, contrast.
        persons: What would be taken for the person of each.
    """
    forms = collections.defaultdict(list)
    words = [WORD.findall(name) for name in names]
    for number, found in enumerate(words):
        forms[len(found)].append(number)
    fields = {}
    for numbers in forms.values():
        if 2 * len({(places[n], persons[n]) for n in numbers}) > len(numbers) > 2:
            columns = list(zip(*(words[n] for n in numbers), strict=True))
            here = [places[n] for n in numbers]
            if reading := _best_reading(columns, here):
                found = (_field(words[n], *reading) for n in numbers)
                fields |= dict(zip(numbers, found, strict=True))
    return fields


def _best_reading(columns: list[tuple[str, ...]], places: list) -> tuple[int, set[int]] | None:
    """Returns which column holds the slices' numbers, and which ones hashes; or `None`."""
    made_up = {
        number
        for number, values in enumerate(columns)
        if len(set(values)) >= UNIQUE * len(values) and all(map(HASH.fullmatch, values))
    }
    for dropped in (set(), made_up):
        for column in reversed(range(len(columns))):
            if column not in dropped and _are_slices(columns, column, dropped, places):
                return column, dropped
    return None


def _are_slices(
    columns: list[tuple[str, ...]], column: int, dropped: set[int], places: list
) -> bool:
    """Tells whether a column may hold the numbers of slices, several of each of few persons."""
    values, rest = columns[column], [n for n in range(len(columns)) if n not in {column, *dropped}]
    matches = [match for match in map(NUMBER.fullmatch, values) if match]
    words = {match["word"].casefold() for match in matches}
    if not rest or len(matches) < len(values) or len(words) > 1:
        return False
    groups = collections.defaultdict(list)
    for number, value in enumerate(values):
        groups[places[number], *(columns[n][number] for n in rest)].append(value)
    different = sum(len(set(found)) for found in groups.values())
    if 2 * len(groups) > len(values) or different < DIFFERENT * len(values):
        return False
    before = [n for n in rest if n < column]
    behind = next((columns[n] for n in rest if n > column), ())  # the next column
    if not any(may_be_person(columns[n][0]) for n in before):
        recurring = 2 * len(set(values)) <= len(values)
        person_behind = behind and _has_number(behind[0]) and not behind[0].isdecimal()
        return recurring and words == {""} and bool(before or person_behind)
    if any(map(NOBODY.fullmatch, words - {""})):
        return False
    # `P01_2_90` is a visit, and a slice, unless there are many visits.
    heads = {tuple(columns[n][number] for n in before) for number in range(len(values))}
    few = all(abs(int(match["digits"])) <= MOST_VISITS for match in matches)
    few = few and len(set(values)) <= len(heads)
    return not (few and any(map(NUMBER.fullmatch, behind)))


def _has_number(word: str) -> bool:
    return any(map(str.isdecimal, word))


def _field(words: list[str], column: int, dropped: set[int]) -> Field:
    """Returns the field in a name's words."""
    before = "_".join(word for n, word in enumerate(words[:column]) if n not in dropped)
    rest = [word for n, word in enumerate(words) if n > column and n not in dropped]
    match = NUMBER.fullmatch(words[column])
    digits = match["digits"] if match else ""
    letter = words[column][match.end("digits") :] if match else ""
    behind = "_".join(filter(None, [letter.removesuffix("mm"), *rest]))
    numbered = any(map(may_be_person, before.split("_")))
    person = before if numbered or (before and not _has_number(behind)) else f"{before}_{behind}"
    return Field(digits, before, behind, person)


def part_joined_visits(names: Iterable[str]) -> dict[str, str]:
    """Returns names with `_` between person and visit: `P01V1` and `pre1` become `P01_V1`, `pre_1`.

    A letter and a number are a visit only if several such stand behind one name; these are visits
    behind the other names too.
    """
    names = set(names)
    letters, fronts = collections.defaultdict(set), collections.defaultdict(set)
    for name in names:
        if match := JOINED_LETTER.search(name):
            letters[name[: match.start()]].add(match[0].casefold())
        if match := IN_FRONT.match(name):
            fronts[name[match.end() :]].add(match[0].casefold())
    heads = {head for head, found in letters.items() if len(found) > 1}
    known = {visit for head in heads for visit in letters[head]}
    parted = {}
    for name in names:
        text, match = JOINED_WORD.sub("_", name), JOINED_LETTER.search(name)
        if match and (name[: match.start()] in heads or match[0].casefold() in known):
            text = f"{name[: match.start()]}_{name[match.start() :]}"
        match = IN_FRONT.match(name)
        if match and len(fronts[name[match.end() :]]) > 1:
            text = f"{match[0]}_{text[match.end() :]}"
        parted[name] = text
    return parted


def visits_in_front(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Returns visit and person of names as `V1_P01`, if persons recur behind several visits."""
    found = {name: match for name in set(names) if (match := FRONT_VISIT.fullmatch(name))}
    visits = collections.defaultdict(set)
    for match in found.values():
        visits[match["rest"].casefold()].add(match["visit"])
    several = {rest for rest, some in visits.items() if len(some) > 1}
    words = {visit for rest in several for visit in visits[rest]}
    dated = any(len(word) == 6 for word in words)
    # There are no fewer persons than visits, and more if persons have two digits: `V1_01`.
    fewest = len(words) + any(len(rest) < 3 for rest in visits)
    if 4 * len(several) < len(visits) or not (dated or len(visits) >= fewest):
        return {}
    return {name: (match["visit"], match["rest"]) for name, match in found.items()}


def scan_tails(heads: dict[str, set[str]], names: set[str]) -> Iterator[str]:
    """Yields last words that tell scans of persons apart, though they may recur behind nobody else.

    These are years and days such as `170110`, numbers of which most persons have two or three, and
    words that stand behind a name that is there without them.

    Args:
        heads: Of each name without its last word, the last words.
        names: All names.
    """
    persons = {head: tails for head, tails in heads.items() if may_be_person(head)}
    tails = [tail for found in persons.values() for tail in found]
    several = [found for found in persons.values() if len(found) > 1]
    if len(persons) > 1 and persons.keys() == heads.keys():
        dates = several and all(map(DATE_TAIL.fullmatch, tails))
        numbers = all(map(_has_number, tails)) and 2 * len(several) > len(persons) > 2
        if dates or (numbers and len(tails) <= min(MOST_SCANS, len(persons)) * len(persons)):
            yield from tails
    behind = collections.Counter(t for head in names & persons.keys() for t in persons[head])
    yield from (word for word, count in behind.items() if count > 1)


def may_be_person(name: str) -> bool:
    """Tells whether a name may be a person's, not a place's: mostly, persons have a number."""
    return _has_number(name) and not PLACE.fullmatch(name)
