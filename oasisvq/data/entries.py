"""The images below a folder, each of them taken, or left out for a reason."""

import dataclasses
import math
import os
import re
import stat
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any

from oasisvq.core.errors import VolumeError
from oasisvq.data.filenames import Names
from oasisvq.data.name_words import SUFFIXES, TEMPLATE
from oasisvq.data.pictures import PICTURE_SUFFIXES, picture_size
from oasisvq.data.volumes import is_volume

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
MOST_TIMES = 3  # as large or as small as the usual picture
REASONS = {  # why an image is left out
    "label": "a label map or mask",
    "contrast": "another contrast",
    "channel": "another channel",
    "kind": "another kind of image",
    "variant": "another variant of an image that is taken",
    "plane": "another plane than --plane",
    "augmented": "an augmented copy",
    "drawn": "drawn of other images",
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
        pixels: Its pixels or voxels, as its header claims, once that has been read.
    """

    path: Path
    relative: PurePath
    volume: bool = False
    names: Names = Names("")
    reason: str = ""
    problem: str = ""
    pixels: int = 0

    @property
    def taken(self) -> bool:
        """Whether the file is taken."""
        return not self.reason and not self.problem

    @property
    def stem(self) -> str:
        """The file's name without suffixes."""
        return SUFFIXES.sub("", self.path.name)


def find_entries(folder: Path, wanted: Iterable[str]) -> Iterator[Entry]:
    """Yields the images below a folder, links after what is there itself, by their names.

    A linked folder or image that is there already is not taken again. Folders of derived data are
    entered only if a glob of `--include` names them.
    """
    seen: set[tuple[int, int]] = set()

    def walk(place: Path) -> Iterator[Entry]:
        facts = place.stat()
        if (facts.st_dev, facts.st_ino) in seen:
            yield Entry(place, readable(place.relative_to(folder)), reason="loop")
            return
        seen.add((facts.st_dev, facts.st_ino))
        found = sorted(os.scandir(place), key=lambda item: (item.is_symlink(), item.name))
        beside = {item.name for item in found}
        for item in found:
            path = Path(item.path)
            relative = readable(path.relative_to(folder))
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


def readable(path: PurePath) -> PurePath:
    """Returns a path whose text can be written as UTF-8; other paths differ from it."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return PurePath(text)


def leave_sizes(entries: list[Entry]) -> None:
    """Leaves out pictures that are many times larger or smaller than the others."""
    sizes = {}
    for entry in entries:
        try:
            sizes[id(entry)] = picture_size(entry.path)
            entry.pixels = math.prod(sizes[id(entry)])
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
