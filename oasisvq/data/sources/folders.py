"""Reads a folder of volumes or of pictures; their paths name the subjects."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from oasisvq.core.errors import DatasetError, VolumeError
from oasisvq.data.filenames import compile_pattern, names_in_path
from oasisvq.data.oasis import OASIS1_IMAGES, OASIS2_IMAGE
from oasisvq.data.sheets import find_sheets
from oasisvq.data.sources.base import WHOLE, BadScan, Finding, Scan, Shard, Source, in_parallel
from oasisvq.data.volumes import cut_volume, guarded, is_volume, read_volume

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST_SIDE = 4096  # pixels
# Label maps, which lie beside brains.
NOT_BRAINS = re.compile(r"^seg_|_fseg|_seg\.", re.I)
# The images of OASIS by their names, for other folders, and the directions of their axes.
IMAGES = {**OASIS1_IMAGES, "oasis2": OASIS2_IMAGE}
NAMED = {
    kind: re.compile(place.rpartition("/")[2].format(r"\w+") + r"\.hdr", re.I)
    for kind, (place, _) in IMAGES.items()
}


class _Folder(Source):
    """A folder of files whose paths name subject, session and split."""

    def __init__(self, folder: Path, files: list[Path], config: Any):
        self.name, self.folder, self.config = folder.resolve().name, folder, config
        self.pattern = compile_pattern(config.subject_pattern)
        self.tables = find_sheets(folder)
        images = (path.with_suffix(".img") for path in files if path.suffix.lower() == ".hdr")
        self.fingerprint = [
            f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for path in [*files, *filter(Path.is_file, images), *self.tables]
        ]

    def sheets(self, fetch: bool) -> list[Path]:
        """Returns the paths of the tables in the folder, and of their code books."""
        return self.tables

    def _names(self, path: Path) -> tuple[str, str, int | None, str]:
        """Returns subject, session, slice number and split, see `names_in_path`."""
        return names_in_path(path.relative_to(self.folder), self.pattern, is_volume(path))


class Pictures(_Folder):
    """A folder of 8- or 16-bit grey slices, one per file."""

    def __init__(self, folder: Path, files: list[Path], config: Any):
        super().__init__(folder, files, config)
        self.groups = {}
        for path in files:
            subject, session, index, split = self._names(path)
            self.groups.setdefault((subject, session, split), []).append((path, index))
        self.count = len(self.groups)

    def scans(self, store: Any, shard: Shard = WHOLE) -> Iterator[Finding]:
        for key, (person, slices) in self._missing(sorted(self.groups.items()), store, shard):
            subject, session, split = person
            slices.sort(key=lambda entry: (entry[1] is None, entry[1] or 0, entry[0]))
            paths, indices = zip(*slices, strict=True)
            try:
                pictures = [read_picture(path) for path in paths]
            except VolumeError as error:
                yield BadScan(key, str(error))
            else:
                places = indices, [None] * len(paths)
                yield Scan(key, subject, session, split, "", pictures, *places)


class Volumes(_Folder):
    """A folder of volumes, cut into slices."""

    def __init__(self, folder: Path, files: list[Path], config: Any):
        super().__init__(folder, files, config)
        self.files, self.count = files, len(files)

    def scans(self, store: Any, shard: Shard = WHOLE) -> Iterator[Finding]:
        yield from in_parallel(self._scan, self._missing(self.files, store, shard))

    def _scan(self, keyed: tuple[str, Path]) -> Finding:
        """Returns the `Scan`, or the `BadScan`, of a volume, given as a pair of key and path."""
        key, path = keyed
        subject, session, _, split = self._names(path)
        kind = _oasis_kind(path)
        try:
            volume = read_volume(path, IMAGES[kind][1] if kind else "")
            slices = cut_volume(volume, self.config, path)
        except VolumeError as error:
            return BadScan(key, str(error))
        return Scan(key, subject, session, split, self.config.plane, *slices)


def open_folder(config: Any) -> Pictures | Volumes:
    """Returns the folder that `config.dataset` names as a source.

    Raises:
        DatasetError: If there is no such folder, no image in it, or images of both kinds.
    """
    folder = Path(config.dataset)
    if not config.dataset or not folder.is_dir():
        raise DatasetError(
            f"--dataset {config.dataset}: no such folder. Expected oasis, oasis1, oasis2, demo, or "
            "a folder of slices (.png, .jpg) or of volumes (.nii, .nii.gz, .hdr with .img)"
        )
    files = [
        path
        for path in sorted(filter(Path.is_file, folder.rglob("*")))
        if not NOT_BRAINS.search(path.name)
        # .DS_Store and the like, and what a Mac puts into archives
        and not any(p[0] == "." or p == "__MACOSX" for p in path.relative_to(folder).parts)
    ]
    volumes = _of_one_kind(folder, list(filter(is_volume, files)), config.oasis1_image)
    pictures = [path for path in files if path.name.lower().endswith(PICTURE_SUFFIXES)]
    if volumes and pictures:
        raise DatasetError(
            f"{folder}: holds slices ({pictures[0].name}) and volumes ({volumes[0].name}). "
            "Put them into two folders and choose one"
        )
    if not volumes and not pictures:
        raise DatasetError(
            f"{folder}: holds no images. Expected slices (.png, .jpg) or volumes (.nii, .nii.gz, "
            ".hdr with .img) in it or below it"
        )
    return Volumes(folder, volumes, config) if volumes else Pictures(folder, pictures, config)


def _oasis_kind(path: Path) -> str | None:
    """Returns the image of OASIS that a file has the name of, or `None`."""
    return next((kind for kind, name in NAMED.items() if name.fullmatch(path.name)), None)


def _of_one_kind(folder: Path, volumes: list[Path], wanted: str) -> list[Path]:
    """Returns a folder's volumes, only of the wanted image if it has several images of OASIS."""
    kinds = {path: _oasis_kind(path) for path in volumes}
    if len(set(kinds.values()) - {None, "oasis2"}) < 2:
        return volumes
    if wanted not in kinds.values():
        raise DatasetError(
            f"{folder}: holds volumes of several kinds "
            f"({', '.join(sorted(kind or 'others' for kind in set(kinds.values())))}), and no "
            f"{wanted} ones. Choose a kind with --oasis1-image"
        )
    return [path for path in volumes if kinds[path] in (wanted, "oasis2", None)]


def read_picture(path: Path) -> np.ndarray:
    """Reads a grey picture as float32 `(H, W)`, in the file's own scale.

    Raises:
        VolumeError: If it cannot be read, or is too large.
    """
    with guarded(path, "picture"), Image.open(path) as image:
        if max(image.size) > LARGEST_SIDE:
            raise VolumeError(
                f"{path}: {image.size[0]}x{image.size[1]} pixels. Expected at most "
                f"{LARGEST_SIDE} a side; take the file out of the folder"
            )
        grey = image if image.mode in ("L", "I;16", "I", "F") else image.convert("L")
        return np.asarray(grey, dtype=np.float32)
