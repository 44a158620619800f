"""Who a file shows, and what: person, session, slice number, split and kind, from its path."""

import collections
import dataclasses
import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from oasisvq.core.errors import DatasetError
from oasisvq.data.name_fields import (
    find_slice_fields,
    may_be_person,
    part_joined_visits,
    scan_tails,
    visits_in_front,
)
from oasisvq.data.name_words import (
    AUGMENTED,
    BESIDE_CLASS,
    BESIDE_NAME,
    CHANNEL,
    CLASS_WORD,
    COLLECTION,
    CONTRAST_WORD,
    COPY_OF,
    DOWNLOAD,
    FOLLOW_UP,
    IMAGE_FOLDER,
    JOINED,
    KIND,
    KIND_OF_VOLUME,
    KNOWN_NAMES,
    LABEL_FOLDER,
    LABEL_WORD,
    MADE_UP,
    NOBODY,
    NUMBER_AT_END,
    NUMBERED_CLASS,
    PERSON_WORD,
    PLACE,
    REPEAT,
    S_AND_NUMBER,
    SERIES,
    SESSION,
    SLICE,
    SLICE_BEFORE_PERSON,
    SLICE_IN_FRONT,
    SPLIT_FOLDER,
    SPLIT_PREFIX,
    SUFFIXES,
    TEMPLATE,
    UPLOAD,
    YEAR_MONTH,
)

MOST_SERIES = 9  # numbered folders in a person's; more are persons
MOST_VISITS = 12  # larger numbers are slices', but for those of months
LEAST_NAMELESS = 5  # pictures in a class folder, all of one name, which is the class's


@dataclasses.dataclass(frozen=True)
class Names:
    """Who and what a file shows, as far as its path says so.

    Attributes:
        subject: The person; `""` if the path names nobody.
        session: The visit, or `""`.
        index: The number of a slice, or `None`.
        split: `"train"`, `"validation"`, `"test"` or `""`.
        repeat: Which of several scans of one session, or `""`.
        group: The innermost class folder that it lies in, or `""`.
        kind: What remains of the file's name: the kind of image, or `""`.
        augmented: Whether the name is that of an augmented copy.
        guessed: Whether the session may be none: it is a number that recurs behind several persons'
            names, or the `S01` of `Leiden_S01`, which may be a person.
    """

    subject: str
    session: str = ""
    index: int | None = None
    split: str = ""
    repeat: str = ""
    group: str = ""
    kind: str = ""
    augmented: bool = False
    guessed: bool = False


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

    def matches(globs: Iterable[str]) -> bool:
        return any(matches_glob(path, glob) for glob in globs)

    return (not config.include or matches(config.include)) and not matches(config.exclude)


def matches_glob(path: PurePath, glob: str) -> bool:
    """Tells whether a glob fits a path, its name, or the path or name of one of its folders."""
    names = [path.as_posix(), *map(str, path.parents), *path.parts]
    return any(fnmatch.fnmatchcase(name.lower(), glob.lower()) for name in names)


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
    pairs = list(zip(paths, volumes, strict=True))
    if pattern is not None:
        return [_by_pattern(_Draft(path, volume), pattern) for path, volume in pairs]
    parted = part_joined_visits(name for path in paths for name in _names_of(path))
    drafts = [
        _Draft(PurePath(*(parted[name] for name in _names_of(p))), volume) for p, volume in pairs
    ]
    unknown = [draft for draft in drafts if not draft.known]
    _keep_who_is_called_like_a_session(unknown)
    _read_numbers_at_ends(unknown)
    _find_slices_amid_names(drafts)
    _find_copies(unknown)
    _take_off_fronts(unknown)
    _take_off_tails(unknown)
    _choose_persons(unknown)
    _take_off_visits(unknown)
    _forget_names_of_classes(unknown)
    _give_copies_their_persons(unknown)
    _spell_alike(drafts)
    return [draft.names() for draft in drafts]


class _Draft:
    """A path taken apart.

    Attributes:
        folders: The names of its folders, outermost first.
        stem: The file's name without suffixes.
        known: The match of a known name of a person and the depth of its folder, or `()`.
        rest: The stem without session, repeat and known name.
        number: The digits of the slice's number, or `""`.
        counted: The rest with that number, where it is known from a word beside it, or `""`.
        tail: Words that were taken off the name, because they recur behind several persons.
        session: A session that no word tells: a folder that holds persons who are in others too.
        parts: Lists of what may be the person, outermost first: the depth of a folder, or of the
            file, and its name without session and kind.
        person: The depth of the person's folder, or of the file.
        subject: The person.
        groups: The class folders.
        augmented: Whether it is a changed copy of another file.
    """

    def __init__(self, relative: PurePath, volume: bool):
        self.relative, self.volume = relative, volume
        self.folders = [_join_year_and_month(_without_suffix(n)) for n in relative.parts[:-1]]
        plain = UPLOAD.sub("", _without_suffix(relative.name))
        plain = _join_year_and_month(plain) if volume else plain
        self.stem = BESIDE_NAME.sub("", COPY_OF.sub("", plain))
        words = [self.stem, *map(_words_apart, self.folders)]
        self.augmented = any(map(AUGMENTED.search, words)) or bool(COPY_OF.match(plain))
        if volume:
            self.stem = DOWNLOAD.sub("", self.stem)
        else:  # what is behind a follow-up is the slice, not a second follow-up
            self.stem = FOLLOW_UP.sub(r"\g<visit>__", JOINED.sub("_", self.stem))
        self.known, self.groups = _find_known([*self.folders, self.stem]), []
        self.rest, self.number, self.tail, self.session = self.stem, "", "", ""
        self.subject, self.person, self.counted = "", len(self.folders), ""
        if self.known:
            self._take_known_name()
        else:
            self.rest = SPLIT_PREFIX.sub("", self.rest)
        if volume and any(map(IMAGE_FOLDER.fullmatch, self.folders)):
            self.rest = CHANNEL.sub("", self.rest)
        self.rest = _without(self.rest, SESSION, REPEAT, AUGMENTED)
        if not volume and not self.known:
            self._find_slice()
        parts = [
            (depth, _part_of_folder(folder, volume) or self._subject_folder(depth))
            for depth, folder in enumerate(self.folders)
            if not any(w.fullmatch(folder) for w in (SPLIT_FOLDER, LABEL_FOLDER, AUGMENTED))
            and person_part(_words_apart(folder), volume)  # else a wrapper, `OriginalDataset`
            and not self._wraps(depth)
        ]
        self.parts = [part for part in parts if part[1]]
        self.parts.append((len(self.folders), self._who()))

    def _subject_folder(self, depth: int) -> str:
        """Returns a folder `S01` that holds `S01_T1` or the like, and so is no visit; or `""`."""
        folder, inner = self.folders[depth], [*self.folders, self.stem][depth + 1]
        inside = inner.startswith(tuple(folder + mark for mark in "._ -"))
        return folder if inside and S_AND_NUMBER.fullmatch(folder) else ""

    def _wraps(self, depth: int) -> bool:
        """Tells whether a folder holds others called like it: `OASIS-TRT-20_volumes`."""
        match, inner = COLLECTION.fullmatch(self.folders[depth]), self.folders[depth + 1 :]
        return bool(match and inner and inner[0].startswith(match["name"]))

    def _take_known_name(self) -> None:
        """Takes the person from a known name, which is no part of the rest."""
        match, self.person = self.known
        subject = match["subject"]
        capital = re.match(r"OAS|\d{3}_S|IXI", subject, re.I)
        self.subject = subject.upper() if capital else subject.lower()
        whole = re.compile(re.escape(match[0]), re.I)
        self.rest = whole.sub("_", whole.sub("_", self.stem))
        self.rest = re.sub(re.escape(subject), "_", self.rest, flags=re.I)

    def _find_slice(self) -> None:
        """Finds the number of a slice where it is not at the end of a picture's name."""
        for word in (SLICE, SLICE_BEFORE_PERSON):
            match = word.search(self.rest)
            if match and not self._is_person_in_front(match):
                self.number = next(filter(None, match.groups()))
                before, behind = self.rest[: match.start()], self.rest[match.end() :]
                self.rest, self.counted = f"{before}_{behind}", f"{before}_{self.number}_{behind}"
                return

    def _is_person_in_front(self, match: re.Match) -> bool:
        """Tells whether `Y01` at the start of a name is a person: no other one is behind it."""
        if match.start() or not SLICE_IN_FRONT.match(match[0]):
            return False
        behind = person_part(self.rest[match.end() :], self.volume)
        named = re.search(r"[a-z]\d", behind, re.I) or PERSON_WORD.search(behind)
        return bool(re.search(r"\d", self.rest[match.end() :])) and not named

    def _who(self) -> str:
        """Returns what of the file's name may be the person."""
        series = _first(SERIES, "series", [self.stem]) if self.volume else ""
        rest = self.rest.removesuffix(series)
        protocol = CONTRAST_WORD.search(rest) if series else None
        if protocol and re.search(r"\d", rest[: protocol.start()]):
            rest = rest[: protocol.start()]
        name = person_part(rest, self.volume)
        if not self.volume and not self.number:
            name = re.sub(r"[._ (-]*\d+[)]?$", "", name).strip("._- ")
        nobody = NOBODY.fullmatch(name) or is_class(name)
        if not PERSON_WORD.match(name):
            nobody = nobody or is_class(re.sub(r"\d+", " ", name).strip())
        # `patient07`, `mildDem12` and `26 (19)` may each be anybody.
        if nobody or re.fullmatch(r"\d+ ?\(\d+\)", self.stem) or MADE_UP.fullmatch(self.stem):
            return ""
        return name

    def take_off(self, tail: str) -> None:
        """Takes the last word off what may be the person."""
        depth, name = self.parts[-1]
        self.tail = "_".join(filter(None, [tail, self.tail]))
        head = name[: -len(tail)].strip("._- ")
        if not self.volume and not self.number and not re.search(r"\d[)]?$", self.rest):
            match = re.search(r"[._ (-]*(\d+)[)]?$", head)  # the slice's number was before it
            if match and re.search(r"\d", head[: match.start()]):
                self.number, head = match[1], head[: match.start()]
        self.parts[-1] = depth, head

    def names(self) -> Names:
        """Returns the names that were found."""
        texts = [self.stem, *reversed(self.folders)]
        number, kind = self.number, self.rest
        if not number and not self.volume and not MADE_UP.fullmatch(self.stem):
            last = re.search(r"(\d+)\)?[_ ]*$", KIND.sub("_", self.rest))
            number = last[1] if last and len(last[1]) < 10 else ""
            kind = "_".join(self.rest.rpartition(number)[::2]) if number else self.rest
        if not self.known:
            whole = rf"(?<![a-z0-9]){re.escape(self.subject)}(?![a-z0-9])"
            kind = re.sub(whole, "_", kind, count=1, flags=re.I) if self.subject else kind
            kind = kind.strip("._- ").removeprefix(re.split(r"[._ -]", self.subject)[0])
        session = _session(texts)
        numbered = re.search(r"\d", self.tail) and not TEMPLATE.fullmatch(self.tail)
        if numbered and not session:
            session, kind = self.tail, kind.replace(self.tail, "_")
        repeat = _first(REPEAT, "repeat", texts[:2])
        if self.volume and (series := _first(SERIES, "series", [self.stem])):
            kind, repeat = kind.removesuffix(series), repeat or series[1:]
        if not self.volume and self.tail and not numbered:
            repeat = "_".join(filter(None, [repeat, self.tail]))
        return Names(
            subject=self.subject,
            session=session or self.session,
            index=int(number) if number else None,
            split=self._split(),
            repeat=repeat,
            group=next(reversed(self.groups or self._class_folders()), ""),
            kind=re.sub(r"[._ -]+", "_", kind).strip("_() "),
            augmented=self.augmented,
            guessed=bool(self.tail and numbered) or self._may_be_of_many(session),
        )

    def _may_be_of_many(self, session: str) -> bool:
        """Tells whether `S01` in `Leiden_S01`, read as a scan of one person, may be a person."""
        numbered = self.known or re.search(r"\d", self.subject)
        return self.volume and not numbered and bool(S_AND_NUMBER.fullmatch(session))

    def _split(self) -> str:
        """Returns the ready-made split: a folder inside a person's is a session, not a split."""
        matches = [SPLIT_FOLDER.fullmatch(name) for name in reversed(self.folders[: self.person])]
        if self.person == len(self.folders) and not self.known:
            matches.insert(0, SPLIT_PREFIX.match(self.stem))
        return next((match.lastgroup or "" for match in matches if match), "")

    def _class_folders(self) -> list[str]:
        return [name for name in self.folders[: self.person] if is_class(name)]


def _find_known(texts: list[str]) -> tuple:
    """Returns the innermost match of a known name in a path, and its depth; or `()`."""
    for depth in range(len(texts) - 1, -1, -1):
        for known in KNOWN_NAMES:
            if match := known.search(texts[depth]):
                return match, depth
    return ()


def _names_of(path: PurePath) -> list[str]:
    """Returns the names of a path's folders and file in one spelling of accented letters."""
    return [unicodedata.normalize("NFC", name) for name in path.parts]


def _without_suffix(name: str) -> str:
    """Returns a name without suffixes, unless it is nothing else."""
    return SUFFIXES.sub("", name) or name


def _join_year_and_month(name: str) -> str:
    """Returns a name in which a date without a day is one word: `2019-05` for `2019_05`."""
    return YEAR_MONTH.sub(r"\g<year>-\g<month>", name)


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


def _part_of_folder(name: str, volume: bool) -> str:
    """Returns what of a folder's name may be the person; `S01` is a visit only if it is alone."""
    name = name.removesuffix(_first(SERIES, "series", [name]))
    part = person_part(_without(f"_{name}", SESSION, REPEAT), volume)
    if part or not SESSION.search(name):
        return part
    return person_part(_without(name, SESSION, REPEAT), volume)


def is_class(folder: str) -> bool:
    """Tells whether a folder's name is known for a class, as `AD` or `1_NonDemented`."""
    if PERSON_WORD.match(folder):
        return False
    if NUMBERED_CLASS.fullmatch(folder):
        return True
    for text in (folder, _words_apart(folder)):
        words = re.split(r"[ _.,&+-]+", text)
        named = [word for word in words if not BESIDE_CLASS.fullmatch(word)] or words
        if all(map(CLASS_WORD.fullmatch, named)):
            return True
    return False


def may_name_kind(folder: str) -> bool:
    """Tells whether a folder's name may be that of a kind of image, and of nothing else."""
    words = f"_{_words_apart(folder)}"
    others = SESSION.search(words) or REPEAT.search(words) or PLACE.fullmatch(folder)
    numbered = re.search(r"\d", re.sub(r"t[12]", "", folder, flags=re.I))
    return not (others or numbered or is_class(folder) or _is_split(folder))


def _is_split(folder: str) -> bool:
    """Tells whether a folder's name says a split, and no kind before it as `x_train` does."""
    return bool(SPLIT_FOLDER.fullmatch(folder)) and not re.match(r"[xy][_-]", folder, re.I)


def _words_apart(name: str) -> str:
    """Returns a name with blanks in it where a capital begins a word: `NonDemented`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


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
        if match := SESSION.search(f"_{text}" if number else text):
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


# Rules that look at all names of a folder


def _keep_who_is_called_like_a_session(drafts: list[_Draft]) -> None:
    """Makes persons of sessions, as `scan_001`, if all volumes would be nobody's."""
    if all(draft.volume and not any(name for _, name in draft.parts) for draft in drafts):
        for draft in drafts:
            match = SESSION.search(draft.stem) or REPEAT.search(draft.stem)
            name = match[0] if match else ""
            if is_class(person_part(draft.rest, True)):  # `AD_S01` and `HC_S01` are two
                name = "_".join(filter(None, [person_part(draft.rest, True), name]))
            draft.parts[-1] = len(draft.folders), name
            draft.stem = draft.rest


def _read_numbers_at_ends(drafts: list[_Draft]) -> None:
    """Tells slices from visits in pictures' names as `P01_s90` and `P01_y4`.

    A number beside a letter for an axis is a slice's; so are numbers that are larger than visits'
    and no multiples of three months. The person keeps its number.
    """
    found = [
        (draft, match, match["word"].lower())
        for draft in drafts
        if not draft.volume and not draft.number and (match := NUMBER_AT_END.fullmatch(draft.stem))
    ]
    numbers, read = collections.defaultdict(set), set()
    for draft, match, word in found:
        numbers[word].add(int(match["number"]))
        if not draft.rest.endswith(match["number"]):
            read.add(word)  # as a visit's, or a repeat's
    slices = {
        word
        for word in read
        if word in ("x", "y", "z")
        or (max(numbers[word]) > MOST_VISITS and any(number % 3 for number in numbers[word]))
    }
    for draft, match, word in found:
        if word not in read:
            continue
        if word in slices:
            draft.rest = _without(match["who"], SESSION, REPEAT, AUGMENTED)
            draft.stem = f"{match['who']}_z{match['number']}"
        else:
            draft.rest = f"{match['who']}_"
        draft.number = match["number"]
        draft.parts[-1] = draft.parts[-1][0], draft._who()


def _find_slices_amid_names(drafts: list[_Draft]) -> None:
    """Finds the numbers of slices that are not the last word of pictures' names."""
    pictures = [draft for draft in drafts if not draft.volume and not draft.augmented]
    places = [
        (*d.folders, d.subject, _session([d.stem]), *CONTRAST_WORD.findall(d.stem))
        for d in pictures
    ]
    # A known name is no part of the rest; `p0` stands in its place as a person.
    names = [f"{'p0_' if d.known else ''}{d.counted or d.rest}" for d in pictures]
    persons = [draft.rest if draft.known else draft.parts[-1][1] for draft in pictures]
    for number, field in find_slice_fields(names, places, persons).items():
        draft = pictures[number]
        before = field.before.removeprefix("p0") if draft.known else field.before
        draft.rest = "_".join(filter(None, [before, field.behind]))
        draft.number = field.digits
        draft.parts[-1] = draft.parts[-1][0], person_part(field.person, draft.volume)
        if is_class(field.behind) and not draft._class_folders():
            draft.groups.append(field.behind)


def _take_off_fronts(drafts: list[_Draft]) -> None:
    """Takes visits off that stand before the persons, as in `V1_P01`."""
    fronts = visits_in_front(name for draft in drafts for _, name in draft.parts)
    for draft in drafts:
        for number, (depth, name) in enumerate(draft.parts):
            if name in fronts:
                draft.session, person = fronts[name]
                draft.parts[number] = depth, person
                draft.rest = draft.rest.replace(name, person)


def _find_copies(drafts: list[_Draft]) -> None:
    """Finds pictures that are called like another one with something behind it.

    `P01_10_scaled` and `P01_10 (copy)` beside `P01_10` are copies of it, whatever the word says.
    """
    plain = {(*draft.folders, draft.stem): draft for draft in drafts if not draft.volume}
    copies = []
    for draft in plain.values():
        ends = [match.start() for match in re.finditer(r"[._ -]+\(?", draft.stem)]
        heads = ((*draft.folders, draft.stem[:end]) for end in reversed(ends))
        original = next((plain[head] for head in heads if head in plain), None)
        if not original or LABEL_WORD.search(draft.stem[len(original.stem) :]):
            continue
        if re.search(r"\d", original.stem):
            copies.append((draft, original))
    if len(copies) > 1:
        for draft, original in copies:
            draft.augmented, draft.rest, draft.number = True, original.rest, original.number
            draft.parts[-1] = original.parts[-1]


def _give_copies_their_persons(drafts: list[_Draft]) -> None:
    """Gives a changed copy the person whose name its own begins with."""
    plain = {draft.subject for draft in drafts if not draft.augmented}
    for draft in drafts:
        if draft.augmented and draft.subject not in plain:
            ends = [match.start() for match in re.finditer(r"[._ -]", draft.subject)]
            heads = (draft.subject[:end] for end in reversed(ends))
            draft.subject = next((head for head in heads if head in plain), draft.subject)


def _take_off_tails(drafts: list[_Draft]) -> None:
    """Takes last words off what may be the person in files' names, see `_idle_words`."""
    while idle := _idle_words([draft.parts[-1][1] for draft in drafts]):
        for draft in drafts:
            tail = _head_and_tail(draft.parts[-1][1])[1]
            if tail in idle:
                draft.take_off(tail)


def _take_off_visits(drafts: list[_Draft]) -> None:
    """Takes last words with numbers off persons that are folders, see `_idle_words`."""
    folders = [draft for draft in drafts if draft.person < len(draft.folders)]
    names = {draft.subject for draft in folders}
    idle = _idle_words(names)
    for draft in folders:
        head, tail = _head_and_tail(draft.subject)
        if tail in idle and (head in names or re.search(r"\d", tail)):
            draft.subject, draft.tail = head, tail


def _idle_words(names: Iterable[str]) -> set[str]:
    """Returns last words that recur behind several names, and so tell no persons apart.

    `P01_1`, `P01_2`, `P02_1` and `P02_2` are two persons with two scans each, not four persons;
    `P01_orig` and `P01_bfc` are two kinds of image. If there are more of such words than names
    before them, the words are the persons: `A_001` to `A_050` and `B_001` to `B_050`.
    """
    names, heads = set(names), collections.defaultdict(set)
    for name in names:
        head, tail = _head_and_tail(name)
        if head:
            heads[head].add(tail)
    if scans := set(scan_tails(heads, names)):
        return scans
    several = {head for head, tails in heads.items() if len(tails) > 1}
    counts = collections.Counter(tail for head in several for tail in heads[head])
    common = {tail for tail, count in counts.items() if count >= max(2, len(heads) // 4)}
    numbered = sum(bool(re.search(r"\d", head)) for head in several)
    most = len(several) if 2 * numbered > len(several) else len(several) // 2
    if common and len(common) <= most:
        return common
    everything = {tail for tails in heads.values() for tail in tails}
    return everything if _say_nothing(heads, everything) else set()


def _say_nothing(heads: dict[str, set[str]], tails: set[str]) -> bool:
    """Tells whether last words tell no persons apart: one of all names, or few behind numbers."""
    if len(heads) < 2 or not all(re.search(r"\d", head) for head in heads):
        return False
    if len(tails) == 1:
        return True
    several = any(len(found) > 1 for found in heads.values())
    behind_numbers = all(re.search(r"\d{3}$", head) for head in heads)
    short = all(re.fullmatch(r"\d{1,2}", tail) for tail in tails)
    return several and behind_numbers and short and 3 * len(tails) <= 2 * len(heads)


def _head_and_tail(name: str) -> tuple[str, str]:
    """Returns what may be the person without its last word, and that word; or `"", ""`."""
    match = re.fullmatch(r"(.*[^._ -])[._ -]+([^._ -]+)", name, re.S)
    match = match or re.fullmatch(r"(.*\d)([a-z])", name, re.I | re.S)  # `P01a`
    if not match or is_class(match[1]) or NOBODY.fullmatch(match[1]):
        return "", ""
    return match[1], match[2]


def _choose_persons(drafts: list[_Draft]) -> None:
    """Decides which part of each path is the person, level by level of the folders."""
    open_drafts = [(draft, list(draft.parts)) for draft in drafts]
    while open_drafts:
        inner = collections.defaultdict(set)
        for _, parts in open_drafts:
            if len(parts) > 1:
                inner[parts[0][1]].add(parts[1][1])
        sites, visits = _sites(inner), _visits(inner)
        groups = sites | visits
        groups |= {k for k, names in inner.items() if len(names) > 1 and all(map(is_class, names))}
        if len(inner) == 1 and not groups and _is_wrapper(open_drafts):
            groups = set(inner)
        groups |= _groups({k: set(filter(_tells_persons, names)) for k, names in inner.items()})
        remaining = []
        for draft, parts in open_drafts:
            if len(parts) > 1 and parts[0][1] in groups:
                folder = draft.folders[parts[0][0]]
                if parts[0][1] in visits:
                    draft.session = folder
                if len(inner) > 1 or is_class(parts[0][1]):
                    draft.groups.append(folder)
                if parts[0][1] in sites:  # `Utrecht/0` and `Singapore/0` are two persons
                    parts[1] = parts[1][0], f"{parts[0][1]}_{parts[1][1]}"
                remaining.append((draft, parts[1:]))
            else:
                draft.person, draft.subject = parts[0]
        open_drafts = remaining
    _choose_numbers(drafts)


def _choose_numbers(drafts: list[_Draft]) -> None:
    """Takes the person's number from volumes' names if they lie in folders of numbers.

    A name that stands in several of them is no person's, as `001/mprage_1` and `002/mprage_1`.
    """
    numbered = collections.defaultdict(list)
    for draft in drafts:
        told = re.search(r"[a-z]|\d{5}", draft.subject, re.I)
        if draft.volume and not told and not draft.groups and (name := _numbered(draft.rest)):
            numbered[name].append(draft)
    if all(len({draft.subject for draft in found}) == 1 for found in numbered.values()):
        for name, found in numbered.items():
            for draft in found:
                draft.subject = name


def _is_wrapper(open_drafts: list[tuple[_Draft, list[tuple[int, str]]]]) -> bool:
    """Tells whether the one folder of a level wraps persons, or sites of persons.

    A person's name mostly has a number. A person with three volumes or more in folders of their own
    would be the only person here, of whom nothing could be learned.
    """
    deeper = collections.defaultdict(set)
    for _, parts in open_drafts:
        if len(parts) > 2:
            deeper[parts[1][1]].add(parts[2][1])
    if len(deeper) > 1 and _sites(deeper):
        return True
    name = open_drafts[0][1][0][1]
    volumes = all(draft.volume for draft, _ in open_drafts)
    inmost = set().union(*deeper.values())
    if volumes and len(deeper) == 1 and len(inmost) > 2:  # `LPBA40/delineation_space/S01`
        return all(map(S_AND_NUMBER.fullmatch, inmost))
    return volumes and len(deeper) > 2 and not re.search(r"\d", name)


def _sites(inner: dict[str, set[str]]) -> set[str]:
    """Returns which folders of one level are places with numbered persons, not persons.

    Args:
        inner: Of each folder, the names right inside that may be persons'.
    """
    numbers = {
        name: parts
        for name, parts in inner.items()
        if not is_class(name) and all(map(str.isdecimal, parts))
    }
    places = [name for name in numbers if not may_be_person(name)]
    if 2 * len(places) < len(numbers) or all(len(parts) == 1 for parts in numbers.values()):
        return set()
    known = [part for parts in numbers.values() for part in parts]
    disjoint = len(numbers) > 1 and len(known) == len(set(known))
    # Few and short numbers that recur may be series of one person.
    many = len(known) > MOST_SERIES * len(numbers) or any(len(number) > 2 for number in known)
    return set(numbers) if disjoint or many else set()


def _visits(inner: dict[str, set[str]]) -> set[str]:
    """Returns which folders of one level hold the same persons, and so are visits or kinds."""
    folders = set(inner)
    others = {name: parts - {name} for name, parts in inner.items()}
    wrapped = {k for k, parts in others.items() if 2 * len(parts & folders) > len(inner[k])}
    if wrapped or len(inner) < 2 or any(is_class(name) for name in inner):
        return wrapped
    if all(map(PLACE.fullmatch, inner)) and any(map(_tells_persons, set().union(*inner.values()))):
        return folders
    common = set.intersection(*inner.values())
    persons = {name for name in common if re.search(r"[a-z].*\d|\d.*[a-z]|\d{5}", name, re.I)}
    everybody = set.union(*inner.values())
    # A folder with a number may be a person with series, unless these are called like persons.
    wordy = not any(re.search(r"\d", name) for name in inner)
    spelled = all(
        PERSON_WORD.fullmatch(name) or re.fullmatch(r"p\d+", name, re.I) for name in common
    )
    if (wordy or spelled) and len(persons) > 1 and 2 * len(persons) > len(everybody):
        return folders
    return set()


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
    places = len(others) == 1 or not any(map(may_be_person, others))
    if spelled or (numbered and disjoint and few and places):
        groups |= set(others)
    return groups


def _forget_names_of_classes(drafts: list[_Draft]) -> None:
    """Makes pictures nobody's if their name tells no more than the class folder they lie in."""
    found = collections.defaultdict(list)
    for draft in drafts:
        if draft.groups or draft._class_folders():
            found[tuple(draft.folders)].append(draft)
    alike = [
        group
        for group in found.values()
        if len(group) >= LEAST_NAMELESS
        and len({draft.subject for draft in group}) == 1
        and all(not d.volume and d.person == len(d.folders) for d in group)
    ]
    if len(alike) > 1 and len(alike) == len(found):
        for draft in (draft for group in alike for draft in group):
            draft.subject = ""


def _spell_alike(drafts: list[_Draft]) -> None:
    """Gives one spelling to persons whose names differ in capitals, separators and zeros only."""
    first: dict[tuple[str, ...], str] = {}
    for draft in drafts:
        words = re.findall(r"\d+|[^\W\d_]+|[^\w ._-]+", draft.subject.casefold())
        key = tuple(word.lstrip("0") or "0" for word in words) or (draft.subject,)
        draft.subject = first.setdefault(key, draft.subject)
