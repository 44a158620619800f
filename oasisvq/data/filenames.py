"""Who a file shows, and what: person, session, slice number, split and kind, from its path."""

import collections
import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from oasisvq.core.errors import DatasetError

START, END = r"(?:^|(?<=[._ ()-]))", r"(?=$|[._ ()-])"  # of a word in a name


def _words(pattern: str) -> re.Pattern:
    """Returns a regular expression that finds whole words of a name."""
    return re.compile(f"{START}(?:{pattern}){END}", re.I)


# Names of persons that are known wherever they stand in a path: OASIS, ADNI, IXI, BraTS, BIDS, …
KNOWN_NAMES = [
    re.compile(pattern, re.I)
    for pattern in (
        r"(?P<subject>OAS[12]_\d{4})(?:_(?P<session>MR\d+))?",
        r"(?:sub-)?(?P<subject>OAS3\d{4})(?:_(?P<session>MR_d\d+))?",
        r"(?P<subject>\d{3}_S_\d{4,5})",
        r"(?P<subject>IXI\d{3})",
        r"(?P<subject>BraTS\d*(?:[-_][A-Z]{2,5})?[-_]\d{3,5})(?:-(?P<session>\d{3})(?!\d))?",
        r"(?P<subject>case_\d+)",
        r"(?P<subject>sub-[^_./]+)",
    )
]
YEAR, MONTH, DAY = r"(?:19|20)\d\d", r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
TIME = r"(?:[-_T ]?\d\d[-_:.]?\d\d[-_:.]?\d\d(?:\.?\d+)?)?"
SESSION = _words(
    r"(?P<session>ses-[a-z0-9]+|"
    r"(?:ses|session|visit|scan|tp|timepoint|mr|v|m(?=\d\d)|d(?=\d\d\d)|month|year|wave|day|week)"
    r"[._ -]?\d+|"
    rf"{YEAR}(?P<mark>[-_.]?){MONTH}(?P=mark){DAY}{TIME}|{DAY}[-.]{MONTH}[-.]{YEAR}|"
    r"baseline|bl|screening|follow-?up[._ -]?\d*|fu[._ -]?\d+|(?:re)?test(?=$|[._-]))"
)
REPEAT = _words(r"(?P<repeat>(?:run|mpr|rep|repeat|take)[._ -]?\d+|repeat|S\d{3,6}|I\d{4,8})")
AUGMENTED = _words(
    r"(?:aug|augment|augmented|[hv]?flip|flipped|mirror|mirrored|rot|rotate|rotated|shifted|noisy|"
    r"elastic|copy)[._ -]?-?\d*"
)
# Words that name a kind of image or a label map, not a person.
CONTRAST = (
    r"t1|t1w|t2|t2w|t2star|t2f|t1ce|t1c|t1n|t1gd|flair|pd|pdw|mprage|mp-?rage|spgr|swi|dwi|adc|"
    r"bold|asl|cbf|fa|md|pet|ct|angio|mra|inplanet2|unit1"
)
LABELS = (
    r"seg\d*|segs|segm|segmentations?|aseg|dseg|pseg|fseg|probseg|labels?|labelmap|lbl|masks?|"
    r"ribbon|pve\w*|pves|parc|parcellations?|aparc(?:\+aseg)?|wmparc|tissues?|roi|lesions?|annot|"
    r"[lr]h|warp|warps|warpfield|xfm|transforms?|trans|jacobian|displacement|deformation|"
    r"m?wc[1-6]|m?wp[0-3]|gm|wm|csf|filled"
)
IMAGES = (
    r"slices?|axial|axl|ax|tra|transversal|coronal|cor|sagittal|sag|images?(?:tr|ts)?|img|im|"
    r"frame|z|mri|"
    r"scan|vol|volume|raw|anat|mpr|nifti|nii|png|jpe?g|dicom|data|dataset|brains?|orig|norm|"
    r"aligned|preproc|stripped|skullstripped"
)
KIND = re.compile(rf"(?:^|[._ -])(?:{CONTRAST}|{LABELS}|{IMAGES})(?=$|[._ ()-]|\d+$)", re.I)
KIND_OF_VOLUME = re.compile(rf"(?:^|[._ -])(?:{CONTRAST}|{LABELS}|{IMAGES})\d*{END}", re.I)
CONTRAST_WORD = _words(CONTRAST)
LABEL_WORD = _words(LABELS)
PLANES = {
    "axial": _words(r"axial|axl|ax|tra|transversal|transverse"),
    "coronal": _words(r"coronal|cor"),
    "sagittal": _words(r"sagittal|sag"),
}
SUFFIXES = re.compile(r"(?:\.(?:nii|gz|mg[hz]|nifti|png|jpe?g|tiff?|hdr|img))+$", re.I)
SPLIT_FOLDER = re.compile(
    r"(?!sub-|ses-)(?:.*[ _-])?(?:(?P<train>train(?:ing)?)|"
    r"(?P<validation>val(?:id(?:at(?:e|ion))?)?|dev)|(?P<test>test(?:ing)?))"
    r"(?:[ _-]?(?:set|data))?",
    re.I,
)
# Words of folders that say what somebody has, not who somebody is.
CLASS_WORD = re.compile(
    r"class|group|label|diagnosis|[es]?ad|ftd|[pd]lb|pd|als|ms|nc|cn|hc|ctrls?|[el]?mci|smc|scz?|asd|"
    r"adhd|td|bd|mdd|very|no|non|not|mild|moderate|severe|early|late|cdr|possible|probable|healthy|"
    r"normals?|cognitive(?:ly)?|alzheimer'?s?|parkinson'?s?|brain|glioma|meningioma|pituitary|with|"
    r"without|diseased?|positive|negative|young|old|elderly|male|female|men|women|patients?|"
    r"controls?|impair(?:ed|ment)|dementia|verymild|tumou?rs?|"
    r"(?:non|very)?(?:mild|moderate)?dem(?:ented)?|cancer|stroke|schizophrenia|autism|depression|epilepsy|lesions?|cases|subjects|yes|stable|"
    r"converters?|converted|progressive|and|vs",
    re.I,
)
NOBODY = re.compile(r"sub|subj|subject|pat|patient|person|case|participant|volunteer|id|p|s", re.I)
PERSON_WORD = re.compile(
    r"(?:sub|subj|subject|pat|patient|person|case|participant|volunteer|id)[ ._-]?\w*\d", re.I
)


@dataclasses.dataclass(frozen=True)
class Names:
    """Who and what a file shows, as far as its path says so.

    Attributes:
        subject: The person; `""` if the path names nobody.
        session: The visit, or `""`.
        index: The number of a slice, or `None`.
        split: `"train"`, `"validation"`, `"test"` or `""`.
        repeat: Which of several scans of one session, or `""`.
        group: The class folders that it lies in, or `""`.
        kind: What remains of the file's name: the kind of image, or `""`.
        augmented: Whether the name is that of an augmented copy.
    """

    subject: str
    session: str = ""
    index: int | None = None
    split: str = ""
    repeat: str = ""
    group: str = ""
    kind: str = ""
    augmented: bool = False


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


def is_wanted(path: PurePath, config: Any) -> bool:
    """Tells whether `--include` and `--exclude` want a path, by itself, its name or a folder."""
    names = [path.as_posix(), path.name, *map(str, path.parents)]

    def matches(globs: Iterable[str]) -> bool:
        return any(fnmatch.fnmatchcase(name, glob) for glob in globs for name in names)

    return (not config.include or matches(config.include)) and not matches(config.exclude)


def names_in_path(
    relative: str | PurePath, pattern: re.Pattern | None = None, volume: bool = False
) -> Names:
    """Returns what the path of a single file says, see `read_names`."""
    return read_names([PurePath(relative)], pattern, [volume])[0]


def read_names(
    paths: Sequence[PurePath], pattern: re.Pattern | None, volumes: Sequence[bool]
) -> list[Names]:
    """Returns what the paths of a folder's files say of each.

    Slices of one person must never pass for those of two, or the split by person would leak. Where
    a name can be read either way, it counts as one: a folder is a person unless it is known for a
    class, a split or a wrapper, and a number at the end of a picture's name is a slice's.

    Args:
        paths: Paths of the files, relative to the source's folder.
        pattern: Compiled regular expression with the group `subject`, and optionally `session` and
            `index`, searched in each path. Default: the names are understood without.
        volumes: Whether each file is a volume: a number at the end of its name is then part of the
            person's.

    Raises:
        DatasetError: If `pattern` does not match, or finds no subject.
    """
    drafts = [_Draft(path, volume) for path, volume in zip(paths, volumes, strict=True)]
    if pattern is not None:
        return [_by_pattern(draft, pattern) for draft in drafts]
    unknown = [draft for draft in drafts if not draft.known]
    _take_off_kinds([draft for draft in unknown if draft.volume])
    _choose_persons(unknown)
    return [draft.names() for draft in drafts]


class _Draft:
    """A path taken apart.

    Attributes:
        folders: The names of its folders, outermost first.
        stem: The file's name without suffixes.
        known: The match of a known name of a person and the depth of its folder, or `()`.
        rest: The stem without session, repeat and known name.
        parts: Lists of what may be the person, outermost first: the depth of a folder, or of the
            file, and its name without session and kind.
        person: The depth of the person's folder, or of the file.
        subject: The person.
        groups: The class folders.
    """

    def __init__(self, relative: PurePath, volume: bool):
        self.relative, self.volume = relative, volume
        self.folders = list(relative.parts[:-1])
        self.stem = SUFFIXES.sub("", relative.name) or relative.name
        self.known, self.groups = _find_known([*self.folders, self.stem]), []
        self.rest = self.stem
        self.subject, self.person = "", len(self.folders)
        if self.known:
            match, self.person = self.known
            subject = match["subject"]
            capital = re.match(r"OAS|\d{3}_S|IXI", subject, re.I)
            self.subject = subject.upper() if capital else subject.lower()
            spelled = re.compile(re.escape(match[0]), re.I)
            self.rest = spelled.sub("_", spelled.sub("_", self.stem))
            self.rest = re.sub(re.escape(subject), "_", self.rest, flags=re.I)
        self.rest = _without(self.rest, SESSION, REPEAT, AUGMENTED)
        name = person_part(self.rest, volume)
        if not volume:
            name = re.sub(r"[._ (-]*\d+[)]?$", "", name).strip("._- ")
        if NOBODY.fullmatch(name) or is_class(name) or re.fullmatch(r"\d+ ?\(\d+\)", self.stem):
            name = ""  # `patient07`, `mildDem12` and `26 (19)` may each be anybody
        folders = [
            (depth, person_part(_without(folder, SESSION, REPEAT), volume))
            for depth, folder in enumerate(self.folders)
            if not SPLIT_FOLDER.fullmatch(folder)
        ]
        self.parts = [part for part in folders if part[1]] + [(len(self.folders), name)]

    def names(self) -> Names:
        """Returns the names that were found."""
        texts = [self.stem, *reversed(self.folders)]
        last = re.search(r"(\d+)\)?[_ ]*$", KIND.sub("_", self.rest))
        number = last[1] if last and not self.volume and len(last[1]) < 10 else None
        kind = "_".join(self.rest.rpartition(number)[::2]) if number else self.rest
        if not self.known:
            kind = kind.replace(self.subject, "_", 1) if self.subject else kind
        return Names(
            subject=self.subject,
            session=_session(texts),
            index=int(number) if number else None,
            split=self._split(),
            repeat=_first(REPEAT, "repeat", texts[:2]),
            group=next(reversed(self.groups or self._class_folders()), ""),
            kind=re.sub(r"[._ -]+", "_", kind).strip("_() "),
            augmented=AUGMENTED.search(self.stem) is not None,
        )

    def _split(self) -> str:
        """Returns the ready-made split: a folder inside a person's is a session, not a split."""
        above = self.folders[: self.person]
        matches = filter(None, map(SPLIT_FOLDER.fullmatch, reversed(above)))
        return next((match.lastgroup or "" for match in matches), "")

    def _class_folders(self) -> list[str]:
        return [name for name in self.folders[: self.person] if is_class(name)]


def _find_known(texts: list[str]) -> tuple:
    """Returns the innermost match of a known name in a path, and its depth; or `()`."""
    for depth in range(len(texts) - 1, -1, -1):
        for known in KNOWN_NAMES:
            if match := known.search(texts[depth]):
                return match, depth
    return ()


def _without(name: str, *words: re.Pattern) -> str:
    """Returns a name with some words taken out."""
    for word in words:
        name = word.sub("_", name)
    return name


def person_part(name: str, volume: bool) -> str:
    """Returns what is left of a name without the kind of image."""
    kind, before = KIND_OF_VOLUME if volume else KIND, None
    while before != name:
        before, name = name, kind.sub("_", name)
    return re.sub(r"_{2,}", "_", name).strip("._- ")


def is_class(folder: str) -> bool:
    """Tells whether a folder's name is known for a class, as `AD` or `Non Demented`."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", folder)
    return all(CLASS_WORD.fullmatch(word) for word in re.split(r"[ _.,&+-]+", words))


def _first(word: re.Pattern, group: str, texts: Iterable[str]) -> str:
    """Returns a group of the first match of a word in some texts; `""` without a match."""
    return next((match[group] for text in texts if (match := word.search(text))), "") or ""


def _session(texts: Iterable[str]) -> str:
    """Returns the session that a path names, the innermost first; or `""`."""
    for number, text in enumerate(texts):
        if number and SPLIT_FOLDER.fullmatch(text):
            continue
        for known in KNOWN_NAMES:
            match = known.search(text)
            if match and "session" in known.groupindex and match["session"]:
                return match["session"].upper().replace("_D", "_d")
        if match := SESSION.search(text):
            return match["session"]
    return ""


def _by_pattern(draft: _Draft, pattern: re.Pattern) -> Names:
    """Returns the names that `--subject-pattern` finds in a path."""
    match = pattern.search(draft.relative.as_posix())
    if not match or not match["subject"]:
        raise DatasetError(
            f"{draft.relative}: --subject-pattern {pattern.pattern!r} finds no subject in it. "
            "Change the pattern, or leave the file out with --exclude"
        )
    found, names = match.groupdict(), draft.names()
    session, index = found.get("session"), found.get("index")
    number = int(index) if index and index.isdecimal() and len(index) < 10 else None
    kind = "" if found.get("index") or not draft.volume else names.kind
    return dataclasses.replace(
        names, subject=found["subject"], session=session or "", index=number, kind=kind
    )


def _take_off_kinds(drafts: list[_Draft]) -> None:
    """Takes off the last words of volumes' names that recur behind several persons.

    `P01_orig` and `P01_preproc` beside `P02_orig` and `P02_preproc` are two persons, not four.
    """
    while True:
        tails = collections.defaultdict(set)
        for draft in drafts:
            depth, name = draft.parts[-1]
            if match := re.search(r"^(.*\d.*)[._ -]([a-z][a-z+]*\d?|0\d{3})$", name, re.I):
                tails[match[1]].add((match[2], depth))
        several = [head for head, words in tails.items() if len(words) > 1]
        words = collections.Counter(word for head in several for word, _ in tails[head])
        common = {word for word, count in words.items() if count >= max(2, len(tails) // 3)}
        changed = False
        for draft in drafts:
            depth, name = draft.parts[-1]
            head, mark, tail = re.findall(r"(.*?)([._ -]?)([^._ -]*)$", name, re.S)[0]
            if mark and tail in common and head:
                draft.parts[-1] = depth, head
                changed = True
        if not changed:
            return


def _choose_persons(drafts: list[_Draft]) -> None:
    """Decides which part of each path is the person, level by level of the folders."""
    open_drafts = [(draft, list(draft.parts)) for draft in drafts]
    while open_drafts:
        inner = collections.defaultdict(set)
        for _, parts in open_drafts:
            if len(parts) > 1:
                inner[parts[0][1]].update(part for _, part in parts[1:2] if _tells_persons(part))
        groups = _groups(inner)
        remaining = []
        for draft, parts in open_drafts:
            if len(parts) > 1 and parts[0][1] in groups:
                if len(inner) > 1 or is_class(parts[0][1]):
                    draft.groups.append(draft.folders[parts[0][0]])
                remaining.append((draft, parts[1:]))
            else:
                draft.person, draft.subject = parts[0]
                letters = re.search(r"[a-z]", draft.subject, re.I)
                if draft.volume and not letters and not draft.groups:
                    draft.subject = _numbered(draft.rest) or draft.subject
        open_drafts = remaining


def _numbered(name: str) -> str:
    """Returns a name up to its last number: `brain_1_T1w` is of `brain_1`; `""` without one."""
    found = re.match(r".*?\d+(?=\D*$)", CONTRAST_WORD.sub("_", name))
    return found[0].strip("._- ") if found else ""


def _tells_persons(part: str) -> bool:
    """Tells whether a name may tell persons apart: a short number may as well be a series'."""
    return bool(re.search(r"[a-z]", part, re.I) or re.search(r"\d{5}", part))


def _groups(inner: dict[str, set[str]]) -> set[str]:
    """Returns which folders of one level are classes or wrappers, not persons.

    Args:
        inner: Of each folder, the names right inside that may be persons'.
    """
    groups = {name for name in inner if is_class(name)}
    others = {name: parts for name, parts in inner.items() if name not in groups}
    several = [parts for parts in others.values() if len(parts) > 1]
    names = [part for parts in several for part in parts]
    if not several or 2 * len(several) < len(others):
        return groups
    spelled = sum(bool(PERSON_WORD.fullmatch(name)) for name in names) > len(names) / 2
    numbered = sum(bool(re.search(r"\d", name)) for name in names) > len(names) / 2
    disjoint = len(set(names)) == len(names)
    few = len(others) <= 10 and len(several) == len(others)
    wordy = len(others) == 1 or not any(re.search(r"\d", name) for name in others)
    if spelled or (numbered and disjoint and few and wordy):
        groups |= set(others)
    return groups
