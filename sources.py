"""What `--dataset` can name, read scan by scan: invented subjects, folders of slices or volumes."""

import dataclasses
import re
import warnings
from pathlib import Path

import numpy as np
import pandas
from PIL import Image

from demo import invent_slices, load_template
from errors import DatasetError, VolumeError
from names import names_in_path
from volumes import AXES, cut_slice, is_volume, read_volume, slice_indices

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
LARGEST_SIDE = 4096  # pixels

# Files beside the brains that are not brains: label maps.
NOT_BRAINS = re.compile(r"^seg_|_fseg|_seg\.", re.I)
# What an unpacked OASIS disc holds beside the atlas volumes: Analyze files whose orientation
# stands in no header, so that each slice would be cut in the wrong plane.
UNORIENTED = re.compile(r"(_anon(_sbj_111)?|^mpr-\d+(\.nifti)?)\.hdr$", re.I)


@dataclasses.dataclass(frozen=True)
class Scan:
    """The slices of one session of one subject.

    Attributes:
        subject, session: Names; the session may be `""`.
        split: `"train"`, `"validation"`, `"test"`, or `""` where the source
            leaves it to us.
        plane: `"axial"`, `"coronal"`, `"sagittal"`, or `""` if unknown.
        pictures: Float32 arrays `(H, W)`, at least 0, in the scan's own scale.
        indices: The slices' numbers along the plane's axis, `None` if unknown.
        positions_mm: Their positions, `None` if unknown.
    """

    subject: str
    session: str
    split: str
    plane: str
    pictures: list
    indices: list
    positions_mm: list


def open_source(hyperparameters):
    """The source that `hyperparameters.dataset` names.

    Returns:
        `name`, `fingerprint` (a list of strings that changes with the data),
        `sheet` (a table with an `ID` column, or `None`) and `scans`, a
        function that returns an iterator of `Scan`s and a count of them.

    Raises:
        DatasetError: If there is no such source, or nothing in it to read.
    """
    name = hyperparameters.dataset
    if name == "demo":
        return _Demo(hyperparameters)
    if name in ("oasis", "oasis1", "oasis2"):
        raise DatasetError(
            f"--dataset {name}: the OASIS archives cannot be read yet. Give the folder of their "
            "unpacked slices or volumes as --dataset FOLDER, or try --dataset demo"
        )
    folder = Path(name)
    if not name or not folder.is_dir():
        raise DatasetError(
            f"--dataset {name}: no such folder. Expected demo, or a folder of slices "
            "(.png, .jpg) or of volumes (.nii, .nii.gz, .hdr with .img)"
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
    masked = [path for path in volumes if "_t88_masked_gfc" in path.name]
    volumes = masked or volumes  # of an OASIS disc, the skull-stripped atlas volumes
    pictures = [path for path in files if path.name.lower().endswith(PICTURE_SUFFIXES)]
    if volumes and pictures:
        raise DatasetError(
            f"{folder}: holds slices ({pictures[0].name}) and volumes ({volumes[0].name}). "
            "Put them into two folders and choose one"
        )
    for path in volumes:
        if UNORIENTED.search(path.name):
            raise DatasetError(
                f"{path}: an OASIS scan before its registration cannot be read yet. Take the "
                "..._t88_masked_gfc volumes"
            )
    if volumes:
        return _Volumes(folder, volumes, hyperparameters)
    if pictures:
        return _Pictures(folder, pictures, hyperparameters)
    raise DatasetError(
        f"{folder}: holds no images. Expected slices (.png, .jpg) or volumes (.nii, .nii.gz, "
        ".hdr with .img) in it or below it"
    )


class _Demo:
    name = "demo"
    sheet = None

    def __init__(self, hyperparameters):
        self.hyperparameters = hyperparameters
        self.fingerprint = ["demo 1"]  # raise the number when the invention changes
        self.count = hyperparameters.demo_subjects

    def scans(self):
        chosen = self.hyperparameters
        cut = (chosen.plane, chosen.slice_range, chosen.slice_unit, chosen.slices_per_volume)
        template = load_template()
        for number in range(self.count):
            pictures, indices, positions = invent_slices(template, number, *cut)
            if not len(indices):
                raise DatasetError("--dataset demo: no slice of the template is in --slice-range")
            yield Scan(
                f"invented_{number:04d}", "", "", chosen.plane,
                list(pictures), indices.tolist(), positions.tolist(),
            )  # fmt: skip


class _Folder:
    """A folder of files; subject, session and split come from their paths."""

    def __init__(self, folder, files, hyperparameters):
        self.name = folder.resolve().name
        self.folder = folder
        self.files = files
        self.hyperparameters = hyperparameters
        self.sheet = _read_sheet(folder)
        self.pattern = _compiled(hyperparameters.subject_pattern)
        headers = [path for path in files if path.suffix.lower() == ".hdr"]
        images = [path.with_suffix(".img") for path in headers]
        watched = [*files, *filter(Path.is_file, images), *sorted(folder.glob("*.csv"))]
        self.fingerprint = [
            f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}"
            for path in watched
        ]

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

    def scans(self):
        for (subject, session, split), slices in sorted(self.groups.items()):
            slices.sort(key=lambda entry: (entry[1] is None, entry[1] or 0, entry[0]))
            paths, indices = zip(*slices, strict=True)
            pictures = [read_picture(path) for path in paths]
            yield Scan(subject, session, split, "", pictures, list(indices), [None] * len(paths))


class _Volumes(_Folder):
    """A folder of volumes, cut into slices."""

    def __init__(self, folder, files, hyperparameters):
        super().__init__(folder, files, hyperparameters)
        self.count = len(files)

    def scans(self):
        chosen = self.hyperparameters
        axis = AXES[chosen.plane]
        for path in self.files:
            subject, session, _, split = self._names(path)
            volume = read_volume(path)
            size, origin = volume.voxels.shape[axis], volume.origin[axis]
            indices = slice_indices(
                size, volume.voxel_size[axis], origin,
                chosen.slice_range, chosen.slice_unit, chosen.slices_per_volume,
            )  # fmt: skip
            if not len(indices):
                first, last = origin, origin + (size - 1) * volume.voxel_size[axis]
                raise DatasetError(
                    f"{path}: no slice lies in --slice-range. Its {chosen.plane} slices lie "
                    f"from {first:g} to {last:g} mm"
                )
            positions = origin + indices * volume.voxel_size[axis]
            yield Scan(
                subject, session, split, chosen.plane,
                [cut_slice(volume, chosen.plane, index) for index in indices],
                indices.tolist(), positions.tolist(),
            )  # fmt: skip


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


def _read_sheet(folder):
    """The subject sheet in a folder, a `.csv` with an `ID` column; blanks are kept as unknown."""
    for path in sorted(folder.glob("*.csv")):
        try:
            sheet = pandas.read_csv(path, dtype={"ID": str})
        except (ValueError, OSError) as error:
            raise DatasetError(
                f"{path}: cannot be read as a sheet ({error}). Mend it, or take it out"
            ) from error
        if "ID" in sheet:
            sheet = sheet.rename(columns={"M/F": "sex"})
            sheet.columns = [c if c == "ID" else c.strip().lower() for c in sheet.columns]
            return sheet.drop_duplicates("ID")
    return None


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
