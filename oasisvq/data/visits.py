"""Understands what the names of visits, and dates in sheets, say of the time of a visit."""

import datetime
import re
from collections.abc import Sequence

from oasisvq.data.name_words import DAY, MONTH, MONTHS, YEAR

DATE = re.compile(rf"{YEAR}{MONTH}{DAY}(?:\d{{4,}})?")
YEAR_FIRST = re.compile(r"((?:19|20)\d\d)([-/._]?)(\d\d?)\2(\d\d?)(?:[t _].*)?", re.I)
YEAR_LAST = re.compile(r"(\d\d?)([-/.])(\d\d?)\2((?:\d\d)?\d\d)(?:[t ].*)?", re.I)
MONTH_NAMED = re.compile(r"(\d\d?)[-/. ]+([a-z]{3})[a-z]*[-/., ]+(\d{4})(?: .*)?", re.I)
FIRST_VISIT = re.compile(r"(?:ses[\W_]*)?(?:bl|base|screen|entry)", re.I)
LATER_VISIT = re.compile(
    r"(?:ses[\W_]*)?(?:f[\W_]*u|follow|post|after|retest|final|last|later|second|third)", re.I
)
YEAR_IN_NAME = re.compile(
    r"(?<!\d)((?:19[5-9]|20\d)\d)(?:[-_. ]?(0[1-9]|1[0-2]|" + "|".join(MONTHS) + r"))?(?!\d)|"
    r"(?<![a-z\d])(\d\d)(0[1-9]|1[0-2])(?:[0-2]\d|3[01])(?!\d)",  # 190310
    re.I,
)
DAYS_PER_YEAR = 365.25
UNITS = {"d": 1.0, "w": 7.0, "m": DAYS_PER_YEAR / 12, "y": DAYS_PER_YEAR}  # days
UNIT = r"(?:(d|w|m|y)|(day|month|year)s?|(wk|mo|mth|yr)s?|(week)s?)"
SINCE = re.compile(
    rf"(?<![a-z\d]){UNIT}[\W_]*(\d+)(?!\d)|(?<![a-z\d])(\d+)[\W_]*{UNIT}(?![a-z])", re.I
)


def days_since_entry(visit: str) -> float | None:
    """Returns the days from entry to a visit, if its name tells: `d0129`, `M06`, `year_5`, `bl`."""
    if FIRST_VISIT.match(visit):
        return 0.0
    visit = re.sub(r"follow[\W_]*up|fu(?=[\W_]*\d)", "_", visit.replace("Year", "_year_").lower())
    if not (match := SINCE.search(visit)):
        return None
    number = next(filter(None, (match[5], match[6])))
    unit = next(filter(None, match.group(1, 2, 3, 4, 7, 8, 9, 10)))
    return int(number) * UNITS[unit[0]]


def years_between(visits: Sequence[str]) -> float:
    """Returns the years from the first to the last visit, as far as their names tell."""
    since = [days for days in map(days_since_entry, visits) if days is not None]
    dates = [days for days in map(_days_in_name, visits) if days is not None]
    spans = [max(days) - min(days) for days in (since, dates) if days]
    return max(spans, default=0.0) / DAYS_PER_YEAR


def is_first(visit: str, visits: Sequence[str]) -> bool:
    """Tells whether a visit is the first of a person's, and may be the first of all."""

    def order(name: str) -> tuple[bool, bool, float, list]:
        parts = [(part.isdecimal(), part.rjust(20, "0")) for part in re.findall(r"\d+|\D+", name)]
        kinds = LATER_VISIT.match(name) is not None, FIRST_VISIT.match(name) is None
        return *kinds, _days_in_name(name) or 0.0, parts

    last = re.search(r"(\d+)\D*$", visit)
    later = last and _days_in_name(visit) is None and 1 < int(last[1]) < 100
    return visit == min(visits, key=order) and not later and not LATER_VISIT.match(visit)


def _days_in_name(visit: str) -> float | None:
    """Returns the ordinal number of the day, month or year's first day in a visit's name."""
    visit = re.sub(r"^ses[\W_]*", "", visit)
    if dates := read_dates([visit]):
        return float(datetime.date.fromisoformat(dates[0][0]).toordinal())
    if not (match := YEAR_IN_NAME.search(visit)):
        return None
    year, month = int(match[1] or match[3]), (match[2] or match[4] or "").lower()
    number = MONTHS.index(month) + 1 if month in MONTHS else int(month or 1)
    return float(datetime.date(_century(match[1] or match[3]) + year, number, 1).toordinal())


def read_dates(texts: Sequence[str]) -> list[list[str]]:
    """Returns the ways to read a column of dates, each with texts such as `20190503`.

    The order of day and month is told from the whole column. There are two ways if both orders
    are possible, and none if a text is neither a date nor blank.
    """
    readings = []
    for day_first in (True, False):
        dates = []
        for text in texts:
            date = _date(text, day_first) if re.search(r"\d", text) else ""
            if date is None:
                break
            dates.append(date)
        else:
            if any(dates) and dates not in readings:
                readings.append(dates)
    return readings


def _date(text: str, day_first: bool) -> str | None:
    """Returns a date as `20190503`, or `None`."""
    if match := YEAR_FIRST.fullmatch(text):
        year, month, day = match[1], match[3], match[4]
        if not match[2] and len(month + day) != 4:
            return None
    elif match := YEAR_LAST.fullmatch(text):
        # Days come first where dots are between.
        day, month = match.group(1, 3) if day_first or match[2] == "." else match.group(3, 1)
        year = match[4]
    elif (match := MONTH_NAMED.fullmatch(text)) and match[2].lower() in MONTHS:
        day, month, year = match[1], MONTHS.index(match[2].lower()) + 1, match[3]
    else:
        return None
    try:
        return datetime.date(_century(year) + int(year), int(month), int(day)).strftime("%Y%m%d")
    except ValueError:
        return None


def _century(year: str) -> int:
    """Returns what must be added to a year of two or four digits."""
    return 0 if len(year) == 4 else 1900 if int(year) > 68 else 2000
