"""What `--dataset` can name, read scan by scan: OASIS, invented subjects, or folders."""

import collections
import concurrent.futures
import dataclasses
import functools
import os
import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from oasisvq.data.sources.synthetic import invent_slices, load_template
from oasisvq.core.errors import ArchiveError, DatasetError, VolumeError
from oasisvq.data.filenames import names_in_path
from oasisvq.data.oasis import COLLECTIONS, OASIS1, OASIS1_IMAGES, OASIS2_IMAGE, find_sheet, image_of, session_folders, sessions_in_archive, sessions_in_folder, volumes_of, wanted_files
from oasisvq.data.registration import average_repeats, brain_mask, to_atlas
from oasisvq.data.demographics import SUFFIXES as SHEET_SUFFIXES
from oasisvq.data.demographics import read_sheet
from oasisvq.data.acquire import announce, archive_record, choose_parts, find_or_fetch_sheet, forget_record, supplied
from oasisvq.data.volumes import AXES, cut_slice, is_volume, read_volume, slice_indices

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST_SIDE = 4096  # pixels
MOST_THREADS = 8  # a session of OASIS-2 at work takes half a gigabyte

# Files beside the brains that are not brains: label maps.
NOT_BRAINS = re.compile(r"^seg_|_fseg|_seg\.", re.I)


@dataclasses.dataclass(frozen=True)
class Shard:
    """A machine's share of a job: the `number`-th, from 1, of `count`."""

    number: int
    count: int

    def of(self, items):
        """Its share of a list, in order: every `count`-th."""
        return items[self.number - 1 :: self.count]


WHOLE = Shard(1, 1)


@dataclasses.dataclass(frozen=True)
class Scan:
    """The slices of one session of one subject.

    Attributes:
        key: Text, unique in its source and the same in every run; scans are sorted by it.
        subject, session: Names; the session may be `""`.
        split: `"train"`, `"validation"`, `"test"`, or `""` where the source
            leaves it to us.
        plane: `"axial"`, `"coronal"`, `"sagittal"`, or `""` if unknown.
        pictures: Float32 arrays `(H, W)`, at least 0, in the scan's own scale.
        indices: The slices' numbers along the plane's axis, `None` if unknown.
        positions_mm: Their positions, `None` if unknown.
        source: The collection it is from, or `""` for that of all scans.
        notes: Texts on what was left out of it.
        origin: Name and SHA-256 of the archive it is from, or `()`.
    """

    key: str
    subject: str
    session: str
    split: str
    plane: str
    pictures: list
    indices: list
    positions_mm: list
    source: str = ""
    notes: list = dataclasses.field(default_factory=list)
    origin: tuple = ()

    def facts(self):
        """All but the pictures, as JSON knows it."""
        facts = {name: value for name, value in vars(self).items() if name != "pictures"}
        sizes = [list(picture.shape) for picture in self.pictures]
        return facts | {"kind": "scan", "sizes": sizes}


@dataclasses.dataclass(frozen=True)
class BadScan:
    """A scan that cannot be used, and why."""

    key: str
    problem: str
    origin: tuple = ()

    kind = "bad"

    def facts(self):
        return vars(self) | {"kind": self.kind}


@dataclasses.dataclass(frozen=True)
class FinishedPart:
    """An archive whose scans have all been read, and its size and SHA-256."""

    key: str
    record: dict
    origin: tuple = ()

    kind = "part"

    def facts(self):
        return vars(self) | {"kind": self.kind}


def open_source(hyperparameters, data_dir):
    """The source that `hyperparameters.dataset` names.

    Args:
        hyperparameters: `Hyperparameters`.
        data_dir: Path of the folder where the archives of OASIS are, or go to.

    Returns:
        `name`, `fingerprint` (a list of strings that changes with the data),
        `count` (of scans, or `None` if unknown), `needed()` (keys that a store lacks until all
        scans are made), `records()` (the archives at hand: name to size and SHA-256),
        `sheets(fetch)` (paths of its subject sheets, those not at hand downloaded if `fetch`) and
        `scans(store, shard)`, an iterator of the `Scan`s, `BadScan`s and `FinishedPart`s of a
        `Shard` that the `Store` does not hold yet. A share is of scans; of OASIS, of archives,
        so that none is read twice.

    Raises:
        DatasetError: If there is no such source, or nothing in it to read.
    """
    name = hyperparameters.dataset
    if name == "demo":
        return _Demo(hyperparameters)
    if name in COLLECTIONS:
        return _Archives(hyperparameters, data_dir)
    folder = Path(name)
    if not name or not folder.is_dir():
        raise DatasetError(
            f"--dataset {name}: no such folder. Expected oasis, oasis1, oasis2, demo, or a "
            "folder of slices (.png, .jpg) or of volumes (.nii, .nii.gz, .hdr with .img)"
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [
        path
        for path in files
        if not NOT_BRAINS.search(path.name)
        # .DS_Store and the like, and what a Mac puts into archives
        and not any(p[0] == "." or p == "__MACOSX" for p in path.relative_to(folder).parts)
    ]
    volumes = [path for path in files if is_volume(path)]
    volumes = _of_one_kind(folder, volumes, hyperparameters.oasis1_image)
    pictures = [path for path in files if path.name.lower().endswith(PICTURE_SUFFIXES)]
    if volumes and pictures:
        raise DatasetError(
            f"{folder}: holds slices ({pictures[0].name}) and volumes ({volumes[0].name}). "
            "Put them into two folders and choose one"
        )
    if volumes:
        return _Volumes(folder, volumes, hyperparameters)
    if pictures:
        return _Pictures(folder, pictures, hyperparameters)
    raise DatasetError(
        f"{folder}: holds no images. Expected slices (.png, .jpg) or volumes (.nii, .nii.gz, "
        ".hdr with .img) in it or below it"
    )


class _Source:
    """What sources without archives and sheets share; their scans are known by their places."""

    def needed(self):
        return [_key(number) for number in range(self.count)]

    def _missing(self, items, store, shard):
        """Of the list of all its scans, pairs of place and item: those that are to be made."""
        return [pair for pair in shard.of(list(enumerate(items))) if _key(pair[0]) not in store]

    def records(self):
        return {}

    def sheets(self, fetch):
        return []


class _Demo(_Source):
    name = "demo"

    def __init__(self, hyperparameters):
        self.hyperparameters = hyperparameters
        self.fingerprint = ["demo 1"]  # raise the number when the invention changes
        self.count = hyperparameters.demo_subjects

    def scans(self, store, shard=WHOLE):
        chosen = self.hyperparameters
        cut = (chosen.plane, chosen.slice_range, chosen.slice_unit, chosen.slices_per_volume)
        template = load_template()
        for number, _ in self._missing(range(self.count), store, shard):
            pictures, indices, positions = invent_slices(template, number, *cut)
            if not len(indices):
                raise DatasetError("--dataset demo: no slice of the template is in --slice-range")
            yield Scan(
                _key(number), f"invented_{number:04d}", "", "", chosen.plane,
                list(pictures), indices.tolist(), positions.tolist(),
            )  # fmt: skip


class _Archives:
    """OASIS-1, OASIS-2 or both, from archives or what was unpacked of them."""

    count = None  # how many sessions an archive holds is seen when it is read

    def __init__(self, hyperparameters, data_dir):
        self.name = hyperparameters.dataset
        self.hyperparameters, self.data_dir = hyperparameters, data_dir
        self.parts = choose_parts(self.name, hyperparameters.disc_numbers, data_dir)
        folders = [part for part in self.parts if part.path and part.path.is_dir()]
        files = [file for part in folders for file in self._files(part)]
        self.fingerprint = ["archives 2", *(part.name for part in self.parts), *files]

    def records(self):
        """The archives at hand, by name: size and SHA-256."""
        archives = [part for part in self.parts if part.path and part.path.is_file()]
        return {part.name: archive_record(part.path) for part in archives}

    def sheets(self, fetch):
        """Paths of the subject sheets, those not at hand downloaded if `fetch`."""
        find = find_or_fetch_sheet if fetch else find_sheet
        paths = [find(self.data_dir, collection) for collection in COLLECTIONS[self.name]]
        return [path for path in paths if path]

    def _files(self, part):
        """The wanted files of an unpacked part, with sizes and times."""
        image = image_of(part.collection, self.hyperparameters.oasis1_image)
        return [
            f"{place.name}/{inside} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for place in session_folders(part.path, part.collection)
            for path, inside in wanted_files(place, image)
        ]

    def needed(self):
        return [part.name for part in self.parts]

    def scans(self, store, shard=WHOLE):
        parts = shard.of(self.parts)
        announce([part for part in parts if part.name not in store], self.data_dir)
        parts = [part for part in parts if part.path or part.name not in store]
        for part, record in supplied(parts, self.data_dir):
            origin = (part.name, record.get("sha256"))
            store.forget_others(*origin)
            if part.name not in store:
                yield from self._scans_of(part, origin, store)
                yield FinishedPart(part.name, record, origin)

    def _scans_of(self, part, origin, store):
        """The scans of one part that the store does not hold."""
        image = image_of(part.collection, self.hyperparameters.oasis1_image)
        read = sessions_in_folder if part.path.is_dir() else sessions_in_archive
        sessions = read(part.path, part.collection, image, store)
        sessions = (session for session in sessions if session.name not in store)
        scan = functools.partial(self._scan, collection=part.collection, image=image, origin=origin)
        try:
            yield from _in_parallel(scan, sessions)
        except ArchiveError:  # what came before the damage may be damaged too
            store.forget_others(part.name, None)
            forget_record(part.path)
            raise

    def _scan(self, session, collection, image, origin):
        """A session's slices; of several scans the mean, and OASIS-2 brought to the atlas."""
        kind = self.hyperparameters.oasis1_image
        try:
            volumes, names, notes = volumes_of(session, image)
            if collection is OASIS1 and kind != "raw" and len(volumes) > 1:
                raise VolumeError(
                    f"{session.name}: expected one {kind} image. Received: {', '.join(names)}. "
                    "Take out those that do not belong there"
                )
            volume, left_out = average_repeats(volumes, names)
            notes += [f"{name}: left out of the mean of its session" for name in left_out]
            if collection is not OASIS1:
                volume = _like_oasis1(volume, session.name, kind)
            slices = _cut(volume, self.hyperparameters, session.name)
        except VolumeError as error:
            return BadScan(session.name, str(error), origin)
        subject, _, number = session.name.rpartition("_")
        plane = self.hyperparameters.plane
        return Scan(
            session.name, subject, number, "", plane, *slices, collection.name, notes, origin
        )


def _in_parallel(function, items):
    """Yields `function(item)` in the order of the items, on all cores.

    Threads will do: decompression and registration, which take the time, run outside of
    Python's lock. No more than one item a thread, and one, is in memory.
    """
    cores = min(os.cpu_count() or 1, MOST_THREADS)
    waiting = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _like_oasis1(volume, name, kind):
    """A raw head of OASIS-2 as OASIS-1's chosen images are: in the atlas or only turned
    like it, without the skull or whole."""
    volume = to_atlas(volume, name, scaling=kind.startswith("t88"))
    if kind != "t88_masked_gfc":
        return volume
    return dataclasses.replace(volume, voxels=volume.voxels * brain_mask())


class _Folder(_Source):
    """A folder of files; subject, session and split come from their paths."""

    def __init__(self, folder, files, hyperparameters):
        self.name = folder.resolve().name
        self.folder = folder
        self.files = files
        self.hyperparameters = hyperparameters
        self.pattern = _compiled(hyperparameters.subject_pattern)
        headers = [path for path in files if path.suffix.lower() == ".hdr"]
        images = [path.with_suffix(".img") for path in headers]
        sheets = [path for path in folder.iterdir() if path.suffix.lower() in SHEET_SUFFIXES]
        watched = [*files, *filter(Path.is_file, images), *sorted(sheets)]
        self.fingerprint = [
            f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for path in watched
        ]

    def sheets(self, fetch):
        paths = sorted(p for p in self.folder.iterdir() if p.suffix.lower() in SHEET_SUFFIXES)
        return [path for path in paths if read_sheet(path) is not None][:1]

    def _names(self, path):
        """Subject, session, slice number (or `None`) and split, from a file's path."""
        return names_in_path(path.relative_to(self.folder), self.pattern, is_volume(path))


class _Pictures(_Folder):
    """A folder of 8- or 16-bit grey slices, one file each."""

    def __init__(self, folder, files, hyperparameters):
        super().__init__(folder, files, hyperparameters)
        self.groups = {}
        for path in files:
            subject, session, index, split = self._names(path)
            self.groups.setdefault((subject, session, split), []).append((path, index))
        self.count = len(self.groups)

    def scans(self, store, shard=WHOLE):
        groups = self._missing(sorted(self.groups.items()), store, shard)
        for number, ((subject, session, split), slices) in groups:
            slices.sort(key=lambda entry: (entry[1] is None, entry[1] or 0, entry[0]))
            paths, indices = zip(*slices, strict=True)
            try:
                pictures = [read_picture(path) for path in paths]
            except VolumeError as error:
                yield BadScan(_key(number), str(error))
            else:
                places = [list(indices), [None] * len(paths)]
                yield Scan(_key(number), subject, session, split, "", pictures, *places)


class _Volumes(_Folder):
    """A folder of volumes, cut into slices."""

    def __init__(self, folder, files, hyperparameters):
        super().__init__(folder, files, hyperparameters)
        self.count = len(files)

    def scans(self, store, shard=WHOLE):
        yield from _in_parallel(self._scan, self._missing(self.files, store, shard))

    def _scan(self, numbered):
        number, path = numbered
        subject, session, _, split = self._names(path)
        try:
            kind = _oasis_kind(path)
            volume = read_volume(path, ORIENTED[kind] if kind else None)
            slices = _cut(volume, self.hyperparameters, path)
        except VolumeError as error:
            return BadScan(_key(number), str(error))
        plane = self.hyperparameters.plane
        return Scan(_key(number), subject, session, split, plane, *slices)


def _key(number):
    """The key of a scan that is known by its place in its source."""
    return f"{number:08d}"


def _cut(volume, hyperparameters, name):
    """The wanted slices of a volume: pictures, indices, and positions in mm.

    Raises:
        VolumeError: If the wanted range lies outside of it.
    """
    axis = AXES[hyperparameters.plane]
    size, origin = volume.voxels.shape[axis], volume.origin[axis]
    spacing = volume.voxel_size[axis]
    indices = slice_indices(
        size, spacing, origin, hyperparameters.slice_range, hyperparameters.slice_unit,
        hyperparameters.slices_per_volume,
    )  # fmt: skip
    if not len(indices):
        raise VolumeError(
            f"{name}: no slice lies in --slice-range. Its {hyperparameters.plane} slices lie from "
            f"{origin:g} to {origin + (size - 1) * spacing:g} mm"
        )
    pictures = [cut_slice(volume, hyperparameters.plane, index) for index in indices]
    return pictures, indices.tolist(), (origin + indices * spacing).tolist()


# The images of OASIS by their names alone, as they lie about in other folders.
NAMED = {kind: re.compile(pattern.rpartition("/")[2].format(r"\w+") + r"\.hdr", re.I)
         for kind, (pattern, _) in {**OASIS1_IMAGES, "oasis2": OASIS2_IMAGE}.items()}  # fmt: skip
ORIENTED = {kind: axes for kind, (_, axes) in {**OASIS1_IMAGES, "oasis2": OASIS2_IMAGE}.items()}


def _oasis_kind(path):
    """Which image of OASIS a file is by its name, or `None`."""
    return next((kind for kind, name in NAMED.items() if name.fullmatch(path.name)), None)


def _of_one_kind(folder, volumes, wanted):
    """All volumes of a folder; if there are several kinds of OASIS's, those of the wanted one."""
    kinds = {path: _oasis_kind(path) for path in volumes}
    if len(set(kinds.values()) - {None, "oasis2"}) < 2:
        return volumes
    chosen = [path for path, kind in kinds.items() if kind in (wanted, "oasis2", None)]
    if wanted not in kinds.values():
        raise DatasetError(
            f"{folder}: holds volumes of several kinds "
            f"({', '.join(sorted(kind or 'others' for kind in set(kinds.values())))}), and no "
            f"{wanted} ones. Choose a kind with --oasis1-image"
        )
    return chosen


def read_picture(path):
    """Reads a grey picture as float32 `(H, W)`, in the file's own scale.

    Raises:
        VolumeError: If it cannot be read, or is absurdly large.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if max(image.size) > LARGEST_SIDE:
                raise VolumeError(
                    f"{path}: {image.size[0]}x{image.size[1]} pixels. Expected at most "
                    f"{LARGEST_SIDE} a side; take the file out of the folder"
                )
            grey = image if image.mode in ("L", "I;16", "I", "F") else image.convert("L")
            return np.asarray(grey, dtype=np.float32)
    except VolumeError:
        raise
    # Pillow raises OSError, SyntaxError, ValueError and others on damaged files.
    except Exception as error:
        raise VolumeError(
            f"{path}: cannot be read as a picture ({type(error).__name__}: {error}). "
            "Fetch the file again, or take it out of the folder"
        ) from error


def _compiled(pattern):
    if not pattern:
        return None
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DatasetError(f"--subject-pattern {pattern!r}: {error}") from error
    if "subject" not in compiled.groupindex:
        raise DatasetError(
            f"--subject-pattern {pattern!r}: expected a group (?P<subject>...), and optionally "
            "(?P<session>...) and (?P<index>...)"
        )
    return compiled
