"""Who a file shows: subject, session, slice number and ready-made split, from its path."""

import re
from pathlib import PurePath

from oasisvq.core.errors import DatasetError

# Names that say who, wherever they stand in the path: OASIS, ADNI, case_441 and the like, BIDS.
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
# What names a kind of picture, not a person.
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


def names_in_path(relative, pattern=None, volume=False):
    """Reads a path below the source's folder.

    Slices of one person must never pass for those of two, or the split by
    subject would leak. Where a name can be read either way, it counts as one:
    a folder is a person, whatever lies in it, and a number at the end of a
    picture's name is a slice's.

    Args:
        relative: Path of the file, relative to the source's folder.
        pattern: Compiled regular expression with the group `subject`, and
            optionally `session` and `index`, searched in the path.
        volume: Whether the file is a volume: a number at the end of its name
            is then part of the subject's.

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
                "Mend the pattern, or take the file out of the folder"
            )
        found = match.groupdict()
        subject, session, index = found["subject"], found.get("session"), found.get("index")
    else:
        subject, rest = _known(stem, folders) or _general(stem, folders, volume)
        session = _session(stem, folders)
        index = None if volume else _last_number(rest)
    index = int(index) if index and index.isdecimal() and len(index) < 10 else None
    return subject, session or "", index, _split(folders)


def _known(stem, folders):
    """The subject in a known style, and what of the stem lies behind it; or `None`."""
    for text in (stem, *reversed(folders)):
        for known in KNOWN_NAMES:
            match = known.search(text)
            if match:
                subject = match["subject"]
                loud = subject.upper().startswith("OAS") or "_S_" in subject.upper()
                subject = subject.upper() if loud else subject.lower()
                return subject, stem[match.end() :] if text is stem else stem
    return None


def _general(stem, folders, volume):
    """The subject of any other name, and the stem without its session."""
    plain = SESSION.sub("_", stem)
    persons = [_person(folder) for folder in folders if not SPLIT_FOLDER.fullmatch(folder)]
    persons = [person for person in persons if person]
    if persons:
        return persons[0], plain  # the outermost: visits lie inside
    name = _person(plain)
    subject = name if volume else re.sub(r"[._ (-]*\d+[)]?$", "", name).strip("._- ")
    return subject or name or stem, plain


def _person(name):
    """What is left of a name without session and kind of picture."""
    return KIND.sub("_", SESSION.sub("_", name)).strip("._- ")


def _session(stem, folders):
    for text in (stem, *reversed(folders)):
        for known in KNOWN_NAMES[:2]:
            match = known.search(text)
            if match and match["session"]:
                return match["session"].upper().replace("_D", "_d")
        match = SESSION.search(text)
        if match:
            return match["session"]
    return None


def _last_number(text):
    match = re.search(r"(\d+)\)?_*$", KIND.sub("_", SESSION.sub("_", text)))
    return match[1] if match else None


def _split(folders):
    for folder in reversed(folders):
        match = SPLIT_FOLDER.fullmatch(folder)
        if match:
            return match.lastgroup
    return ""
