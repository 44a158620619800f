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
from oasisvq.data.filenames import Names, compile_pattern, is_wanted, matches_glob, read_names
from oasisvq.data.intensities import looks_like_labels
from oasisvq.data.name_words import (
    CHANNEL,
    CLASS_WORD,
    CONTRAST_WORD,
    DOUBTFUL_LABEL,
    IMAGE_FOLDER,
    IMAGE_WORD,
    KNOWN_NAMES,
    LABEL_FOLDER,
    LABEL_WORD,
    PLANES,
    SPLIT_FOLDER,
    SPM_IMAGE,
    SPM_TISSUE,
    SUFFIXES,
    T1_WORD,
    TEMPLATE,
    TEMPLATE_REST,
)
from oasisvq.data.oasis import OASIS1_IMAGES, OASIS2_IMAGE
from oasisvq.data.pictures import PICTURE_SUFFIXES, picture_size, read_pictures
from oasisvq.data.volumes import VOLUME_SUFFIXES, is_volume, read_volume

# Formats of images that are not read: named, so that nobody wonders where they went.
UNREAD = re.compile(
    r"\.(?:dcm|ima|nrrd|nhdr|mh[ad]|mnc|gif|bmp|webp|eps|svg|npy|npz|nii\.bz2|nii\.xz|img\.gz|"
    r"mat|par|rec|head|brik)$",
    re.I,
)
# Folders of a data set whose files are not what was scanned: those of BIDS, and of plots; those
# beside raw data that tools name after themselves; those beside `mri` in a subject of FreeSurfer.
DERIVED = re.compile(r"derivatives?|sourcedata|code|stimuli|qc|figures?|plots|reports?", re.I)
DERIVED_BESIDE_RAW = re.compile(r"[fs]?mriprep|(?:free|fast)surfer|mriqc|qsiprep|xcp_d|cat12", re.I)
RAW = re.compile(r"raw_?data|bids|sub-.+", re.I)
DERIVED_BESIDE_MRI = re.compile(r"surf|touch|scripts|stats|tmp|trash|label", re.I)
# FreeSurfer processes scans of one person again, along a mean that it calls `base`.
LONGITUDINAL = re.compile(r".+\.long\.(?P<base>.+)", re.I)
BIDS = re.compile(r"sub-[^_]+(?:_[a-z]+-[^_]+)*_(?P<suffix>[a-z0-9]+)", re.I)
# Entities of BIDS that tell parts of one image apart, not scans.
PARTS = re.compile(r"(?:^|_)(?:inv|echo|part|flip|mt|chunk)_\w", re.I)
LOOKED_AT = 5  # images with a name like a label map's whose content is looked at
MOST_TIMES = 3  # as large or as small as the usual picture
# The images of OASIS by their names alone, as they lie about in other folders, and where the axes
# of each run to.
IMAGES = {**OASIS1_IMAGES, "oasis2": OASIS2_IMAGE}
NAMED = {
    kind: re.compile(place.rpartition("/")[2].format(r"\w+") + r"\.hdr", re.I)
    for kind, (place, _) in IMAGES.items()
}
# Kinds of neurite-OASIS and FreeSurfer that are known, best first.
STRIPPED = ("aligned_norm", "brain", "norm", "brainmask")
HEADS = ("t1", "nu", "orig")
REASONS = {  # why an image is left out
    "label": "a label map or mask",
    "contrast": "another contrast",
    "channel": "another channel",
    "kind": "another kind of image",
    "variant": "another variant of an image that is taken",
    "plane": "another plane than --plane",
    "augmented": "an augmented copy",
    "template": "a template of many heads",
    "again": "the same scan, processed again",
    "second": "a second file of the same image",
    "derived": "in a folder of derived data",
    "run": "in a run folder",
    "prepared": "in a folder of prepared slices",
    "size": "of another size than the rest",
    "thin": "one slice thick among volumes",
    "thick": "a volume among single slices",
    "excluded": "left out by --include or --exclude",
    "format": "in a format that is not read",
    "special": "no regular file",
    "loop": "a folder that is here already, by a link",
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

    @property
    def stem(self) -> str:
        """The file's name without suffixes."""
        return SUFFIXES.sub("", self.path.name)


def take_inventory(folder: Path, config: Any) -> list[Entry]:
    """Returns all images in a folder and below it, judged by their names alone.

    Args:
        folder: Path of the folder.
        config: `DataConfig`: `include`, `exclude`, `subject_pattern`, `suffix` and `plane`.

    Raises:
        DatasetError: If several kinds of image remain and none is the plain one.
    """
    entries = list(_walk(folder, config.include))
    _leave_unwanted(entries, folder, config)
    images = [entry for entry in entries if entry.taken]
    prefixes = _spm_prefixes(images)
    pattern = compile_pattern(config.subject_pattern)
    paths = [_without_prefix(entry, prefixes.get(id(entry), "")) for entry in images]
    volumes = [entry.volume for entry in images]
    for entry, names in zip(images, read_names(paths, pattern, volumes), strict=True):
        prefix = prefixes.get(id(entry), "")
        kind = f"spm{prefix}_{names.kind}".strip("_") if prefix else names.kind
        entry.names = dataclasses.replace(names, kind=kind)
        if prefix and SPM_TISSUE.match(entry.stem):
            entry.reason = "label"
    rules = _leave_oasis_kinds, _leave_templates, _leave_augmented, _leave_labels, _leave_contrasts
    for rule in (*rules, _name_the_nameless, _leave_planes, _leave_kinds):
        rule([entry for entry in images if entry.taken], folder, config)
    _leave_seconds([entry for entry in images if entry.taken])
    return entries


def _walk(folder: Path, wanted: Iterable[str]) -> Iterator[Entry]:
    """Yields the images below a folder, links after what is there itself, by their names.

    A linked folder or image that is there already is not taken again. Folders of derived data are
    entered only if a glob of `--include` names them.
    """
    seen: set[tuple[int, int]] = set()

    def walk(place: Path) -> Iterator[Entry]:
        facts = place.stat()
        if (facts.st_dev, facts.st_ino) in seen:
            yield Entry(place, _readable(place.relative_to(folder)), reason="loop")
            return
        seen.add((facts.st_dev, facts.st_ino))
        found = sorted(os.scandir(place), key=lambda item: (item.is_symlink(), item.name))
        beside = {item.name for item in found}
        for item in found:
            path = Path(item.path)
            relative = _readable(path.relative_to(folder))
            if item.name.startswith(".") or item.name == "__MACOSX":
                continue  # .DS_Store and the like, and what a Mac puts into archives
            if path.is_dir():
                reason = _reason_of_folder(path, beside)
                named = any(item.name.lower() in glob.lower() for glob in wanted)
                if reason and not (named and reason == "derived"):
                    yield Entry(path, relative, reason=reason)
                else:
                    yield from walk(path)
            elif entry := _file(item, path, relative):
                if entry.taken:
                    facts = path.stat()
                    if item.is_symlink() and (facts.st_dev, facts.st_ino) in seen:
                        entry.reason = "second"
                    seen.add((facts.st_dev, facts.st_ino))
                yield entry

    yield from walk(folder)


def _reason_of_folder(path: Path, beside: set[str]) -> str:
    """Returns why a whole folder, with others beside it, is left out; or `""`."""
    name = path.name
    if DERIVED.fullmatch(name) or path.match("mri/orig") or path.match("mri/transforms"):
        return "derived"
    if "mri" in beside and DERIVED_BESIDE_MRI.fullmatch(name):
        return "derived"
    if DERIVED_BESIDE_RAW.fullmatch(name) and any(map(RAW.fullmatch, beside)):
        return "derived"
    bases = {match["base"] for match in map(LONGITUDINAL.fullmatch, beside) if match}
    if LONGITUDINAL.fullmatch(name) or name in bases:
        return "again"
    if TEMPLATE.fullmatch(name):
        return "template"
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


def _leave_unwanted(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out what `--include` and `--exclude` leave out.

    Raises:
        DatasetError: If a glob fits no image.
    """
    images = [entry for entry in entries if entry.taken]
    for flag, globs in (("include", config.include), ("exclude", config.exclude)):
        for glob in globs:
            if not any(matches_glob(entry.relative, glob) for entry in images):
                raise DatasetError(
                    f"{folder}: --{flag} {glob} fits no image in it. It is compared with the path, "
                    "the name and the folders of each"
                )
    for entry in images:
        if not is_wanted(entry.relative, config):
            entry.reason = "excluded"


def _named_by_include(entries: list[Entry], left: list[Entry], config: Any) -> set[int]:
    """Returns which images a rule must not leave out: those of a glob of which it leaves none."""
    leaving, kept = {id(entry) for entry in left}, set()
    for glob in config.include:
        fitting = {id(entry) for entry in entries if matches_glob(entry.relative, glob)}
        if fitting <= leaving:
            kept |= fitting
    return kept


def _spm_prefixes(entries: list[Entry]) -> dict[int, str]:
    """Returns what SPM or CAT12 has put before the name of each image that they made.

    `c1P01`, `c2P01` and `wmP01` are made of `P01`: such names are believed where the image itself
    is there, or its name is known, or there are three kinds of tissue of it.
    """
    stems = {entry.stem for entry in entries}
    rests = collections.defaultdict(set)
    for entry in entries:
        if match := SPM_TISSUE.match(entry.stem):
            rests[entry.stem[match.end() :]].add(match[0])
    known = {
        rest
        for rest, prefixes in rests.items()
        if rest in stems
        or len(prefixes) > 2
        or any(match and not match.start() for match in (k.search(rest) for k in KNOWN_NAMES))
    }
    prefixes = {}
    for entry in entries:
        for pattern in (SPM_TISSUE, SPM_IMAGE):
            match = pattern.match(entry.stem)
            if match and entry.stem[match.end() :] in known:
                prefixes[id(entry)] = match[0]
                break
    return prefixes


def _without_prefix(entry: Entry, prefix: str) -> PurePath:
    """Returns the path of an image as it would be without the prefix of its name."""
    return (
        entry.relative.with_name(entry.relative.name[len(prefix) :]) if prefix else entry.relative
    )


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


def _leave_templates(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out mean brains, whose names say nothing else."""
    for entry in entries:
        words = [word for word in re.split(r"[._ -]+", entry.stem) if word]
        if any(map(TEMPLATE.fullmatch, words)) and all(
            TEMPLATE.fullmatch(word) or TEMPLATE_REST.fullmatch(word) for word in words
        ):
            entry.reason = "template"


def _leave_augmented(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out augmented copies of persons whose images are there as they were."""
    plain = {entry.names.subject for entry in entries if not entry.names.augmented}
    for entry in entries:
        if entry.names.augmented and entry.names.subject in plain:
            entry.reason = "augmented"


def _leave_labels(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out label maps by their names, unless all files have such names.

    Where a session has no other image, a few of them are looked at: `lesion_P01` may be a brain.
    """
    labels = [entry for entry in entries if _is_named_label(entry) and not _is_plain(entry)]
    if len(labels) == len(entries):
        return
    kept = _named_by_include(entries, labels, config)
    named = {id(entry) for entry in labels}
    sessions = {
        (entry.names.subject, entry.names.session) for entry in entries if id(entry) not in named
    }
    alone = [
        entry
        for entry in labels
        if _may_be_brain(entry) and (entry.names.subject, entry.names.session) not in sessions
    ]
    looked_at = alone[:: max(1, len(alone) // LOOKED_AT)][:LOOKED_AT]
    if alone and 2 * sum(map(_shows_brain, looked_at)) > len(looked_at):
        kept |= {id(entry) for entry in alone}
    for entry in labels:
        if id(entry) not in kept:
            entry.reason = "label"


def _is_named_label(entry: Entry) -> bool:
    """Tells whether an image's name, or a folder's, is that of a label map."""
    folders = entry.relative.parts[:-1]
    return bool(
        LABEL_WORD.search(entry.names.kind.replace("_", " "))
        or re.match(r"seg[_-]", entry.path.name, re.I)
        or any(map(LABEL_FOLDER.fullmatch, folders))
    )


def _may_be_brain(entry: Entry) -> bool:
    """Tells whether the words that are a label map's may also say something else."""
    texts = [entry.names.kind.replace("_", " "), *entry.relative.parts[:-1]]
    certain = (LABEL_WORD.search(DOUBTFUL_LABEL.sub("", text)) for text in texts)
    return not any(certain) and not re.match(r"seg[_-]", entry.path.name, re.I)


def _shows_brain(entry: Entry) -> bool:
    """Tells whether an image can be read, and is no label map by its content."""
    try:
        if entry.volume:
            return not looks_like_labels(read_volume(entry.path).voxels)
        return not looks_like_labels(read_pictures([entry.path], "")[0][0])
    except VolumeError:
        return False


def _is_plain(entry: Entry) -> bool:
    """Tells whether an image is of a known plain kind; FreeSurfer's `brainmask.mgz` is a brain."""
    kind = entry.names.kind.lower()
    return kind in STRIPPED + HEADS and (kind != "brainmask" or entry.path.suffix == ".mgz")


def _leave_contrasts(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out all contrasts but the wanted one: `--suffix`, else T1, else the only one.

    Beside T1 images, unknown kinds that are not more frequent are left out too.

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
    wanted = "T1" if "T1" in found else "UNIT1"  # MP2RAGE's image that looks like T1
    if len(found) > 1 and wanted not in found:
        raise DatasetError(
            f"{folder}: holds images of several contrasts, {', '.join(sorted(found))}, and no T1. "
            f"Choose one, as with --suffix {min(found)}"
        )
    if wanted in found:
        left = [entry for entry in entries if contrasts[id(entry)] not in (wanted, "")]
        odd = _odd_kinds(entries, contrasts, wanted)
        kept = _named_by_include(entries, left + odd, config)
        for reason, some in (("contrast", left), ("kind", odd)):
            for entry in some:
                entry.reason = "" if id(entry) in kept else reason
    _leave_channels([entry for entry in entries if entry.taken])


def _odd_kinds(entries: list[Entry], contrasts: dict[int, str], wanted: str) -> list[Entry]:
    """Returns images of unknown kinds that are no more frequent than, or beside, wanted ones."""

    def session(entry: Entry) -> tuple[str, str]:
        return entry.names.subject, entry.names.session

    sessions = {session(entry) for entry in entries if contrasts[id(entry)] == wanted}
    kinds = collections.defaultdict(list)
    for entry in entries:
        if not contrasts[id(entry)] and _is_odd(entry):
            kinds["" if BIDS.fullmatch(entry.stem) else _kind(entry)].append(entry)
    most = sum(contrast == wanted for contrast in contrasts.values())
    return [
        entry
        for kind, some in kinds.items()
        for entry in some
        if not kind or len(some) <= most or sessions >= set(map(session, some))
    ]


def _kind(entry: Entry) -> str:
    """Returns an image's kind in small letters, without numbers."""
    return re.sub(r"\d+", "", entry.names.kind.lower())


def _is_odd(entry: Entry) -> bool:
    """Tells whether a kind has words that say neither a contrast nor merely an image."""
    words = [word for word in _kind(entry).split("_") if len(word) > 1]
    return not _is_plain(entry) and not all(map(IMAGE_WORD.fullmatch, words))


def _has_suffix(entry: Entry, suffix: str) -> bool:
    """Tells whether a file's kind ends in the words of `--suffix`."""
    wanted = re.sub(r"[._ -]+", "_", suffix).strip("_").lower()
    return f"_{entry.names.kind.lower()}".endswith(f"_{wanted}")


def _contrast(entry: Entry) -> str:
    """Returns the contrast that an image's name, or else a folder, tells; or `""`.

    `"T1"` stands for all its spellings. Of several words the first one counts: `FLAIR_in_T1` is
    FLAIR, and `T1_PD_07` may be of a person with Parkinson's disease.
    """
    name, *folders = reversed(entry.relative.parts)
    bids = BIDS.fullmatch(entry.stem)
    own = bids["suffix"] if bids else entry.names.kind.replace("_", " ")
    for text in (own, *(folder for folder in folders if not CLASS_WORD.fullmatch(folder))):
        word = CONTRAST_WORD.search(text) or CONTRAST_WORD.search(re.sub(r"[ _]", "-", text))
        if word and not (text is not own and T1_WORD.fullmatch(word[0]) and _is_odd(entry)):
            return "T1" if T1_WORD.fullmatch(word[0]) else word[0]
        if re.search(r"(?:^|[ _-])(?:mpr|MP-RAGE)(?:[ _-]|\d|$)", text, re.I):
            return "T1"
    return ""


def _leave_channels(entries: list[Entry]) -> None:
    """Leaves out the channels of nnU-Net and the Decathlon but the first, `_0000`."""
    channels = [
        (entry, match[1])
        for entry in entries
        if (match := CHANNEL.search(entry.stem))
        and (entry.volume or any(map(IMAGE_FOLDER.fullmatch, entry.relative.parts[:-1])))
    ]
    if any(channel == "0000" for _, channel in channels):
        for entry, channel in channels:
            if channel != "0000":
                entry.reason = "channel"


def _leave_planes(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out slices of other planes than `--plane`, where names tell several.

    Raises:
        DatasetError: If none of them is `--plane`.
    """
    planes = {id(entry): plane_of(entry.relative) for entry in entries}
    found = set(planes.values()) - {""}
    if len(found) < 2:
        return
    if config.plane not in found:
        raise DatasetError(
            f"{folder}: holds slices of several planes, {' and '.join(sorted(found))}. Choose one "
            "with --plane"
        )
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
        parts = len(kinds) > 1 and any(map(PARTS.search, kinds))
        if parts or len({re.sub(r"\d+", "", kind) for kind in kinds}) > 1:
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
        globs = collections.Counter(
            f"--include '*{'*'.join(_words_of_name(kind))}*'"
            for _, kinds in mixed
            for kind in sorted(kinds)
        )
        raise DatasetError(
            f"{folder}: the sessions hold several kinds of image, and none is known for the plain "
            f"one. Choose one of {', '.join(glob for glob, _ in globs.most_common(6))}"
        )
    family = next((kinds for kinds in (STRIPPED, HEADS) if choice in kinds), (choice,))
    for together, kinds in mixed:
        best = next((kind for kind in family if kind in kinds), choice)
        for entry in together:
            kind = entry.names.kind.lower()
            if kind != best:
                variant = best in kinds and _words_of(best) <= _words_of(kind)
                entry.reason = "variant" if variant else "kind"
    if choice in STRIPPED + HEADS:
        for entry in entries:
            if entry.volume and entry.names.kind.lower() not in family:
                entry.reason = entry.reason or "kind"


def _words_of_name(kind: str) -> list[str]:
    """Returns the words of a kind of image in their order."""
    return [word for word in re.split(r"[\d_]+", kind) if word]


def _words_of(kind: str) -> set[str]:
    """Returns the words of a kind of image."""
    return set(filter(None, kind.split("_")))


def _plain_kind(counts: collections.Counter) -> str | None:
    """Returns the plain one of several kinds of image, or `None`.

    It is one of those that are known, or the one of whose words all others are variants, or that of
    preprocessed images among variants that BIDS tells apart by `space-` and `desc-`.
    """
    for kind in STRIPPED + HEADS:
        if kind in counts:
            return kind
    if all("gradwarp" in kind for kind in counts):  # steps of ADNI's processing
        return max(counts, key=lambda kind: (len(_words_of(kind)), kind))
    fewest = min(counts, key=lambda kind: (len(_words_of(kind)), len(kind), kind))
    if all(_words_of(fewest) <= _words_of(kind) for kind in counts):
        return fewest
    last = {kind.rpartition("_")[2] for kind in counts}
    if len(last) == 1 and all(re.search(r"space|desc|res|acq|rec|ce", kind) for kind in counts):
        return min(counts, key=lambda kind: ("desc_preproc" not in kind, -counts[kind], kind))
    return None


def _leave_seconds(entries: list[Entry]) -> None:
    """Leaves out the second file of one image in a folder, as `x.jpg` beside `x.png`.

    Images of one name in two folders are two scans, of one person as far as is known.
    """
    for together in _sessions(entries).values():
        first: dict[tuple, Entry] = {}
        together.sort(key=lambda entry: (_rank(entry.path), entry.relative))
        for entry in together:
            key = entry.names.kind.lower(), entry.names.repeat
            if key not in first:
                first[key] = entry
            elif entry.path.parent == first[key].path.parent:
                entry.reason = "second"
            else:
                place = entry.relative.parent.as_posix()
                entry.names = dataclasses.replace(entry.names, repeat=place)
                if (entry.names.kind.lower(), place) in first:
                    entry.reason = "second"
                first.setdefault((entry.names.kind.lower(), place), entry)


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
