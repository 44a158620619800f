"""What a folder holds: every image in it, whose it is, and why it is taken or left out."""

import collections
import dataclasses
import os
import re
import stat
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.data.filenames import (
    CONTRAST_WORD,
    LABEL_WORD,
    PLANES,
    SPLIT_FOLDER,
    Names,
    compile_pattern,
    is_wanted,
    read_names,
)
from oasisvq.data.oasis import OASIS1_IMAGES, OASIS2_IMAGE
from oasisvq.data.pictures import PICTURE_SUFFIXES, picture_size
from oasisvq.data.volumes import VOLUME_SUFFIXES, is_volume

# Formats of images that are not read: named, so that nobody wonders where they went.
UNREAD = re.compile(
    r"\.(?:dcm|ima|nrrd|nhdr|mh[ad]|mnc|gif|bmp|webp|eps|svg|npy|npz|nii\.bz2|nii\.xz|img\.gz|"
    r"mat|par|rec|head|brik)$",
    re.I,
)
# Folders of a data set whose files are not what was scanned.
DERIVED = re.compile(r"derivatives?|sourcedata|code|stimuli|surf|touch|scripts|stats|tmp", re.I)
LABEL_FOLDER = re.compile(
    r"labels?(?:[tT][rs])?|masks?|seg(?:s|mentations?)?|annotations?|ground[_ -]?truths?|gt", re.I
)
T1 = re.compile(r"t1|t1w|t1n|mp-?rage|spgr", re.I)
MOST_TIMES = 3  # as large or as small as the usual picture
# The images of OASIS by their names alone, as they lie about in other folders, and where the axes
# of each run to.
IMAGES = {**OASIS1_IMAGES, "oasis2": OASIS2_IMAGE}
NAMED = {
    kind: re.compile(place.rpartition("/")[2].format(r"\w+") + r"\.hdr", re.I)
    for kind, (place, _) in IMAGES.items()
}
CHANNEL = re.compile(r"(?:^|_)0\d{3}$")
# Kinds that are a brain without its skull, or else a head, best first: neurite-OASIS, FreeSurfer.
PLAIN = ("aligned_norm", "brain", "norm", "brainmask", "t1", "nu", "orig")
REASONS = {  # why an image is left out
    "label": "a label map or mask",
    "contrast": "another contrast",
    "channel": "another channel",
    "kind": "another kind of image",
    "variant": "another variant of an image that is taken",
    "plane": "another plane than --plane",
    "augmented": "an augmented copy",
    "second": "a second file of the same image",
    "derived": "in a folder of derived data",
    "run": "in a run folder",
    "prepared": "in a folder of prepared slices",
    "size": "of another size than the rest",
    "thin": "one slice thick among volumes",
    "excluded": "left out by --include or --exclude",
    "format": "in a format that is not read",
    "special": "no regular file",
    "loop": "a link to a folder that is here already",
}


@dataclasses.dataclass
class Entry:
    """A file of the folder.

    Attributes:
        path: The file.
        relative: Its path in the folder; bytes that are not UTF-8 are written as `\\xff`.
        volume: Whether it is a volume; else it is a picture.
        names: Who and what it shows.
        reason: A key of `REASONS` if it is left out, else `""`.
        problem: A text if it cannot be read, else `""`.
    """

    path: Path
    relative: PurePath
    volume: bool = False
    names: Names = Names("")
    reason: str = ""
    problem: str = ""

    @property
    def taken(self) -> bool:
        """Whether the file is taken."""
        return not self.reason and not self.problem


def take_inventory(folder: Path, config: Any) -> list[Entry]:
    """Returns all images in a folder and below it, judged by their names alone.

    Args:
        folder: Path of the folder.
        config: `DataConfig`: `include`, `exclude`, `subject_pattern`, `suffix` and `plane`.

    Raises:
        DatasetError: If several kinds of image remain and none is the plain one.
    """
    entries = list(_walk(folder, derived=bool(config.include)))
    for entry in entries:
        if not entry.reason and not is_wanted(entry.relative, config):
            entry.reason = "excluded"
    images = [entry for entry in entries if entry.taken]
    pattern = compile_pattern(config.subject_pattern)
    paths, volumes = [e.relative for e in images], [e.volume for e in images]
    for entry, names in zip(images, read_names(paths, pattern, volumes), strict=True):
        entry.names = names
    rules = _leave_oasis_kinds, _leave_augmented, _leave_labels, _leave_contrasts
    for rule in (*rules, _name_the_nameless, _leave_planes, _leave_kinds):
        rule([entry for entry in images if entry.taken], folder, config)
    _leave_seconds([entry for entry in images if entry.taken])
    return entries


def _walk(folder: Path, derived: bool) -> Iterator[Entry]:
    """Yields the images below a folder, links followed once, in the order of their names.

    Folders of derived data are entered only if `derived`: `--include` may mean them.
    """
    seen = set()

    def walk(place: Path) -> Iterator[Entry]:
        facts = place.stat()
        if (facts.st_dev, facts.st_ino) in seen:
            yield Entry(place, _readable(place.relative_to(folder)), reason="loop")
            return
        seen.add((facts.st_dev, facts.st_ino))
        for found in sorted(os.scandir(place), key=lambda entry: entry.name):
            path = Path(found.path)
            relative = _readable(path.relative_to(folder))
            if found.name.startswith(".") or found.name == "__MACOSX":
                continue  # .DS_Store and the like, and what a Mac puts into archives
            if found.is_dir():
                reason = _reason_of_folder(path)
                if reason and not (derived and reason == "derived"):
                    yield Entry(path, relative, reason=reason)
                else:
                    yield from walk(path)
            elif entry := _file(found, path, relative):
                yield entry

    yield from walk(folder)


def _reason_of_folder(path: Path) -> str:
    """Returns why a whole folder is left out, or `""`."""
    if DERIVED.fullmatch(path.name) or path.match("mri/orig") or path.match("mri/transforms"):
        return "derived"
    if (path / "dataset.json").is_file() and (path / "slices.npy").is_file():
        return "prepared"
    run = (path / "config.json").is_file() and (path / "split.csv").is_file()
    return "run" if run else ""


def _file(found: os.DirEntry, path: Path, relative: PurePath) -> Entry | None:
    """Returns a file as an entry if its name is that of an image, else `None`."""
    volume, picture = is_volume(path), path.name.lower().endswith(PICTURE_SUFFIXES)
    if not volume and not picture:
        unread = UNREAD.search(path.name)
        return Entry(path, relative, reason="format") if unread else None
    entry = Entry(path, relative, volume)
    try:
        mode = found.stat().st_mode
    except OSError:
        entry.problem = (
            f"{path}: a link to nothing. Fetch what it links to (datalad get, git annex get), or "
            "take it out"
        )
    else:
        entry.reason = "" if stat.S_ISREG(mode) else "special"
    return entry


def _readable(path: PurePath) -> PurePath:
    """Returns a path whose text can be written as UTF-8; other paths differ from it."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return PurePath(text)


# Rules, each of which gives some entries a reason


def _sessions(entries: Iterable[Entry]) -> dict[tuple, list[Entry]]:
    """Returns the entries that show one brain, or one slice of it, in one session."""
    sessions = collections.defaultdict(list)
    for entry in entries:
        names = entry.names
        key = (names.subject, names.session, names.group, names.split)
        if not entry.volume:
            key += (names.repeat, names.index)
        sessions[key, entry.volume].append(entry)
    return sessions


def oasis_kind(path: Path) -> str:
    """Returns which image of OASIS a file is by its name, or `""`."""
    return next((kind for kind, name in NAMED.items() if name.fullmatch(path.name)), "")


def _leave_oasis_kinds(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out the images of OASIS-1 but those of `--oasis1-image`, where there are several."""
    kinds = {id(entry): oasis_kind(entry.path) for entry in entries}
    for entry in entries:
        if kinds[id(entry)]:
            entry.names = dataclasses.replace(entry.names, kind="")
    found = set(kinds.values()) - {"", "oasis2"}
    if len(found) < 2:
        return
    if config.oasis1_image not in found:
        raise DatasetError(
            f"{folder}: holds volumes of several kinds ({', '.join(sorted(found))}), and no "
            f"{config.oasis1_image} ones. Choose a kind with --oasis1-image"
        )
    for entry in entries:
        if kinds[id(entry)] not in (config.oasis1_image, "oasis2", ""):
            entry.reason = "kind"


def _name_the_nameless(entries: list[Entry], folder: Path, config: Any) -> None:
    """Gives files whose path names nobody to one person, the folder that they lie in.

    Raises:
        DatasetError: If they are pictures in class folders, which are of many persons.
    """
    nameless = [entry for entry in entries if not entry.names.subject]
    if any(entry.names.group for entry in nameless) and config.persons == "by-name":
        raise DatasetError(
            f"{folder}: the names of {len(nameless)} pictures, such as {nameless[0].relative}, say "
            "nothing of whom they show, so that no split by person can be made. Give "
            "--subject-pattern, or --persons by-likeness, which groups pictures of one head"
        )
    for entry in nameless:
        plain = [part for part in entry.relative.parts[:-1] if not SPLIT_FOLDER.fullmatch(part)]
        name = plain[-1] if plain else _readable(PurePath(folder.resolve().name)).name
        # `1.png` and `patient01.png` are two slices; of pictures of anybody, each is a scan.
        likened = config.persons == "by-likeness"
        repeat = str(entry.relative) if likened else entry.names.kind
        entry.names = dataclasses.replace(entry.names, subject=name, repeat=repeat, kind="")


def _leave_augmented(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out augmented copies of persons whose images are there as they were."""
    plain = {entry.names.subject for entry in entries if not entry.names.augmented}
    for entry in entries:
        if entry.names.augmented and entry.names.subject in plain:
            entry.reason = "augmented"


def _leave_labels(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out label maps by their names, unless all files have such names."""

    def is_label(entry: Entry) -> bool:
        folders = entry.relative.parts[:-1]
        return bool(
            LABEL_WORD.search(entry.names.kind.replace("_", " "))
            or re.match(r"m?w?r?c[1-6](?=sub-|OAS|\d{3}_S)|seg[_-]", entry.path.name, re.I)
            or any(LABEL_FOLDER.fullmatch(name) for name in folders)
        )

    labels = [entry for entry in entries if is_label(entry) and not _is_plain(entry)]
    if len(labels) < len(entries):
        for entry in labels:
            entry.reason = "label"


def _is_plain(entry: Entry) -> bool:
    return entry.names.kind.lower() in PLAIN


def _leave_contrasts(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out all contrasts but the wanted one: `--suffix`, else T1, else the only one.

    Raises:
        DatasetError: If there are several, none is T1 and none is chosen, or that is not there.
    """
    if config.suffix:
        chosen = [entry for entry in entries if _has_suffix(entry, config.suffix)]
        if not chosen:
            kinds = sorted({entry.names.kind for entry in entries})
            raise DatasetError(
                f"{folder}: no image has --suffix {config.suffix}. Its images are called "
                f"{', '.join(kinds[:8])}"
            )
        for entry in entries:
            entry.reason = "" if _has_suffix(entry, config.suffix) else "contrast"
        return
    contrasts = {id(entry): _contrast(entry) for entry in entries}
    found = set(contrasts.values()) - {""}
    if len(found) > 1 and "T1" not in found:
        raise DatasetError(
            f"{folder}: holds images of several contrasts, {', '.join(sorted(found))}, and no T1. "
            f"Choose one, as with --suffix {min(found)}"
        )
    for entry in entries:
        if "T1" in found and contrasts[id(entry)] not in ("T1", ""):
            entry.reason = "contrast"
    _leave_channels([entry for entry in entries if entry.taken])


def _has_suffix(entry: Entry, suffix: str) -> bool:
    """Tells whether a file's kind ends in the words of `--suffix`."""
    wanted = re.sub(r"[._ -]+", "_", suffix).strip("_").lower()
    return f"_{entry.names.kind.lower()}".endswith(f"_{wanted}")


def _contrast(entry: Entry) -> str:
    """Returns the contrast that a file's kind names, `"T1"` for all its spellings; or `""`."""
    words = CONTRAST_WORD.findall(entry.names.kind.replace("_", " "))
    words += CONTRAST_WORD.findall(entry.names.kind)
    if not words:
        return ""
    return "T1" if all(T1.fullmatch(word) for word in words) else words[-1]


def _leave_channels(entries: list[Entry]) -> None:
    """Leaves out the channels of nnU-Net and the Decathlon but the first, `_0000`."""
    if any(entry.volume and entry.names.kind.endswith("0000") for entry in entries):
        for entry in entries:
            if CHANNEL.search(entry.names.kind) and not entry.names.kind.endswith("0000"):
                entry.reason = "channel"


def _leave_planes(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out slices of other planes than `--plane`, where names tell several."""
    planes = {id(entry): plane_of(entry.relative) for entry in entries}
    if config.plane in planes.values() and len(set(planes.values()) - {""}) > 1:
        for entry in entries:
            entry.reason = "" if planes[id(entry)] in ("", config.plane) else "plane"


def plane_of(relative: PurePath) -> str:
    """Returns the plane that a path names, the innermost first; or `""`."""
    for name in reversed(relative.parts):
        text = re.sub(r"[_ ]", "-", name)
        for plane, word in PLANES.items():
            if word.search(text):
                return plane
    return ""


def _leave_kinds(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves one kind of image in each session that holds several.

    Raises:
        DatasetError: If none of them is the plain one; the message names the flag for each.
    """
    mixed = []
    for together in _sessions(entries).values():
        kinds = {entry.names.kind.lower() for entry in together}
        if len({re.sub(r"\d+", "", kind) for kind in kinds}) > 1:
            mixed.append((together, kinds))
        elif len(kinds) > 1:  # they differ by a number: other scans of the person
            for entry in together:
                repeat = entry.names.repeat or entry.names.kind
                entry.names = dataclasses.replace(entry.names, repeat=repeat)
    if not mixed:
        return
    counts = collections.Counter(kind for _, kinds in mixed for kind in kinds)
    choice = _plain_kind(counts)
    if choice is None:
        often = sorted(counts, key=lambda kind: (-counts[kind], kind))[:6]
        examples = ", ".join(f"--include '*{kind}*'" for kind in often)
        raise DatasetError(
            f"{folder}: the sessions hold several kinds of image, and none is known for the plain "
            f"one. Choose one of {examples}"
        )
    for together, _ in mixed:
        for entry in together:
            kind = entry.names.kind.lower()
            if kind != choice and choice in {e.names.kind.lower() for e in together}:
                entry.reason = "variant" if _words_of(choice) <= _words_of(kind) else "kind"
            elif kind != choice:
                entry.reason = "kind"
    if choice in PLAIN:
        for entry in entries:
            if entry.volume and entry.names.kind.lower() != choice:
                entry.reason = entry.reason or "kind"


def _words_of(kind: str) -> set[str]:
    """Returns the words of a kind of image."""
    return set(filter(None, kind.split("_")))


def _plain_kind(counts: collections.Counter) -> str | None:
    """Returns the plain one of several kinds of image, or `None`.

    It is one of `PLAIN`, or the one of whose words all others are variants, or that of
    preprocessed images among variants that BIDS tells apart by `space-` and `desc-`.
    """
    for kind in PLAIN:
        if kind in counts:
            return kind
    fewest = min(counts, key=lambda kind: (len(_words_of(kind)), len(kind), kind))
    if all(_words_of(fewest) <= _words_of(kind) for kind in counts):
        return fewest
    last = {kind.rpartition("_")[2] for kind in counts}
    if len(last) == 1 and all(re.search(r"space|desc|res|acq|rec|ce", kind) for kind in counts):
        return min(counts, key=lambda kind: ("desc_preproc" not in kind, -counts[kind], kind))
    return None


def _leave_seconds(entries: list[Entry]) -> None:
    """Leaves out the second file of one image, as `x.jpg` beside `x.png`."""
    for together in _sessions(entries).values():
        taken = set()
        together.sort(key=lambda entry: (_rank(entry.path), entry.relative))
        for entry in together:
            key = entry.names.kind.lower(), entry.names.repeat
            if key in taken:
                entry.reason = "second"
            taken.add(key)


def _rank(path: Path) -> int:
    """Returns the place of a file's format among those of one image."""
    suffixes = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES)
    return next(n for n, suffix in enumerate(suffixes) if path.name.lower().endswith(suffix))


def leave_sizes(entries: list[Entry]) -> None:
    """Leaves out pictures that are many times larger or smaller than the others."""
    sizes = {}
    for entry in entries:
        try:
            sizes[id(entry)] = picture_size(entry.path)
        except VolumeError as error:
            entry.problem = str(error)
    if not sizes:
        return
    middle = [statistics.median(sides) for sides in zip(*sizes.values(), strict=True)]
    for entry in entries:
        sides = zip(sizes.get(id(entry), middle), middle, strict=True)
        if any(not 1 / MOST_TIMES < side / usual < MOST_TIMES for side, usual in sides):
            entry.reason = "size"


def count_entries(entries: Iterable[Entry]) -> dict[str, Any]:
    """Returns how many images are taken, and left out for each reason with an example of each."""
    entries = list(entries)
    counts: dict[str, Any] = {"taken": sum(entry.taken for entry in entries)}
    broken = [entry for entry in entries if entry.problem and not entry.reason]
    groups = {text: [e for e in entries if e.reason == key] for key, text in REASONS.items()}
    for text, left in {"cannot be read": broken, **groups}.items():
        if left:
            counts[text] = {"count": len(left), "example": str(left[0].relative)}
    return counts


def describe_entries(counts: dict[str, Any]) -> list[str]:
    """Returns lines on what `count_entries` found, the most frequent reason first."""
    left = {text: found for text, found in counts.items() if text != "taken"}
    order = sorted(left, key=lambda text: -left[text]["count"])
    return [f"  {left[text]['count']:,} {text}, as {left[text]['example']}" for text in order]
