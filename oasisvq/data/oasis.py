"""What OASIS-1 and OASIS-2 consist of: archives, subject sheets, and the images of a session."""

import dataclasses
import io
import re
from pathlib import Path

from oasisvq.data.archives import read_members
from oasisvq.core.errors import ArchiveError, VolumeError
from oasisvq.data.demographics import SUFFIXES
from oasisvq.data.volumes import volume_from_pair

MIRROR = "https://download.nrg.wustl.edu/data"
SITE = "https://sites.wustl.edu/oasisbrains"
TERMS = (
    f"Terms of use: {SITE}. No attempt to identify or contact a participant, face reconstruction "
    "included; an acknowledgement in every public result"
)
LARGEST_IMAGE = 2**27  # bytes; the largest of OASIS, SUBJ_111, has 21 million
LARGEST_SESSION = 2**29  # bytes of all its wanted images

# The images of OASIS-1 by the name of `--oasis1-image`: their place in a session's folder, and
# where the axes of the file run to, which no Analyze header tells. `n3` or `n4` is how many scans
# were averaged.
OASIS1_IMAGES = {
    "t88_masked_gfc": (r"PROCESSED/MPRAGE/T88_111/{}_mpr_n\d+_anon_111_t88_masked_gfc", "LAS"),
    "t88_gfc": (r"PROCESSED/MPRAGE/T88_111/{}_mpr_n\d+_anon_111_t88_gfc", "LAS"),
    "subj_111": (r"PROCESSED/MPRAGE/SUBJ_111/{}_mpr_n\d+_anon_sbj_111", "ASL"),
    "raw": (r"RAW/{}_mpr-\d+_anon", "ASL"),
}
# A stray `3906-3.nift.img` is known, hence the `mpr`.
OASIS2_IMAGE = (r"RAW/mpr-\d+(?:\.nifti)?", "ASL")


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
    """One of the two collections.

    Attributes:
        name, title: As in `--dataset`, and as written.
        archive, folder: Names of an archive and of the folder in it, by number.
        numbers: Of the archives.
        bytes_each: About the size of each archive not yet asked for.
        md5: Known checksums, by number. As two public projects pin it; there are no official ones.
        session: Pattern of the name of a session.
        sheet: How the names of its subject sheet begin.
        sheet_url: Where it is.
        acknowledgement: What every public result must say.
    """

    name: str
    title: str
    archive: str
    folder: str
    numbers: tuple
    bytes_each: int
    md5: dict
    session: re.Pattern
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
    md5={1: "c83e216ef8654a7cc9e2a30a4cdbe0cc"},
    session=re.compile(r"OAS1_\d{4}_MR\d+"),
    sheet="oasis_cross-sectional",
    sheet_url=f"{SITE}/files/2024/04/oasis_cross-sectional-5708aa0a98d82080.xlsx",
    acknowledgement="Data were provided by OASIS-1: Cross-Sectional: Principal Investigators: "
    "D. Marcus, R. Buckner, J. Csernansky, J. Morris; P50 AG05681, P01 AG03991, P01 AG026276, "
    "R01 AG021910, P20 MH071616, U24 RR021382",
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
    acknowledgement="Data were provided by OASIS-2: Longitudinal: Principal Investigators: "
    "D. Marcus, R. Buckner, J. Csernansky, J. Morris; P50 AG05681, P01 AG03991, P01 AG026276, "
    "R01 AG021910, P20 MH071616, U24 RR021382",
)
COLLECTIONS = {"oasis": (OASIS1, OASIS2), "oasis1": (OASIS1,), "oasis2": (OASIS2,)}


@dataclasses.dataclass
class Session:
    """The wanted image files of one session, as bytes.

    Attributes:
        name: As `OAS1_0001_MR1`.
        files: Dictionary from the path in the session's folder to bytes.
        problem: Why the session cannot be used, or `""`.
    """

    name: str
    files: dict = dataclasses.field(default_factory=dict)
    problem: str = ""

    def add(self, path, size, read):
        stem, _, suffix = path.rpartition(".")
        path = f"{stem}.{suffix.lower()}"
        if path in self.files:
            self.problem = f"{path} is there twice"
        elif size > LARGEST_IMAGE or sum(map(len, self.files.values())) + size > LARGEST_SESSION:
            self.problem = f"{path} of {size:,} bytes is too large for one of its images"
        else:
            self.files[path] = read()

    def add_file(self, path, file):
        """Adds a file on disk; one that cannot be read is a problem of the session."""
        try:
            self.add(path, file.stat().st_size, file.read_bytes)
        except OSError as error:
            self.problem = f"{path} cannot be read ({error.strerror})"


def image_of(collection, oasis1_image):
    """The wanted image's place in a session's folder, a pattern, and the axes of its file."""
    return OASIS1_IMAGES[oasis1_image] if collection is OASIS1 else OASIS2_IMAGE


def sessions_in_archive(path, collection, image, skip=()):
    """Yields the `Session`s of an archive in one pass, a session in memory at a time.

    Args:
        path: The `.tar.gz`.
        collection: `OASIS1` or `OASIS2`.
        image: From `image_of`.
        skip: Names of sessions whose files need not be read.

    Raises:
        ArchiveError: If the archive is damaged, holds no session, or a session's files lie apart.
    """
    current, seen = None, set()
    for name, size, read in read_members(path):
        found, inside = _place(name, collection)
        wanted = found and _is_wanted(inside, found, image)
        if found and found not in seen:
            if current:
                yield current
            seen.add(found)
            current = Session(found)
        if wanted and found != current.name:
            raise ArchiveError(
                f"{path}: the files of {found} lie in two places of it. Pack it session by "
                f"session, or unpack it to a folder {collection.folder.format('N')}"
            )
        if wanted and found not in skip:
            current.add(inside, size, read)
    if current is None:
        raise ArchiveError(
            f"{path}: holds no session of {collection.title}. Take it out, or delete it to have "
            "it fetched again"
        )
    yield current


def sessions_in_folder(folder, collection, image, skip=()):
    """Yields the `Session`s below an unpacked folder, a session in memory at a time."""
    for place in session_folders(folder, collection):
        session = Session(place.name)
        for file, inside in wanted_files(place, image) if place.name not in skip else ():
            session.add_file(inside, file)
        yield session


def session_folders(folder, collection):
    """The folders in `folder` that are named like sessions, sorted."""
    return sorted(
        place
        for place in folder.iterdir()
        if collection.session.fullmatch(place.name) and place.is_dir()
    )


def wanted_files(place, image):
    """The wanted files in a session's folder: pairs of path and path inside, sorted."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    inside = [path.relative_to(place).as_posix() for path in files]
    return [
        pair for pair in zip(files, inside, strict=True) if _is_wanted(pair[1], place.name, image)
    ]


def _place(name, collection):
    """The session that a member's name says it belongs to, and the path in that one's folder."""
    parts = name.split("/")
    if ".." in parts or "__MACOSX" in parts or name.startswith("/"):
        return None, ""
    for depth, part in enumerate(parts[:-1]):
        if collection.session.fullmatch(part):
            return part, "/".join(parts[depth + 1 :])
    return None, ""


def _is_wanted(inside, session, image):
    return re.fullmatch(image[0].format(session) + r"\.(?i:hdr|img)", inside) is not None


def volumes_of(session, image):
    """Reads the images of a session.

    Returns:
        `Volume`s, their names, and notes on images that cannot be read, which are
        left out if there are others.

    Raises:
        VolumeError: If there is none to use.
    """
    if session.problem:
        raise VolumeError(f"{session.name}: {session.problem}. Fetch its archive again")
    stems = sorted({path.rpartition(".")[0] for path in session.files})
    if not stems:
        raise VolumeError(f"{session.name}: the wanted image is not in it. Fetch its archive again")
    volumes, names, errors = [], [], []
    for stem in stems:
        name = f"{session.name}/{stem}"
        try:
            volumes.append(_volume(session, stem, name, image[1]))
            names.append(name)
        except VolumeError as error:
            errors.append(error)
    if not volumes:
        raise errors[0]
    return volumes, names, [str(error) for error in errors]


def _volume(session, stem, name, axes):
    try:
        header, data = (session.files[f"{stem}.{suffix}"] for suffix in ("hdr", "img"))
    except KeyError as error:
        raise VolumeError(f"{name}: {error} is missing. Fetch its archive again") from error
    return volume_from_pair(io.BytesIO(header), io.BytesIO(data), name, axes)


# What lies in a data folder already, put there by hand or by an earlier run


def find_archive(data_dir, collection, number):
    """An archive, packed or not, in `data_dir` or a folder in it; `None` if there is none."""
    name = collection.archive.format(number)
    names = (name, name.removesuffix(".gz"), name.replace(".tar.gz", ".tgz"))
    return next((path for name in names for path in _below(data_dir, name) if path.is_file()), None)


def find_folder(data_dir, collection, number):
    """An unpacked archive with sessions in it, in `data_dir` or a folder in it; or `None`."""
    folders = _below(data_dir, collection.folder.format(number))
    return next((path for path in folders if _holds_sessions(path, collection)), None)


def find_loose_sessions(data_dir, collection):
    """Folders of unpacked sessions that are not named like an archive's."""
    named = {collection.folder.format(number) for number in collection.numbers}
    below = [path for path in _below(data_dir, "*") if path.name not in named]
    return [path for path in (data_dir, *below) if _holds_sessions(path, collection)]


def find_sheet(data_dir, collection):
    """The subject sheet, `.csv` or `.xlsx`; or `None`. OASIS has a sheet of its second scans
    too, named `...-reliability-...`, which is not meant."""
    sheets = [
        path
        for path in _below(data_dir, f"{collection.sheet}*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and "reliab" not in path.name.lower()
    ]
    return min(sheets, key=lambda path: (len(path.name), path), default=None)


def _below(data_dir, name):
    deeper = sorted(Path(data_dir).glob(f"*/{name}"))
    return [*sorted(Path(data_dir).glob(name)), *(p for p in deeper if p.parent.name[0] != ".")]


def _holds_sessions(path, collection):
    try:
        return path.is_dir() and bool(session_folders(path, collection))
    except PermissionError:  # as in a disk's lost+found
        return False
