"""Reads the members of a `.tar.gz` in one pass, without writing to the disk."""

import contextlib
import functools
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from isal import igzip_threaded

from oasisvq.core.errors import ArchiveError

PIECE = 2**16  # bytes unpacked at a time
LARGEST_HEADER = 2**16  # bytes of a member's header; a name can claim any length
LARGEST_HEADERS = 2**26  # bytes of all headers; a disc has some 2,000 of 512 bytes
LARGEST_RATIO = 200  # unpacked bytes per packed byte; heads have 3, skull-stripped brains 10
RATIO_COUNTS_FROM = 2**28  # unpacked bytes
LARGEST_REST = 2**26  # bytes behind the archive's end mark
REMEDY = "Delete it and run the command again, which fetches it"


def read_members(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Yields `(name, size, read)` for each file and folder of a tar archive, packed or not.

    `read()` returns the bytes of the file; it works until the next member is taken. The name of a
    folder ends in `/`. Links, devices, pipes and sparse files are skipped.

    Raises:
        ArchiveError: If the archive is damaged, malicious, or no archive.
    """
    with _named_errors(path), contextlib.ExitStack() as open_files:
        file = open_files.enter_context(path.open("rb"))
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        # Decompression, the slowest part, runs in a thread of its own.
        unpacked = igzip_threaded.open(file, "rb", threads=1) if packed else file
        source: Any = _BoundedReader(open_files.enter_context(unpacked), file)
        archive: Any = open_files.enter_context(
            tarfile.open(fileobj=source, mode="r|", bufsize=PIECE, tarinfo=_Header)
        )
        header_bytes = 0
        for member in archive:
            archive.members = []  # or `tarfile` keeps all of them
            source.bound = archive.offset + LARGEST_HEADER
            header = member.offset_data - member.offset
            header_bytes += header
            if header > LARGEST_HEADER or header_bytes > LARGEST_HEADERS:
                raise ArchiveError(f"has a header of {header:,} bytes, or too many headers")
            if member.isdir():
                yield f"{member.name.rstrip('/')}/", 0, bytes
            elif member.isreg() and not member.issparse():
                yield member.name, member.size, functools.partial(_read, path, archive, member)
        source.bound, source.excess = source.position + LARGEST_REST, "goes on behind its end mark"
        while source.read(PIECE):  # up to the checksum of the packing
            pass


def _read(path: Path, archive: Any, member: tarfile.TarInfo) -> bytes:
    with _named_errors(path):  # the caller runs this outside of `read_members`
        return archive.extractfile(member).read()


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}. {REMEDY}") from error
    except MemoryError:
        raise
    # tarfile and igzip raise many kinds of exception on damaged archives.
    except Exception as error:
        if (
            isinstance(error, OSError) and error.errno
        ):  # an error of the disk; those of igzip have no number
            raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error
        raise ArchiveError(
            f"{path}: cannot be read as an archive ({type(error).__name__}: {error}). {REMEDY}"
        ) from error


class _BoundedReader:
    """Reads an unpacked archive up to a bound, which headers and members may not exceed."""

    def __init__(self, stream: Any, file: IO[bytes]):
        self.stream, self.file = stream, file
        self.position, self.bound = 0, LARGEST_HEADER
        self.excess = f"has a header of more than {LARGEST_HEADER:,} bytes"

    def read(self, size: int) -> bytes:
        if self.position > self.bound:
            raise ArchiveError(self.excess)
        piece = self.stream.read(size)
        self.position += len(piece)
        if self.position > max(RATIO_COUNTS_FROM, LARGEST_RATIO * self.file.tell()):
            raise ArchiveError(f"unpacks to more than {LARGEST_RATIO} times its size")
        return piece


class _Header(tarfile.TarInfo):
    """A member's header; a damaged one is an error, but `tarfile` takes it for the end mark."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> tarfile.TarInfo:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # pyright: ignore[reportAttributeAccessIssue]
            raise  # the end mark
        except tarfile.HeaderError as error:
            problem = "is no archive, has a damaged header, or ends before its end mark"
            raise ArchiveError(f"{problem} ({error})") from error
