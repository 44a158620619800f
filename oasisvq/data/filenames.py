"""Reads subject, session, slice number and split from the path of a file."""

import re
from collections.abc import Sequence
from pathlib import PurePath

from oasisvq.core.errors import DatasetError

# Names of subjects anywhere in a path: OASIS, ADNI, case_441 and the like, BIDS.
KNOWN_NAMES = (
    re.compile(r"(?P<subject>OAS[12]_\d{4})(?:_(?P<session>MR\d+))?", re.I),
    re.compile(r"(?P<subject>OAS3\d{4})(?:_(?P<session>MR_d\d+))?", re.I),
    re.compile(r"(?P<subject>\d{3}_S_\d{4})", re.I),
    re.compile(r"(?P<subject>case_\d+)", re.I),
    re.compile(r"(?P<subject>sub-[^_./]+)", re.I),
)
SESSION = re.compile(
    r"(?:^|[._-])(?P<session>(?:ses|session|visit|scan|run|tp|mr|v)[._-]?\d+|(?:19|20)\d{6}|"
    r"baseline|follow-?up\d*)(?=$|[._-])",
    re.I,
)
# Words for a kind of picture, which name no person.
KIND = re.compile(
    r"(?:^|[._-])(?:slices?|axial|coronal|sagittal|images?|img|im|frame|z|mri|scan|vol|volume|raw|"
    r"anat|mpr|mprage|t1w?|t2w?|t1ce|flair|pd|nifti|png|jpg|data)(?=$|[._-]|\d+$)",
    re.I,
)
SUFFIXES = re.compile(r"(?:\.(?:nii|gz|nifti|png|jpe?g|hdr|img))+$", re.I)
SPLIT_FOLDER = re.compile(
    r"(?:.*[_-])?(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id(?:at(?:e|ion))?)?|dev)|"
    r"(?P<test>test(?:ing)?))",
    re.I,
)


def compile_pattern(text: str) -> re.Pattern | None:
    """Returns `--subject-pattern` compiled; `None` for `""`.

    Raises:
        DatasetError: If it is no regular expression, or has no group `subject`.
    """
    if not text:
        return None
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise DatasetError(f"--subject-pattern {text!r}: {error}") from error
    if "subject" not in pattern.groupindex:
        raise DatasetError(
            f"--subject-pattern {text!r}: expected a group (?P<subject>...), and optionally "
            "(?P<session>...) and (?P<index>...)"
        )
    return pattern


def names_in_path(
    relative: str | PurePath, pattern: re.Pattern | None = None, volume: bool = False
) -> tuple[str, str, int | None, str]:
    """Returns what the path of a file says about it.

    Slices of one person must never count as two persons, or the split by subject would leak. If a
    name can be read either way, it counts as one person: a folder is a person, and a number at the
    end of a picture's name is the number of a slice.

    Args:
        relative: Path of the file, relative to the source's folder.
        pattern: Compiled regular expression with the group `subject`, and optionally `session`
            and `index`, searched in the path.
        volume: Whether the file is a volume. A number at the end of its name then belongs to the
            subject.

    Returns:
        Subject, session (or `""`), slice number (or `None`) and split (or `""`).

    Raises:
        DatasetError: If `pattern` does not match, or finds no subject.
    """
    relative = PurePath(relative)
    folders = relative.parts[:-1]
    stem = SUFFIXES.sub("", relative.name)
    if pattern is not None:
        match = pattern.search(relative.as_posix())
        if not match or not match["subject"]:
            raise DatasetError(
                f"{relative}: --subject-pattern {pattern.pattern!r} finds no subject in it. "
                "Correct the pattern, or take the file out of the folder"
            )
        found = match.groupdict()
        subject, session, index = found["subject"], found.get("session"), found.get("index")
    else:
        subject, rest = _known(stem, folders) or _general(stem, folders, volume)
        session = _session(stem, folders)
        index = None if volume else _last_number(rest)
    number = int(index) if index and index.isdecimal() and len(index) < 10 else None
    inner_first = map(SPLIT_FOLDER.fullmatch, reversed(folders))
    split = next((match.lastgroup for match in inner_first if match), None)
    return subject, session or "", number, split or ""


def _known(stem: str, folders: Sequence[str]) -> tuple[str, str] | None:
    """Returns the subject in a known style and the rest of the stem, or `None`."""
    for text in (stem, *reversed(folders)):
        for known in KNOWN_NAMES:
            if match := known.search(text):
                subject = match["subject"]
                capital = subject.upper().startswith("OAS") or "_S_" in subject.upper()
                subject = subject.upper() if capital else subject.lower()
                return subject, stem[match.end() :] if text is stem else stem
    return None


def _general(stem: str, folders: Sequence[str], volume: bool) -> tuple[str, str]:
    """Returns the subject of any other name, and the stem without its session."""
    plain = SESSION.sub("_", stem)
    persons = [_person(folder) for folder in folders if not SPLIT_FOLDER.fullmatch(folder)]
    if any(persons):
        return next(filter(None, persons)), plain  # the outermost: visits lie inside
    name = _person(plain)
    subject = name if volume else re.sub(r"[._ (-]*\d+[)]?$", "", name).strip("._- ")
    return subject or name or stem, plain


def _person(name: str) -> str:
    """Returns a name without session and kind of picture."""
    return KIND.sub("_", SESSION.sub("_", name)).strip("._- ")


def _session(stem: str, folders: Sequence[str]) -> str | None:
    """Returns the innermost session that a path names, or `None`."""
    for text in (stem, *reversed(folders)):
        for known in KNOWN_NAMES[:2]:
            if (match := known.search(text)) and match["session"]:
                return match["session"].upper().replace("_D", "_d")
        if match := SESSION.search(text):
            return match["session"]
    return None


def _last_number(text: str) -> str | None:
    """Returns the digits at the end of a name, without session and kind of picture."""
    match = re.search(r"(\d+)\)?_*$", KIND.sub("_", SESSION.sub("_", text)))
    return match[1] if match else None
