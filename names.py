"""Who a file shows: subject, session, slice number and ready-made split, from its path."""

import re
from pathlib import PurePath

from errors import DatasetError

# Names that say who, wherever they stand in the path.
KNOWN_NAMES = (
    re.compile(r"(?P<subject>OAS[12]_\d{4})(?:_(?P<session>MR\d+))?", re.I),
    re.compile(r"(?P<subject>case_\d+)", re.I),
    re.compile(r"(?P<subject>sub-[^_./]+)", re.I),
)
SESSION = re.compile(
    r"(?:^|[._-])(?P<session>(?:ses|session|visit|scan|run|tp|mr)[._-]?\d+)(?=$|[._-])", re.I
)
# "patient_12_slice_003": a number at the end, with something between it and the subject.
NUMBERED = re.compile(
    r"(?P<subject>.*?)(?:[._-]+(?:slice|sl|z|im|img)?[._-]*|slice[._-]*)(?P<index>\d+)", re.I
)
# What names a kind of picture, not a person: look at the folder above instead.
NOBODY = re.compile(
    r"(?:(?:slices?|axial|coronal|sagittal|images?|img|im|brains?|raw|anat|mpr|mprage|t1w?|t2w?|"
    r"flair|pd|nifti|png|jpg|data|\d*)[._-]*)*",
    re.I,
)
MODALITY = re.compile(r"[._-](?:t1|t2|t1w|t2w|t1ce|flair|pd)$", re.I)
SUFFIXES = re.compile(r"(?:\.(?:nii|gz|nifti|png|jpe?g|hdr|img))+$", re.I)
SPLIT_FOLDER = re.compile(
    r"(?:.*[_-])?(?:(?P<train>train(?:ing)?)|(?P<validation>val(?:id(?:at(?:e|ion))?)?|dev)|"
    r"(?P<test>test(?:ing)?))",
    re.I,
)


def names_in_path(relative, pattern=None):
    """Reads a path below the source's folder.

    Slices of one person must never pass for those of two, or the split by
    subject would leak; where a name may be read either way, they count as one.

    Args:
        relative: Path of the file, relative to the source's folder.
        pattern: Compiled regular expression with the group `subject`, and
            optionally `session` and `index`, searched in the path.

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
        subject, session, index = _known(stem, folders) or _general(stem, folders)
    index = int(index) if index and index.isdecimal() and len(index) < 10 else None
    return subject, session or "", index, _split(folders)


def _known(stem, folders):
    """Subject, session and number of names in a known style, or `None`."""
    for text in (stem, *reversed(folders)):
        for known in KNOWN_NAMES:
            match = known.search(text)
            if match:
                oasis = "session" in match.groupdict()
                subject = match["subject"].upper() if oasis else match["subject"]
                session = match["session"].upper() if oasis and match["session"] else None
                rest = stem[match.end() :] if text is stem else stem
                return subject, session or _session(rest, folders), _last_number(rest)
    return None


def _general(stem, folders):
    """Subject, session and number of any other name."""
    session = _session(stem, folders)
    plain = MODALITY.sub("", SESSION.sub("", stem))
    match = NUMBERED.fullmatch(plain)
    subject, index = (match["subject"], match["index"]) if match else (plain, None)
    if NOBODY.fullmatch(subject):
        persons = [
            folder
            for folder in folders
            if folder.isdecimal()
            or not (NOBODY.fullmatch(folder) or SPLIT_FOLDER.fullmatch(folder))
        ]
        index = index or _last_number(plain)
        subject = SESSION.sub("", persons[-1]) if persons else subject or stem
    return subject, session, index


def _session(stem, folders):
    for text in (stem, *reversed(folders)):
        match = SESSION.search(text)
        if match:
            return match["session"]
    return None


def _last_number(text):
    match = re.search(r"\d+$", SESSION.sub("", text))
    return match[0] if match else None


def _split(folders):
    for folder in reversed(folders):
        match = SPLIT_FOLDER.fullmatch(folder)
        if match:
            return match.lastgroup
    return ""
