"""Members of a `.tar.gz`, one after another in one pass. Nothing is ever written to disk."""

import contextlib
import functools
import tarfile

from isal import igzip_threaded

from oasisvq.core.errors import ArchiveError

PIECE = 2**20  # bytes read at a time
LARGEST_HEADER = 2**16  # bytes; a name can claim any length
LARGEST_HEADERS = 2**26  # bytes of all headers together; a disc has some 2,000 of 512 bytes
LARGEST_RATIO = 200  # bytes out a byte in; heads give 3, skull-stripped brains 10
RATIO_COUNTS_FROM = 2**28  # bytes out
LARGEST_REST = 2**26  # bytes behind the archive's end mark
REMEDY = "Delete it, to have it fetched again"


def read_members(path):
    """Yields `(name, size, read)` for each file and folder of a tar archive, packed or not.

    `read()` returns the file's bytes; it works until the next member is asked
    for. What is not read is passed over. The name of a folder ends in `/`. Links, devices,
    pipes and sparse files are passed over too.

    Raises:
        ArchiveError: If the archive is damaged, no archive, or made to do harm.
    """
    with _named_errors(path), contextlib.ExitStack() as open_files:
        file = open_files.enter_context(path.open("rb"))
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        # Decompression, the slowest part, runs in a thread of its own.
        unpacked = igzip_threaded.open(file, "rb", threads=1) if packed else file
        stream = _ForwardStream(open_files.enter_context(unpacked), file)

        def read(size):
            with _named_errors(path):  # it runs where the caller is
                return stream.whole(size)

        archive = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115
        while (member := archive.next()) is not None:
            archive.members = []  # or `tarfile` keeps all of them
            if member.isdir():
                yield f"{member.name.rstrip('/')}/", 0, bytes
            elif member.isreg() and not member.issparse():
                yield member.name, member.size, functools.partial(read, member.size)
        stream.finish()


@contextlib.contextmanager
def _named_errors(path):
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}. {REMEDY}") from error
    except MemoryError:
        raise
    # tarfile and igzip raise many kinds of exception on damaged archives.
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # of the disk; igzip's have no number
            raise ArchiveError(f"{path}: cannot be read: {error.strerror}") from error
        raise ArchiveError(
            f"{path}: cannot be read as an archive ({type(error).__name__}: {error}). {REMEDY}"
        ) from error


class _ForwardStream:
    """What `tarfile` needs of a file, over a stream that only goes forward."""

    def __init__(self, stream, file):
        self.stream, self.file = stream, file
        self.position = self.header_bytes = 0
        self.last = b""

    def tell(self):
        return self.position

    def read(self, size):
        """What `tarfile` reads itself: headers, and the long names that they announce."""
        self.header_bytes += size
        if size > LARGEST_HEADER or self.header_bytes > LARGEST_HEADERS:
            raise ArchiveError(f"has a header of {size:,} bytes, or too many headers")
        self.last = b"".join(self._pieces(size))
        return self.last

    def seek(self, position):
        if position < self.position:
            raise ArchiveError("a header points back")
        for _ in self._pieces(position - self.position):
            pass

    def whole(self, size):
        """The `size` bytes from here."""
        data = b"".join(self._pieces(size))
        if len(data) != size:
            raise ArchiveError("ends in the middle of a member")
        return data

    def _pieces(self, size):
        while size > 0 and (piece := self.stream.read(min(size, PIECE))):
            size -= len(piece)
            self.position += len(piece)
            if self.position > max(RATIO_COUNTS_FROM, LARGEST_RATIO * self.file.tell()):
                raise ArchiveError(f"unpacks to more than {LARGEST_RATIO} times its size")
            yield piece

    def finish(self):
        """Checks that the end mark was reached, and reads on to the checksum of the packing."""
        if len(self.last) != tarfile.BLOCKSIZE or any(self.last):
            raise ArchiveError("has a damaged header, or ends before its end mark")
        rest = sum(map(len, self._pieces(LARGEST_REST)))
        if rest == LARGEST_REST:
            raise ArchiveError("goes on behind its end mark")
