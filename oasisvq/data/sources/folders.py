"""A folder of volumes, or of slices as pictures; who they show is read from their paths."""

import abc
import collections
import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.core.words import counted
from oasisvq.data.entries import REASONS, Entry, leave_sizes
from oasisvq.data.intensities import FEW_LABELS, looks_like_labels
from oasisvq.data.inventory import IMAGES, is_freesurfer, oasis_kind, plane_of, take_inventory
from oasisvq.data.pictures import read_pictures
from oasisvq.data.sheets import find_sheets
from oasisvq.data.sides import NOT_KNOWN, sides_of_pictures
from oasisvq.data.sources.base import (
    WHOLE,
    BadScan,
    Finding,
    Scan,
    Shard,
    Source,
    in_parallel,
    registration,
)
from oasisvq.data.sources.named import check_dataset
from oasisvq.data.volumes import (
    AXES,
    LARGEST_SCAN,
    LEAST_PACKED,
    Header,
    Volume,
    bytes_of,
    choose_pixel_size,
    cut_volume,
    read_header,
    read_volume,
)

FEW_PICTURES = 10
MOST_KINDS = 6  # that a line names
LABELS = "{}: looks like a label map: few numbers, in even areas. Leave it out with --exclude"


class Folder(Source):
    """A folder of files; subject, session and split come from their paths.

    Attributes:
        entries: All images found, each with the reason if it is left out.
        scans_of: The taken entries of each scan, and entries that cannot be read by themselves.
    """

    def __init__(
        self,
        folder: Path,
        entries: list[Entry],
        config: Any,
        headers: dict[int, Header] | None = None,
    ):
        self.name, self.folder, self.config = folder.resolve().name, folder, config
        self.headers = headers or {}
        found = [self.headers[id(e)] for e in entries if e.taken and id(e) in self.headers]
        if found:
            self.pixel_size = config.pixel_size or choose_pixel_size(found, config.plane)
        self.entries = entries
        self.tables = find_sheets(folder)
        taken = [entry.path for entry in entries if entry.taken]
        images = (path.with_suffix(".img") for path in taken if path.suffix.lower() == ".hdr")
        files = [*taken, *filter(Path.is_file, images), *filter(Path.is_file, self.tables)]
        self.fingerprint = ["folder 3"] + [
            f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}".encode(
                errors="backslashreplace"
            ).decode()
            for path in files
        ]
        scans = collections.defaultdict(list)
        for entry in entries:
            if entry.taken:
                scans[self._key(entry)].append(entry)
        broken = [[entry] for entry in entries if entry.problem and not entry.reason]
        self.scans_of = [scans[key] for key in sorted(scans)] + broken
        self.count = len(self.scans_of)

    def _key(self, entry: Entry) -> tuple:
        """Returns what the entries of one scan share."""
        names = entry.names
        return names.subject, names.session, names.group, names.split

    def sheets(self, fetch: bool) -> list[Path]:
        """Returns the paths of the tables in the folder, and of their code books."""
        return self.tables

    def inventory(self) -> list[Entry]:
        """Returns all images found, each with the reason if it is left out."""
        return self.entries

    def listed_scans(self) -> list[tuple]:
        scans = [entries for entries in self.scans_of if entries[0].taken]
        return [
            (names.subject, names.session, names.split, self._slices(entries), names.group)
            for entries in scans
            for names in [entries[0].names]
        ]

    def _slices(self, entries: list[Entry]) -> int:
        """Returns the number of slices of a scan."""
        return len(entries)

    def describe(self) -> list[str]:
        """Returns lines on what names leave in doubt."""
        lines = [f"Pixels of {self.pixel_size:g} mm"] if self.pixel_size else []
        if self.config.pixel_size and not self.pixel_size:
            lines.append("Pictures do not say how large their pixels are: --pixel-size is ignored")
        lines += self._kinds() + self._doubts()
        classes = collections.defaultdict(set)
        for entry in self.entries:
            if entry.taken:
                classes[entry.names.subject].add(entry.names.group)
        several = sorted(subject for subject, groups in classes.items() if len(groups) > 1)
        if several:
            lines.append(
                f"In several classes: {counted(len(several), 'person')}, as {several[0]}. Each is "
                "one person, for a person must not be in two splits"
            )
        if len(classes) == 1:
            lines.append(
                f"All images are of one person, {min(classes)}, by their names. If they show "
                "several, say which part of a path is the person with --subject-pattern"
            )
        return lines

    def _kinds(self) -> list[str]:
        """Returns a line on the kinds of image that are taken, if their names tell any."""
        kinds = collections.Counter(
            re.sub(r"_?\d{2,}", "", entry.names.kind) or "without a kind"
            for entry in self.entries
            if entry.taken
        )
        known = [f"{kind} {count:,}" for kind, count in kinds.most_common(MOST_KINDS)]
        more = f" and {len(kinds) - MOST_KINDS} more" if len(kinds) > MOST_KINDS else ""
        told = set(kinds) - {"without a kind"}
        return [f"Kinds of image: {', '.join(known)}{more}"] if told else []

    def _doubts(self) -> list[str]:
        """Returns lines on names that could be read in another way."""
        remedy = "If they are different persons, say what is the person with --subject-pattern"
        taken = [entry for entry in self.entries if entry.taken]
        lines = []
        guessed = [entry for entry in taken if entry.names.guessed]
        if guessed:
            names = guessed[0].names
            lines.append(
                f"Last numbers read as scans of one person: {counted(len(guessed), 'name')}. "
                f"{guessed[0].relative} is scan {names.session} of {names.subject}. {remedy}"
            )
        pictures = [entry for entry in taken if not entry.volume]
        persons = {entry.names.subject for entry in pictures}
        numbered = [e for e in pictures if len(re.findall(r"\d+", e.stem)) > 1]
        if 2 * len(persons) > len(pictures) >= FEW_PICTURES and 2 * len(numbered) > len(pictures):
            lines.append(
                f"Nearly every picture is a person of its own: {counted(len(persons), 'person')}, "
                f"as {numbered[0].names.subject} of {numbered[0].relative}. If several show one "
                "person, say what is the person with --subject-pattern"
            )
        places = [e for e in taken if e.names.repeat == e.relative.parent.as_posix()]
        if places:
            lines.append(
                f"Same person, session and kind as others in other folders: "
                f"{counted(len(places), 'image')}, as {places[0].relative}, read as repeats. "
                f"{remedy}"
            )
        return lines

    def scans(self, store: Any, shard: Shard = WHOLE) -> Iterator[Finding]:
        scans = self._missing(self.scans_of, store, shard)
        # Small files can claim much: of such scans no more than one of the largest is in memory.
        yield from in_parallel(
            self._finding, scans, lambda keyed: _unpacked_from_nothing(keyed[1]), LARGEST_SCAN
        )

    def _finding(self, keyed: tuple[str, list[Entry]]) -> Finding:
        """Returns the slices of a scan, or why there are none."""
        key, entries = keyed
        if entries[0].problem:
            return BadScan(key, entries[0].problem)
        try:
            _check_sum(entries)
            plane, sides, slices, notes = self._read(entries)
        except VolumeError as error:
            return BadScan(key, str(error))
        names = entries[0].names
        who = names.subject, names.session, names.split, plane
        more = {"repeat": self._repeat(entries), "group": names.group, "sides": sides}
        return Scan(key, *who, *slices, notes=notes, **more)

    def _repeat(self, entries: list[Entry]) -> str:
        """Returns which repeat of its session a scan is; `""` if repeats are averaged."""
        return ""

    @abc.abstractmethod
    def _read(self, entries: list[Entry]) -> tuple[str, str, tuple, list[str]]:
        """Returns the plane, the sides, the slices (see `cut_volume`) and notes of a scan."""


class Slices(Folder):
    """A folder of slices, one file each: pictures, or volumes one slice thick."""

    def _key(self, entry: Entry) -> tuple:
        return *super()._key(entry), entry.names.repeat

    def _repeat(self, entries: list[Entry]) -> str:
        return entries[0].names.repeat

    def _read(self, entries: list[Entry]) -> tuple[str, str, tuple, list[str]]:
        entries.sort(key=lambda e: (e.names.index is None, e.names.index or 0, e.relative))
        indices = [entry.names.index for entry in entries]
        if not entries[0].volume:
            paths = [entry.path for entry in entries]
            pictures, notes = read_pictures(paths, entries[0].names.subject)
            # A picture's name may tell its plane, but not where the subject's left is.
            planes, positions = {""}, [None] * len(paths)
            sides = sides_of_pictures([path.name for path in paths], pictures)
        else:
            named = [plane_of(entry.relative) for entry in entries]
            pairs = zip(entries, named, strict=True)
            volumes = [read_volume(entry.path, plane=plane) for entry, plane in pairs]
            pixel_size = self.pixel_size or 0.0
            cuts = [cut_volume(one, self.config, self.name, pixel_size) for one in volumes]
            pictures, positions = ([cut[n][0] for cut in cuts] for n in (0, 2))
            planes, sides = {volume.plane for volume in volumes}, _sides(volumes)
            notes = [note for volume in volumes for note in volume.notes]
        brains = [not looks_like_labels(picture) for picture in pictures]
        if not any(brains):
            raise VolumeError(LABELS.format(entries[0].path))
        labels = itertools.compress(entries, (not shows_brain for shows_brain in brains))
        notes = [*notes, *(LABELS.format(entry.path) for entry in labels)]
        columns = pictures, indices, positions
        slices = tuple(list(itertools.compress(column, brains)) for column in columns)
        plane = planes.pop() if len(planes) == 1 else ""
        return plane, sides, slices, notes


class Volumes(Folder):
    """A folder of volumes, cut into slices; the repeats of a session are averaged."""

    whole_heads = True

    def _slices(self, entries: list[Entry]) -> int:
        size = self.headers[id(entries[0])].shape[AXES[self.config.plane]]
        low, high = self.config.slice_range
        in_range = size if self.config.slice_unit == "mm" else int((high - low) * (size - 1)) + 1
        return min(self.config.slices_per_volume or in_range, in_range)

    def _read(self, entries: list[Entry]) -> tuple[str, str, tuple, list[str]]:
        volumes = [self._volume(entry) for entry in entries]
        volume, notes = volumes[0], [note for one in volumes for note in one.notes]
        if len(volumes) > 1:
            volume, left_out = registration().average_repeats(
                volumes, [str(e.path) for e in entries]
            )
            notes += [f"{name}: left out of the mean of its session" for name in left_out]
        slices = cut_volume(volume, self.config, entries[0].path, self.pixel_size or 0.0)
        return self.config.plane, _sides(volumes), slices, notes

    def _volume(self, entry: Entry) -> Volume:
        kind = oasis_kind(entry.path)
        volume = read_volume(entry.path, IMAGES[kind][1] if kind else "")
        # FreeSurfer's own images may be cut off at 255, and are even where they are.
        if looks_like_labels(volume.voxels, FEW_LABELS if is_freesurfer(entry) else None):
            raise VolumeError(LABELS.format(entry.path))
        if volume.voxels.size and 0 < volume.voxels.min() == volume.voxels.max():
            raise VolumeError(
                f"{entry.path}: every voxel is {volume.voxels.min():g}, so it shows no head. Fetch "
                "the file again, or take it out of the folder"
            )
        return volume


def _unpacked_from_nothing(entries: list[Entry]) -> float:
    """Returns how many pixels of a scan are more than files of their sizes hold of a real one."""
    taken = [entry for entry in entries if entry.taken]
    real = sum(bytes_of(entry.path) for entry in taken) / LEAST_PACKED
    return max(sum(entry.pixels for entry in taken) - real, 0)


def _check_sum(entries: list[Entry]) -> None:
    """Raises a `VolumeError` if the files of a scan would unpack to more than any scan does."""
    pixels = sum(entry.pixels for entry in entries)
    if pixels > LARGEST_SCAN and _unpacked_from_nothing(entries):
        raise VolumeError(
            f"{entries[0].path}: the {len(entries)} files of its scan have {pixels:,} pixels or "
            f"voxels, too many for files of their sizes. Expected at most {LARGEST_SCAN:,}; take "
            "some out with --exclude"
        )


def _sides(volumes: list[Volume]) -> str:
    """Returns the sides of slices of volumes: those of their plane, unless a header has none."""
    oriented = all(volume.header and volume.header.oriented for volume in volumes)
    return "" if oriented else NOT_KNOWN


def open_folder(config: Any) -> Folder:
    """Returns the folder that `config.dataset` names as a source.

    Raises:
        DatasetError: If there is no such folder, no brain in it, brains of several kinds, or
            pictures that name nobody.
    """
    check_dataset(config.dataset)
    folder = Path(config.dataset)
    entries = take_inventory(folder, config)
    taken = [entry for entry in entries if entry.taken]
    volumes = [entry for entry in taken if entry.volume]
    pictures = [entry for entry in taken if not entry.volume]
    if volumes and pictures:
        raise DatasetError(
            f"{folder}: holds slices ({pictures[0].relative}) and volumes ({volumes[0].relative}). "
            f"Choose one with --exclude '*{pictures[0].path.suffix}' or --include"
        )
    if not taken and not any(entry.problem for entry in entries):
        raise DatasetError(f"{folder}: holds no images to slice. {_nothing(entries)}")
    if pictures:
        leave_sizes(pictures)
        return Slices(folder, entries, config)
    headers = _headers(volumes)
    thin = [entry for entry in volumes if id(entry) in headers and headers[id(entry)].is_slice]
    thick = [entry for entry in volumes if id(entry) in headers and not headers[id(entry)].is_slice]
    if len(thin) > len(thick):
        for entry in thick:
            entry.reason = "thick"
        return Slices(folder, entries, config, headers)
    for entry in thin:
        entry.reason = "thin"
    return Volumes(folder, entries, config, headers)


def _headers(volumes: list[Entry]) -> dict[int, Header]:
    """Returns the header of each volume, by the entry's identity, as far as they can be read."""
    headers = {}
    for entry in volumes:
        try:
            header = headers[id(entry)] = read_header(entry.path, plane=plane_of(entry.relative))
            entry.pixels = math.prod(header.shape)
        except VolumeError as error:
            entry.problem = str(error)
    return headers


def _nothing(entries: list[Entry]) -> str:
    """Returns what a folder without brains holds, and what may help."""
    if not entries:
        return (
            "Expected slices (.png, .jpg, .tif) or volumes (.nii, .nii.gz, .mgz, .hdr with .img) "
            "in it or below it"
        )
    counts = collections.Counter(entry.reason for entry in entries)
    first = {entry.reason: entry.relative for entry in reversed(entries)}
    parts = [
        f"{count} {REASONS[reason]} ({first[reason]})" for reason, count in counts.most_common()
    ]
    return f"Left out: {'; '.join(parts)}. Give another folder, or --include and --suffix"
