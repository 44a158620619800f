"""An HTTP file, whole and verified, or an error."""

import contextlib
import dataclasses
import email.utils
import hashlib
import http.client
import json
import os
import re
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import filelock
import requests
import urllib3
from tqdm import tqdm

from oasisvq.core.errors import DownloadError
from oasisvq.core.locks import one_at_a_time

__all__ = ["CHUNK", "download", "remote_size", "verify"]

CHUNK = 2**20  # bytes; a lost connection costs no more than this
FIRST_WAIT = 1.0  # seconds before the second attempt; doubled before each that follows
# As some servers label every .tar.gz as text compressed for the journey, and a client that
# believes it unpacks the file.
AS_IT_IS = {"Accept-Encoding": "identity"}


def download(
    url,
    path,
    check,
    known_md5=None,
    remedy="",
    timeout=(10, 60),
    retries=5,
    longest_wait=60.0,
    cancelled=None,
):
    """Downloads a file. If it is there already, compares it with its lock record instead.

    What has come is kept in `<path>.part` whenever the download ends early, and the next call
    goes on from there. Beside the file `<path>.lock` records its url, size and SHA-256: whoever
    downloads it again gets the same bytes, or an error.

    Args:
        url: Text, an http or https address.
        path: Where the file shall lie; its folder is made.
        check: Callable that reads the file at a path and raises `ValueError`, with the reason,
            if it is not whole.
        known_md5: Hexadecimal text, the MD5 sum that is known of the file.
        remedy: Text that every message ends with: what to do where the server is no help.
        timeout: Seconds to wait for a connection, and for each next byte.
        retries: Integer, attempts in a row that may follow one which brought nothing new.
        longest_wait: Seconds, the longest pause between two attempts.
        cancelled: `threading.Event` by which another thread ends the download.

    Raises:
        DownloadError: If there is no whole and verified file in the end.
    """
    path = Path(path)
    transfer = _Transfer(url, path, timeout, cancelled or threading.Event())
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            mutex = path.with_name(f".{path.name}.mutex")
            with one_at_a_time(mutex, f"downloads {path}", transfer.cancelled):
                if not path.exists():
                    transfer.run(check, retries, longest_wait)
                    _publish(transfer.part, path, url, known_md5, remedy)
                    transfer.state.unlink(missing_ok=True)
        verify(path, remedy)
    except _AttemptFailedError as failure:
        raise _error(f"{url}: {failure}. {transfer.received()}", remedy) from None
    except filelock.Timeout:
        raise _error(f"{url}: stopped while waiting", remedy) from None
    except OSError as error:
        raise _error(f"{url}: cannot be saved as {path}: {error}", remedy) from None


def remote_size(url, timeout=(10, 60)):
    """The size in bytes that a server names for a file, or None if it names none or does not
    answer."""
    try:
        reply = requests.head(url, headers=AS_IT_IS, timeout=timeout, allow_redirects=True)
        return int(reply.headers["Content-Length"]) if reply.status_code == 200 else None
    except (KeyError, ValueError, OSError, urllib3.exceptions.HTTPError):
        return None


def verify(path, remedy=""):
    """Compares a file with its lock record, or makes the record for a file put there by hand.

    A file whose size and time are those of the record is not read again.

    Returns:
        The record: a dictionary of url (None if put there by hand), size, sha256 and mtime_ns.

    Raises:
        DownloadError: If the file is not the one on record.
    """
    path = Path(path)
    status, record = path.stat(), _recorded(path, remedy)
    now = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    if record and record | now == record:
        return record
    found = _record(record and record["url"], path, _sums(path, ["sha256"])["sha256"])
    if record:
        _compare(found, record, path, remedy)
    with contextlib.suppress(OSError):  # in a folder of read-only data it is read each time
        _write_json(_lock(path), found)
    return found


class _AttemptFailedError(Exception):
    """An attempt that failed: for good, or it may go better after `wait` seconds."""

    def __init__(self, reason, for_good=False, wait=0.0):
        super().__init__(reason)
        self.for_good, self.wait = for_good, wait


@dataclasses.dataclass(frozen=True)
class _Version:
    """What a server tells of the file it sends, by which to know that file again."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None

    @classmethod
    def of(cls, url, response, size):
        tell = response.headers.get
        return cls(url, tell("ETag"), tell("Last-Modified"), size)

    def may_be(self, other):
        """Whether the two agree in all that both know."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return all(a == b for a, b in pairs if a is not None and b is not None)

    def or_else(self, other):
        """This one, with the other's word where this one knows nothing."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return _Version(*(b if a is None else a for a, b in pairs))

    def condition(self):
        """The headers that ask for the rest of this version only. A weak ETag promises no
        equal bytes, so servers must not accept it here."""
        strong = self.etag if (self.etag or "").startswith('"') else None
        validator = strong or self.last_modified
        return {"If-Range": validator} if validator else {}


class _Transfer:
    """The file on its way: `<path>.part`, and `<path>.part.json` with the version it is of."""

    def __init__(self, url, path, timeout, cancelled):
        self.url, self.path = url, path
        self.timeout, self.cancelled = timeout, cancelled
        self.part = path.with_name(path.name + ".part")
        self.state = path.with_name(path.name + ".part.json")
        self.version = None
        self.furthest = 0  # bytes; the furthest that any attempt came
        self.from_start = False  # whether the next attempt asks for the whole file
        self.started_over = False  # whether a file made of several replies failed its check

    def run(self, check, retries, longest_wait):
        """Attempts until the file is whole, or too many in a row have brought nothing new."""
        self._recall()
        self.furthest, failures = self._size(), 0
        while True:
            before = self.furthest
            try:
                return self._attempt(check)
            except _AttemptFailedError as error:
                failure = error
            failures = 1 if self.furthest >= before + CHUNK else failures + 1
            if failure.for_good:
                raise failure
            if failures > retries:
                raise _AttemptFailedError(
                    f"{failure}. Given up after attempts in a row: {failures}"
                )
            wait = min(longest_wait, max(failure.wait, FIRST_WAIT * 2 ** min(failures - 1, 30)))
            tqdm.write(f"{self.path.name}: {failure}; next attempt in {wait:.3g} s", sys.stderr)
            self.cancelled.wait(wait)

    def received(self):
        """What of the file is here, in words."""
        size, total = self._size(), self.version and self.version.size
        if not size:
            return f"Nothing of {self.path} is kept"
        of_all = "" if total is None else f" of {total}"
        return f"Received: {size}{of_all} bytes, kept in {self.part}"

    def _attempt(self, check):
        """One request, or none if all is here, and the check of what it completes."""
        start = 0 if self.from_start or self.version is None else self._size()
        in_one_reply = False
        if self.version is None or self.version.size != start:
            with contextlib.closing(self._ask(start)) as response:
                in_one_reply = self._take(response, start)
        with self.part.open("r+b") as file:
            os.fsync(file.fileno())
        try:
            check(self.part)
        except ValueError as error:
            return self._reject(error, in_one_reply, check)

    def _reject(self, reason, in_one_reply, check):
        """Decides what becomes of a file that failed its check."""
        size = self._size()
        # Without a length it may have ended early, unnoticed: the next attempt asks for more.
        if not in_one_reply or self.version.size is not None:
            self._discard()
        if not in_one_reply and not self.started_over:  # two versions may have been mixed
            self.started_over = True
            return self._attempt(check)
        raise _AttemptFailedError(f"the {size} bytes that came are not whole: {reason}")

    def _ask(self, start):
        """The server's answer to a request for the file from byte `start` on."""
        self._stop_if_cancelled()
        headers = dict(AS_IT_IS)
        if start:
            headers |= {"Range": f"bytes={start}-"} | self.version.condition()
        try:
            return requests.get(self.url, headers=headers, stream=True, timeout=self.timeout)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:
            cause = _cause(error)
            # Python counts a certificate that nobody vouches for among the wrong values.
            hopeless = (ValueError, requests.TooManyRedirects)
            for_good = isinstance(error, hopeless) or isinstance(cause, hopeless)
            raise _AttemptFailedError(f"no answer: {cause}", for_good) from None

    def _take(self, response, start):
        """Stores what an answer brings. Returns whether the file came in this one answer."""
        if response.status_code == 416 and start:
            if _content_range(response)[2] == start:
                return False  # all is here
            self.from_start = True
            raise _AttemptFailedError(f"the server has no bytes from {start} on")
        if response.status_code == 206 and start:
            end = self._end_of_rest(response, start)
        elif response.status_code == 200:
            start, end = 0, response.raw.length_remaining
        else:
            raise _refusal(response)
        pieces = self._pieces(response)
        first = self._refuse_html(response, start, pieces)
        told = _Version.of(self.url, response, end)
        if start == 0:
            self._begin(told)
        self._store(start, end, told, _chain(first, pieces))
        return start == 0

    def _end_of_rest(self, response, start):
        """Where the bytes from `start` on end, if the reply brings those; else nothing of it is
        stored."""
        first, last, total = _content_range(response)
        version = _Version.of(self.url, response, total)
        fits = first == start and first <= last and (total is None or last < total)
        if not fits or not self.version.may_be(version):
            self.from_start = True
            named = response.headers.get("Content-Range", "none")
            raise _AttemptFailedError(
                f"the server sent another part than bytes {start}- of the same file "
                f"(Content-Range: {named})"
            )
        self._remember(self.version.or_else(version))
        return last + 1

    def _pieces(self, response):
        """The bytes of a body as they were sent, never decoded."""
        try:
            while piece := response.raw.read1(CHUNK, decode_content=False):
                yield piece
        except (OSError, http.client.HTTPException, urllib3.exceptions.HTTPError) as error:
            raise _AttemptFailedError(f"the connection failed: {_cause(error)}") from None

    def _refuse_html(self, response, start, pieces):
        """Returns the first bytes. Servers send log-in and error pages as if they were the file."""
        first = b""
        while start == 0 and len(first.lstrip()) < 16 and (piece := next(pieces, b"")):
            first += piece
        page = first.lstrip()[:16].lower().startswith((b"<!doctype html", b"<html"))
        page = page or response.headers.get("Content-Type", "").lower().startswith("text/html")
        if page and not urlsplit(self.url).path.lower().endswith((".html", ".htm")):
            raise _AttemptFailedError("the server sent a page of HTML in place of the file")
        return first

    def _begin(self, version):
        """Makes ready for a body from byte 0 on."""
        self.from_start = False
        if self.version is None or not self.version.may_be(version):
            self._discard()
        self._remember(version if self.version is None else version.or_else(self.version))
        self.part.touch()

    def _store(self, position, end, told, pieces):
        """Writes a body where it belongs in the file.

        A server that cannot resume repeats bytes that are here. They are compared, not dropped
        beforehand, so that an attempt which fails early takes nothing away.
        """
        bar = tqdm(
            total=self.version.size, initial=position, desc=self.path.name, disable=None,
            unit="B", unit_scale=True, unit_divisor=1024,
        )  # fmt: skip
        with bar, self.part.open("r+b") as file:
            file.seek(position)
            for piece in pieces:
                self._stop_if_cancelled()
                if end is not None and position + len(piece) > end:
                    raise _AttemptFailedError(f"more came than the {end} bytes promised")
                if _lay(file, piece):
                    self._remember(told)
                position += len(piece)
                self.furthest = max(self.furthest, position)
                bar.update(len(piece))
            ends = (self.version.size, end, self._size())
            if position < next(end for end in ends if end is not None):
                raise _AttemptFailedError(f"the server stopped at byte {position}")
            file.truncate(position)

    def _size(self):
        return self.part.stat().st_size if self.part.exists() else 0

    def _recall(self):
        """Reads which version the partial file is of. Without that it cannot be resumed."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            version = _Version(**json.loads(self.state.read_text()))
            if version.url == self.url and self.part.exists():
                self.version = version

    def _remember(self, version):
        if version != self.version:
            _write_json(self.state, dataclasses.asdict(version))
            self.version = version

    def _discard(self):
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        self.version = None

    def _stop_if_cancelled(self):
        if self.cancelled.is_set():
            raise _AttemptFailedError("stopped", for_good=True)


def _lay(file, piece):
    """Writes a piece at the file's position. What stands there already and is equal stays; the
    first difference shows that what follows is of another file, and cuts it off. Returns
    whether it did."""
    start = file.tell()
    old = file.read(len(piece))
    other = not piece.startswith(old)
    if other:
        file.truncate(start)
        file.seek(start)
        old = b""
    file.write(piece[len(old) :])
    file.flush()  # what has come shall outlive this process
    return other


def _chain(first, pieces):
    if first:
        yield first
    yield from pieces


def _content_range(response):
    """First byte, last byte and total that a reply names, each None if it does not."""
    text = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(?:(\d+)|\*)", text.strip(), re.ASCII)
    numbers = match.groups() if match else (None, None, None)
    return tuple(None if number is None else int(number) for number in numbers)


def _refusal(response):
    """The failure that a status means: the client's fault stays, the server's may pass."""
    status = response.status_code
    passing = status in (206, 408, 425, 429) or status >= 500
    wait = _seconds(response.headers.get("Retry-After", ""))
    reason = f"the server answered {status} {response.reason or ''}".strip()
    return _AttemptFailedError(reason, for_good=not passing, wait=wait)


def _seconds(retry_after):
    """The pause that a server asks for, in seconds or as a date."""
    if re.fullmatch(r"\d{1,9}", retry_after, re.ASCII):
        return float(retry_after)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _cause(error):
    """The failure beneath the layers that requests and urllib3 wrap around it."""
    inner = [getattr(error, "reason", None), *error.args]
    inner = next((e for e in inner if isinstance(e, Exception)), None)
    return error if inner is None else _cause(inner)


def _publish(part, path, url, known_md5, remedy):
    """Records a whole file and gives it its name, if it is the one that is expected."""
    sums = _sums(part, ["sha256", "md5"] if known_md5 else ["sha256"])
    if known_md5 and sums["md5"] != known_md5.lower():
        raise _AttemptFailedError(
            f"expected a file with the MD5 sum {known_md5}. Received: {sums['md5']}. "
            f"Whoever trusts {part} may rename it to {path.name}"
        )
    record, found = _recorded(path, remedy), _record(url, part, sums["sha256"])
    if record:
        _compare(found, record, path, remedy)
    _write_json(_lock(path), found)
    part.replace(path)


def _lock(path):
    return path.with_name(path.name + ".lock")


def _record(url, path, sha256):
    status = path.stat()
    size, time_changed = status.st_size, status.st_mtime_ns
    return {"url": url, "size": size, "sha256": sha256, "mtime_ns": time_changed}


def _recorded(path, remedy):
    """The lock record of a file, or None if there is none."""
    lock = _lock(path)
    try:
        record = json.loads(lock.read_text())
        return record | {name: record[name] for name in ("url", "size", "sha256")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise _error(f"{lock}: no lock record. Delete it and start again", remedy) from None


def _compare(found, record, path, remedy):
    if (found["size"], found["sha256"]) != (record["size"], record["sha256"]):
        raise _error(
            f"{path}: expected {record['size']} bytes with SHA-256 {record['sha256']}, as "
            f"{_lock(path)} records. Received: {found['size']} bytes with SHA-256 "
            f"{found['sha256']}. If the file was published anew, delete the lock file",
            remedy,
        )


def _sums(path, kinds):
    """Hexadecimal sums of a file, such as its SHA-256, for which it is read once."""
    sums = {kind: hashlib.new(kind, usedforsecurity=False) for kind in kinds}
    with path.open("rb") as file:
        while data := file.read(2**20):
            for one in sums.values():
                one.update(data)
    return {kind: one.hexdigest() for kind, one in sums.items()}


def _write_json(path, values):
    """Writes a file that is at every moment the old one or the new one, whole."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    with new.open("w") as file:
        json.dump(values, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _error(text, remedy):
    """A `DownloadError` in one line."""
    return DownloadError(" ".join(f"{text}. {remedy}".split()))
