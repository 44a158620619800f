"""Describes OASIS-1 and OASIS-2: their archives, subject sheets and images."""

import dataclasses
import io
import re
from collections.abc import Callable, Container, Iterator
from pathlib import Path

from oasisvq.core.errors import ArchiveError, VolumeError
from oasisvq.data.archives import read_members
from oasisvq.data.sheets import SUFFIXES
from oasisvq.data.volumes import Volume, volume_from_pair

MIRROR = "https://download.nrg.wustl.edu/data"
SITE = "https://sites.wustl.edu/oasisbrains"
TERMS = (
    f"Terms of use: {SITE}. No attempt to identify or contact a participant, face reconstruction "
    "included; an acknowledgement in every public result"
)
INVESTIGATORS = (
    "Principal Investigators: D. Marcus, R. Buckner, J. Csernansky, J. Morris; P50 AG05681, "
    "P01 AG03991, P01 AG026276, R01 AG021910, P20 MH071616, U24 RR021382"
)
LARGEST_IMAGE = 2**27  # bytes; the largest of OASIS, SUBJ_111, has 21 million
LARGEST_SESSION = 2**29  # bytes of all its wanted images

# An image is a pattern of its path in a session's folder, and the directions of its axes, which no
# Analyze header contains.
Image = tuple[str, str]
# By the name in `--oasis1-image`; `n3` or `n4` is the number of averaged scans.
OASIS1_IMAGES: dict[str, Image] = {
    "t88_masked_gfc": (r"PROCESSED/MPRAGE/T88_111/{}_mpr_n\d+_anon_111_t88_masked_gfc", "LAS"),
    "t88_gfc": (r"PROCESSED/MPRAGE/T88_111/{}_mpr_n\d+_anon_111_t88_gfc", "LAS"),
    "subj_111": (r"PROCESSED/MPRAGE/SUBJ_111/{}_mpr_n\d+_anon_sbj_111", "ASL"),
    "raw": (r"RAW/{}_mpr-\d+_anon", "ASL"),
}
# With `mpr`, because one session has a stray `3906-3.nift.img`.
OASIS2_IMAGE: Image = (r"RAW/mpr-\d+(?:\.nifti)?", "ASL")


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
    """One of the two collections.

    Attributes:
        name: The name in `--dataset`.
        title: The name in texts.
        archive: The name of an archive, by number.
        folder: The name of the folder in an archive, by number.
        numbers: The numbers of the archives.
        bytes_each: The approximate size of an archive, until the server gives it.
        md5: Checksums of archives that two public projects use; no official ones are known.
        session: A pattern of the names of sessions.
        sheet: The first part of the name of its subject sheet.
        sheet_url: The address of the subject sheet.
        acknowledgement: The text that every public result must contain.
    """

    name: str
    title: str
    archive: str
    folder: str
    numbers: tuple[int, ...]
    bytes_each: int
    md5: dict[str, str]
    session: re.Pattern[str]
    sheet: str
    sheet_url: str
    acknowledgement: str


OASIS1 = Collection(
    name="oasis1",
    title="OASIS-1",
    archive="oasis_cross-sectional_disc{}.tar.gz",
    folder="disc{}",
    numbers=tuple(range(1, 13)),
    bytes_each=1_320_000_000,
    md5={"oasis_cross-sectional_disc1.tar.gz": "c83e216ef8654a7cc9e2a30a4cdbe0cc"},
    session=re.compile(r"OAS1_\d{4}_MR\d+"),
    sheet="oasis_cross-sectional",
    sheet_url=f"{SITE}/files/2024/04/oasis_cross-sectional-5708aa0a98d82080.xlsx",
    acknowledgement=f"Data were provided by OASIS-1: Cross-Sectional: {INVESTIGATORS}",
)
OASIS2 = Collection(
    name="oasis2",
    title="OASIS-2",
    archive="OAS2_RAW_PART{}.tar.gz",
    folder="OAS2_RAW_PART{}",
    numbers=(1, 2),
    bytes_each=8_400_000_000,
    md5={},
    session=re.compile(r"OAS2_\d{4}_MR\d+"),
    sheet="oasis_longitudinal",
    sheet_url=f"{SITE}/files/2024/03/oasis_longitudinal_demographics-8d83e569fa2e2d30.xlsx",
    acknowledgement=f"Data were provided by OASIS-2: Longitudinal: {INVESTIGATORS}",
)
COLLECTIONS = {"oasis": (OASIS1, OASIS2), "oasis1": (OASIS1,), "oasis2": (OASIS2,)}


@dataclasses.dataclass
class Session:
    """The wanted image files of one session, as bytes.

    Attributes:
        name: Such as `OAS1_0001_MR1`.
        files: The bytes of each file, by its path in the session's folder.
        problem: Why the session cannot be used, or `""`.
    """

    name: str
    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    problem: str = ""

    def add(self, path: str, size: int, read: Callable[[], bytes]) -> None:
        """Reads a file; if it is there twice or too large, this is the `problem`."""
        stem, _, suffix = path.rpartition(".")
        path = f"{stem}.{suffix.lower()}"
        if path in self.files:
            self.problem = f"{path} is there twice"
        elif size > LARGEST_IMAGE or sum(map(len, self.files.values())) + size > LARGEST_SESSION:
            self.problem = f"{path} of {size:,} bytes is too large for one of its images"
        else:
            self.files[path] = read()


def image_of(collection: Collection, oasis1_image: str) -> Image:
    """Returns the wanted image of a collection; `oasis1_image` is a key of `OASIS1_IMAGES`."""
    return OASIS1_IMAGES[oasis1_image] if collection is OASIS1 else OASIS2_IMAGE


def sessions_in_archive(
    path: Path, collection: Collection, image: Image, skip: Container[str] = ()
) -> Iterator[Session]:
    """Yields the sessions of an archive in one pass, one in memory at a time.

    Args:
        path: The `.tar.gz`.
        collection: `OASIS1` or `OASIS2`.
        image: The wanted image, from `image_of`.
        skip: The names of sessions whose files need not be read.

    Raises:
        ArchiveError: If the archive is damaged or holds no session, or if other files lie between
            the files of a session.
    """
    current, names = None, set()
    for member, size, read in read_members(path):
        name, inside = _split_path(member, collection)
        if name and name not in names:
            if current:
                yield current
            names.add(name)
            current = Session(name)
        if not current or not _is_wanted(inside, name, image):
            continue
        if name != current.name:
            raise ArchiveError(
                f"{path}: holds the files of {name} in two places. Pack it session by "
                f"session, or unpack it to a folder {collection.folder.format('N')}"
            )
        if name not in skip:
            current.add(inside, size, read)
    if current is None:
        raise ArchiveError(
            f"{path}: holds no session of {collection.title}. Take it out, or delete it to have "
            "it fetched again"
        )
    yield current


def sessions_in_folder(
    folder: Path, collection: Collection, image: Image, skip: Container[str] = ()
) -> Iterator[Session]:
    """Yields the sessions below an unpacked folder, one in memory at a time."""
    for place in session_folders(folder, collection):
        session = Session(place.name)
        for path, inside in wanted_files(place, image) if place.name not in skip else ():
            try:
                session.add(inside, path.stat().st_size, path.read_bytes)
            except OSError as error:
                session.problem = f"{inside} cannot be read ({error.strerror})"
        yield session


def session_folders(folder: Path, collection: Collection) -> list[Path]:
    """Returns the folders in `folder` that are named like sessions, sorted."""
    named = (path for path in folder.iterdir() if collection.session.fullmatch(path.name))
    return sorted(path for path in named if path.is_dir())


def wanted_files(place: Path, image: Image) -> list[tuple[Path, str]]:
    """Returns the wanted files in a session's folder, sorted, each with its path in the folder."""
    files = ((path, path.relative_to(place).as_posix()) for path in sorted(place.rglob("*")))
    return [pair for pair in files if _is_wanted(pair[1], place.name, image) and pair[0].is_file()]


def _split_path(member: str, collection: Collection) -> tuple[str, str]:
    """Returns the session that a path in an archive names, and the rest of the path."""
    parts = member.split("/")
    if ".." not in parts and "__MACOSX" not in parts and not member.startswith("/"):
        for depth, part in enumerate(parts[:-1]):
            if collection.session.fullmatch(part):
                return part, "/".join(parts[depth + 1 :])
    return "", ""


def _is_wanted(inside: str, session: str, image: Image) -> bool:
    return re.fullmatch(image[0].format(session) + r"\.(?i:hdr|img)", inside) is not None


def volumes_of(session: Session, image: Image) -> tuple[list[Volume], list[str], list[str]]:
    """Reads the images of a session.

    Returns:
        The volumes, their names, and a note on each image that cannot be read and is left out.

    Raises:
        VolumeError: If no image can be used.
    """
    if session.problem:
        raise VolumeError(f"{session.name}: {session.problem}. Fetch its archive again")
    stems = sorted({path.rpartition(".")[0] for path in session.files})
    if not stems:
        raise VolumeError(f"{session.name}: it lacks the wanted image. Fetch its archive again")
    volumes, errors = {}, []
    for stem in stems:
        name = f"{session.name}/{stem}"
        try:
            volumes[name] = _read_volume(session, stem, name, image[1])
        except VolumeError as error:
            errors.append(error)
    if not volumes:
        raise errors[0]
    notes = [note for volume in volumes.values() for note in volume.notes]
    return [*volumes.values()], [*volumes], [*map(str, errors), *notes]


def _read_volume(session: Session, stem: str, name: str, axes: str) -> Volume:
    try:
        header, data = (session.files[f"{stem}.{suffix}"] for suffix in ("hdr", "img"))
    except KeyError as error:
        raise VolumeError(f"{name}: {error} is missing. Fetch its archive again") from error
    return volume_from_pair(io.BytesIO(header), io.BytesIO(data), name, axes)


# Finds files in a data folder, from the user or from an earlier run


def find_archive(data_dir: Path, collection: Collection, number: int) -> Path | None:
    """Returns an archive, packed or not, in `data_dir` or a folder in it; `None` without one."""
    name = collection.archive.format(number)
    names = (name, name.removesuffix(".gz"), name.replace(".tar.gz", ".tgz"))
    return next((path for name in names for path in _below(data_dir, name) if path.is_file()), None)


def find_folder(data_dir: Path, collection: Collection, number: int) -> Path | None:
    """Returns an unpacked archive that holds sessions, in `data_dir` or a folder in it."""
    folders = _below(data_dir, collection.folder.format(number))
    return next((path for path in folders if _holds_sessions(path, collection)), None)


def find_loose_sessions(data_dir: Path, collection: Collection) -> list[Path]:
    """Returns the folders with unpacked sessions that do not have the name of an archive."""
    named = {collection.folder.format(number) for number in collection.numbers}
    below = [path for path in _below(data_dir, "*") if path.name not in named]
    return [path for path in (data_dir, *below) if _holds_sessions(path, collection)]


def find_sheet(data_dir: Path, collection: Collection) -> Path | None:
    """Returns the subject sheet, `.csv` or `.xlsx`, in `data_dir` or a folder in it."""
    sheets = [
        path
        for path in _below(data_dir, f"{collection.sheet}*")
        # Not `...-reliability-...`, the sheet of second scans.
        if path.suffix.lower() in SUFFIXES and path.is_file() and "reliab" not in path.name.lower()
    ]
    return min(sheets, key=lambda path: (len(path.name), path), default=None)


def _below(data_dir: Path, pattern: str) -> list[Path]:
    """Returns the paths that match a pattern in `data_dir`, then in the folders in it."""
    deeper = [path for path in data_dir.glob(f"*/{pattern}") if path.parent.name[0] != "."]
    return sorted(data_dir.glob(pattern)) + sorted(deeper)


def _holds_sessions(path: Path, collection: Collection) -> bool:
    try:
        return path.is_dir() and bool(session_folders(path, collection))
    except PermissionError:  # as in a disk's lost+found
        return False
