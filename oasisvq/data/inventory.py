"""What counts as a brain: the rules by which images of a folder are taken or left out."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.data.entries import Entry, find_entries, readable
from oasisvq.data.filenames import (
    compile_pattern,
    is_wanted,
    matches_glob,
    may_name_kind,
    read_names,
)
from oasisvq.data.intensities import looks_like_labels
from oasisvq.data.name_words import (
    B_VALUE,
    CHANNEL,
    CLASS_WORD,
    CONTRAST_WORD,
    DOUBTFUL_LABEL,
    DRAWN_WORD,
    IMAGE_FOLDER,
    IMAGE_WORD,
    KNOWN_NAMES,
    LABEL_FOLDER,
    LABEL_WORD,
    PLANES,
    SPLIT_FOLDER,
    SPM_IMAGE,
    SPM_TISSUE,
    T1_WORD,
    TEMPLATE,
    TEMPLATE_REST,
)
from oasisvq.data.oasis import OASIS1_IMAGES, OASIS2_IMAGE
from oasisvq.data.pictures import PICTURE_SUFFIXES, read_pictures
from oasisvq.data.volumes import VOLUME_SUFFIXES, read_volume

BIDS = re.compile(r"sub-[^_]+(?:_[a-z]+-[^_]+)*_(?P<suffix>[a-z0-9]+)", re.I)
# Entities of BIDS that tell parts of one image apart, not scans.
PARTS = re.compile(r"(?:^|_)(?:inv|echo|part|flip|mt|chunk)_\w", re.I)
MEANT = {"ann": "annot"}  # by folders that hold what others hold too; alone, Ann is a person
NO_MRI = re.compile(r"ct|pet", re.I)
SEGMENTATION = re.compile(r"seg[_-]", re.I)  # that a file's name begins with
LOOKED_AT = 5  # images with a name like a label map's whose content is looked at
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


def take_inventory(folder: Path, config: Any) -> list[Entry]:
    """Returns all images in a folder and below it, judged by their names.

    A few images are looked at, whose names leave it open whether they are label maps.

    Args:
        folder: Path of the folder.
        config: `DataConfig`: `include`, `exclude`, `subject_pattern`, `suffix` and `plane`.

    Raises:
        DatasetError: If several kinds of image remain and none is the plain one.
    """
    entries = list(find_entries(folder, config.include))
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
    if pattern is None:
        _name_kinds_by_folders(images)
    for rule in (
        _leave_oasis_kinds,
        _leave_templates,
        _leave_augmented,
        _leave_drawn,
        _leave_labels,
        _leave_contrasts,
        _name_the_nameless,
        _leave_planes,
        _leave_kinds,
    ):
        rule([entry for entry in images if entry.taken], folder, config)
    _leave_seconds([entry for entry in images if entry.taken])
    return entries


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


def _name_kinds_by_folders(entries: list[Entry]) -> None:
    """Adds a folder to the kind of images that lie in several, as `raw/P01` and `bet/P01`.

    These are folders of a word that says neither a visit nor a place nor a class.
    """
    places = [
        (entry, folder, place) for entry in entries for folder, place in _folders_of_kinds(entry)
    ]
    folders = collections.defaultdict(set)
    for _, folder, place in places:
        folders[place].add(folder.casefold())
    several = [found for found in folders.values() if len(found) > 1]
    words = set().union(*several) if len(several) > 1 else set()
    for entry, folder, _ in places:
        if folder.casefold() in words:
            names = entry.names
            entry.names = dataclasses.replace(
                names,
                kind=f"{MEANT.get(folder.casefold(), folder)}_{names.kind}".strip("_"),
                session="" if names.session == folder else names.session,
                group="" if names.group == folder else names.group,
            )


def _folders_of_kinds(entry: Entry) -> Iterator[tuple[str, tuple]]:
    """Yields each folder that may name a kind, and the image's path without the folder's name."""
    *folders, _ = entry.relative.parts
    for depth, folder in enumerate(folders):
        if may_name_kind(folder) and folder.casefold() != entry.names.subject.casefold():
            yield folder, (entry.volume, *folders[:depth], "", *folders[depth + 1 :], entry.stem)


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
        name = plain[-1] if plain else readable(PurePath(folder.resolve().name)).name
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
    # If all are called so, in folders of persons, they are brains: `001/T1_MNI152` and so on.
    if entries and all(e.reason and e.names.subject in e.relative.parts[:-1] for e in entries):
        for entry in entries:
            entry.reason = ""


def _leave_drawn(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out overlays, thumbnails and the like by their names, unless all have such names."""
    drawn = [
        entry
        for entry in entries
        if DRAWN_WORD.search(entry.names.kind.replace("_", " "))
        or any(map(DRAWN_WORD.fullmatch, entry.relative.parts[:-1]))
    ]
    if len(drawn) == len(entries):
        return
    kept = _named_by_include(entries, drawn, config)
    for entry in drawn:
        if id(entry) not in kept:
            entry.reason = "drawn"


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
        or SEGMENTATION.match(entry.path.name)
        or any(map(LABEL_FOLDER.fullmatch, folders))
    )


def _may_be_brain(entry: Entry) -> bool:
    """Tells whether the words that are a label map's may also say something else."""
    texts = [entry.names.kind.replace("_", " "), *entry.relative.parts[:-1]]
    certain = (LABEL_WORD.search(DOUBTFUL_LABEL.sub("", text)) for text in texts)
    return not any(certain) and not SEGMENTATION.match(entry.path.name)


def _shows_brain(entry: Entry) -> bool:
    """Tells whether an image can be read, and is no label map by its content."""
    try:
        if entry.volume:
            return not looks_like_labels(read_volume(entry.path).voxels)
        return not looks_like_labels(read_pictures([entry.path], "")[0][0])
    except VolumeError:
        return False


def is_freesurfer(entry: Entry) -> bool:
    """Tells whether an image is one that FreeSurfer makes, in its folder `mri`."""
    return _is_plain(entry) and entry.path.parent.name == "mri"


def _is_plain(entry: Entry) -> bool:
    """Tells whether an image is of a known plain kind; FreeSurfer's `brainmask.mgz` is a brain."""
    kind = entry.names.kind.lower()
    return kind in STRIPPED + HEADS and (kind != "brainmask" or entry.path.suffix == ".mgz")


def _leave_contrasts(entries: list[Entry], folder: Path, config: Any) -> None:
    """Leaves out all contrasts but the wanted one: `--suffix`, else T1, else the only one.

    CT and PET are left out beside images of no known contrast, which are then MRI, as in folders
    `MR` and `CT`. Beside T1 images, unknown kinds that are not more frequent are left out too.

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
    if found and all(map(NO_MRI.fullmatch, found)) and "" in contrasts.values():
        for entry in entries:
            entry.reason = "contrast" if contrasts[id(entry)] else ""
        found = set()
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
    FLAIR, and `T1_PD_07` may be of a person with Parkinson's disease. Each b-value is a contrast.
    """
    name, *folders = reversed(entry.relative.parts)
    bids = BIDS.fullmatch(entry.stem)
    own = bids["suffix"] if bids else entry.names.kind.replace("_", " ")
    if re.fullmatch(B_VALUE, own, re.I):
        return own.lower()
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
            f"one. Choose one of {', '.join(glob for glob, _ in globs.most_common(6))}. If they "
            "are visits or persons, say so with --subject-pattern"
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
            if key in first and first[key].path.parent != entry.path.parent:
                place = entry.relative.parent.as_posix()
                entry.names = dataclasses.replace(entry.names, repeat=place)
                key = key[0], place
            if key in first:
                entry.reason = "second"
            first.setdefault(key, entry)


def _rank(path: Path) -> int:
    """Returns the place of a file's format among those of one image."""
    suffixes = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES)
    return next(n for n, suffix in enumerate(suffixes) if path.name.lower().endswith(suffix))
