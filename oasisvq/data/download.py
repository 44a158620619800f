"""Downloads files over HTTP: the result is a complete and verified file, or an error."""

import contextlib
import functools
import hashlib
import http.client
import itertools
import json
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import filelock
import requests
import urllib3
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader

from oasisvq.core.errors import DownloadError, WriteError
from oasisvq.core.files import one_at_a_time, read_json, sha256, whole_file

CHUNK = 2**20  # bytes; a lost connection loses no more than this
SLOWEST = 1000  # bytes a second, over the time that one byte may take
FIRST_WAIT = 1.0  # seconds before the second attempt; doubled before each later one
# Some servers label every .tar.gz as compressed for the transfer, so that a client unpacks it.
UNCHANGED = {"Accept-Encoding": "identity"}

Check = Callable[[Path], object]  # raises ValueError, with the reason, for an incomplete file
Timeout = float | tuple[float, float]  # seconds


def download(
    url: str,
    path: str | Path,
    check: Check,
    known_md5: str | None = None,
    remedy: str = "",
    timeout: Timeout = (10, 60),
    retries: int = 5,
    longest_wait: float = 60.0,
    cancelled: Event | None = None,
    largest: int | None = None,
) -> None:
    """Downloads a file, or compares it with its lock record if it exists.

    A download that ends early keeps the bytes received in `<path>.part`, and the next call resumes
    it. `<path>.lock` records url, size and SHA-256 of the file, so that a later download gives the
    same bytes or an error.

    Args:
        url: An http or https address.
        path: The path of the file; its folder is made.
        check: Reads the file at a path and raises `ValueError`, with the reason, if it is
            incomplete.
        known_md5: The known MD5 sum of the file, in hexadecimal.
        remedy: The end of every message, for the case that the server does not give the file.
        timeout: Seconds to wait for a connection, and for each next byte.
        retries: Number of attempts that may follow one another without a new byte.
        longest_wait: The longest pause between two attempts, in seconds.
        cancelled: An event with which another thread ends the download.
        largest: The most bytes that the file may have.

    Raises:
        DownloadError: If no complete and verified file is obtained.
    """
    path = Path(path)
    transfer = _Transfer(url, path, check, timeout, cancelled or Event(), largest)
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            mutex = path.with_name(f".{path.name}.mutex")
            with one_at_a_time(mutex, f"downloads {path}", transfer.cancelled):
                if not path.exists():
                    transfer.run(retries, longest_wait)
                    _publish(transfer.part, path, url, known_md5, remedy)
                    transfer.state.unlink(missing_ok=True)
        verify(path, remedy)
    except _AttemptFailedError as failure:
        raise _error(f"{url}: {failure}. {transfer.received()}", remedy) from None
    except filelock.Timeout:
        raise _error(f"{url}: stopped while waiting", remedy) from None
    except (OSError, WriteError) as error:
        raise _error(f"{url}: cannot be saved as {path}: {error}", remedy) from None


def remote_size(url: str, timeout: Timeout = (10, 60)) -> int | None:
    """Returns the size of a file in bytes, or None if the server does not give it."""
    try:
        reply = _within(
            timeout,
            lambda: requests.head(url, headers=UNCHANGED, timeout=timeout, allow_redirects=True),
        )
        return int(reply.headers["Content-Length"]) if reply.status_code == 200 else None
    except (KeyError, ValueError, OSError, HTTPError):
        return None


def verify(path: str | Path, remedy: str = "") -> dict[str, Any]:
    """Compares a file with its lock record, or makes the record of a file from the user.

    A file with the size and time of the record is not read again.

    Returns:
        The record: a dictionary of url (None for a file from the user), size, sha256 and mtime_ns.

    Raises:
        DownloadError: If the file is not the one on record.
    """
    path = Path(path)
    if not path.is_file():
        raise _error(f"{path}: not a regular file. Take it away", remedy)
    status, record = path.stat(), _read_record(path, remedy)
    if record and record | {"size": status.st_size, "mtime_ns": status.st_mtime_ns} == record:
        return record
    found = _examine(path, path, record["url"] if record else None, remedy)
    with contextlib.suppress(WriteError):  # in a read-only folder the file is read each time
        _write_json(lock_file(path), found)
    return found


def lock_file(path: Path) -> Path:
    """Returns the path of a file's lock record."""
    return path.with_name(f"{path.name}.lock")


class _AttemptFailedError(Exception):
    """A failed attempt: it failed for good, or may succeed after `wait` seconds."""

    def __init__(self, reason: str, for_good: bool = False, wait: float = 0.0):
        super().__init__(reason)
        self.for_good, self.wait = for_good, wait


class _Version(NamedTuple):
    """What a server says about a file, by which a later attempt recognises the same file."""

    url: str
    etag: str | None
    last_modified: str | None
    size: int | None

    def merged(self, other: "_Version") -> "_Version | None":
        """Returns what either of two versions contains, or None if they contradict each other."""
        pairs = [*zip(self, other, strict=True)]
        if any(a != b for a, b in pairs if a is not None and b is not None):
            return None
        return _Version._make(b if a is None else a for a, b in pairs)


class _Transfer:
    """A download under way: `<path>.part`, and `<path>.part.json` with its version."""

    def __init__(
        self,
        url: str,
        path: Path,
        check: Check,
        timeout: Timeout,
        cancelled: Event,
        largest: int | None,
    ):
        self.url, self.path, self.check, self.largest = url, path, check, largest
        self.timeout, self.cancelled = timeout, cancelled
        self.part = path.with_name(f"{path.name}.part")
        self.state = path.with_name(f"{path.name}.part.json")
        self.version: _Version | None = None
        self.furthest = 0  # the most bytes that any attempt has received
        self.from_start = False  # whether the next attempt asks for the whole file

    def run(self, retries: int, longest_wait: float) -> None:
        """Makes attempts until the file is complete, or too many in a row bring no new bytes."""
        # A partial file of unknown version cannot be resumed.
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            version = _Version(**read_json(self.state))
            if version.url == self.url and self.part.exists():
                self.version = version
        self.furthest = self._size()
        fresh = retry = urllib3.Retry(retries, backoff_factor=1, backoff_max=longest_wait)
        while True:
            before = self.furthest
            try:
                return self._attempt()
            except _AttemptFailedError as failure:
                if failure.for_good:
                    raise
                retry = fresh if self.furthest >= before + CHUNK else retry
                if not retry.total:
                    attempts = f"Given up after attempts in a row: {retries + 1}"
                    raise _AttemptFailedError(f"{failure}. {attempts}") from None
                retry = retry.increment()
                wait = min(longest_wait, max(FIRST_WAIT, retry.get_backoff_time(), failure.wait))
                tqdm.write(f"{self.path.name}: {failure}; next attempt in {wait:.3g} s", sys.stderr)
                self.cancelled.wait(wait)

    def received(self) -> str:
        """Returns a text about the bytes received so far."""
        if not self._size():
            return f"Nothing of {self.path} is kept"
        of_all = f" of {self.version.size}" if self.version and self.version.size else ""
        return f"Received: {self._size()}{of_all} bytes, kept in {self.part}"

    def _attempt(self) -> None:
        """Makes a request, unless all bytes are here, and checks the file."""
        start = 0 if self.from_start or self.version is None else self._size()
        in_one_reply = False
        if self.version is None or self.version.size != start:
            response = self._request(start)
            try:
                in_one_reply = self._receive(response, start)
            finally:
                with contextlib.suppress(TimeoutError):  # a read under way holds its lock
                    _within(1, response.close)
        with self.part.open("r+b") as file:
            os.fsync(file.fileno())
        try:
            self.check(self.part)
            return
        except ValueError as error:
            reason = f"the {self._size()} bytes received are incomplete: {error}"
        # Without a known length, the file may have ended early: the next attempt asks for more.
        if not in_one_reply or (self.version and self.version.size is not None):
            self._discard()
        if in_one_reply:
            raise _AttemptFailedError(reason)
        self._attempt()  # the file may mix two versions: start again

    def _request(self, start: int) -> requests.Response:
        """Returns the server's answer to a request for the file from byte `start` on."""
        self._stop_if_cancelled()
        headers = UNCHANGED
        if start and self.version:
            # A weak ETag does not promise equal bytes, so servers must not accept it here.
            strong = (self.version.etag or "").startswith('"')
            validator = self.version.etag if strong else self.version.last_modified
            headers = UNCHANGED | {"Range": f"bytes={start}-", "If-Range": validator}
        try:
            ask = functools.partial(requests.get, self.url, headers=headers, stream=True)
            return _within(self.timeout, lambda: ask(timeout=self.timeout))
        except (OSError, ValueError, HTTPError) as error:
            cause = _cause(error)
            # An invalid certificate is a ValueError too.
            for_good = isinstance(cause, (ValueError, requests.TooManyRedirects))
            raise _AttemptFailedError(f"no answer: {cause}", for_good) from None

    def _receive(self, response: requests.Response, start: int) -> bool:
        """Stores the bytes of an answer, and returns whether it contains the whole file."""
        status, tell = response.status_code, response.headers.get
        named = tell("Content-Range", "none").strip()
        rest = re.fullmatch(rf"bytes {start}-(\d+)/(?:(\d+)|\*)", named, re.ASCII)
        if start and status == 416 and named == f"bytes */{start}":
            return False  # nothing is missing
        end = total = None
        if status == 200:
            start, end, total = 0, response.raw.length_remaining, response.raw.length_remaining
        elif not start or status not in (206, 416):
            raise _refusal(response)
        elif rest and status == 206:
            end, total = int(rest[1]) + 1, int(rest[2]) if rest[2] else None
        version = _Version(self.url, tell("ETag"), tell("Last-Modified"), total)
        merged = self.version.merged(version) if self.version else version
        if start and not (merged and end and start < end <= (end if total is None else total)):
            self.from_start = True
            raise _AttemptFailedError(
                f"the server did not send bytes {start}- of the same file (Content-Range: {named})"
            )
        pieces = self._pieces(response, start)
        first = next(pieces)
        if start == 0:
            self.from_start = False
            if self.version is None or merged is None:
                self._discard()
        self._remember(merged or version)
        self.part.touch()
        self._store(start, end, version, itertools.chain([first], pieces))
        return start == 0

    def _pieces(self, response: requests.Response, start: int) -> Iterator[bytes]:
        """Yields the body of an answer undecoded; raises an error for a page of HTML."""
        since, received = time.monotonic(), 0  # of a span in which the speed is measured
        span, waiter = _seconds(self.timeout), _Waiter()  # one thread for all pieces

        def read() -> bytes:
            nonlocal since, received
            piece = waiter.within(span, lambda: response.raw.read1(CHUNK, decode_content=False))
            received += len(piece)
            if piece and time.monotonic() - since > span:
                if received < SLOWEST * span:
                    raise TimeoutError(f"fewer than {SLOWEST:,} bytes a second came")
                since, received = time.monotonic(), 0
            return piece

        first = b""
        try:
            while start == 0 and len(first.lstrip()) < 16 and (piece := read()):
                first += piece
            is_labelled = response.headers.get("Content-Type", "").lower().startswith("text/html")
            is_page = is_labelled or re.match(rb"\s*<(!doctype )?html", first, re.IGNORECASE)
            if is_page and not urlsplit(self.url).path.lower().endswith((".html", ".htm")):
                raise _AttemptFailedError("the server sent a page of HTML in place of the file")
            yield first
            while piece := read():
                yield piece
        except (OSError, http.client.HTTPException, HTTPError) as error:
            raise _AttemptFailedError(f"the connection failed: {_cause(error)}") from None
        finally:
            waiter.end()

    def _store(self, position: int, end: int | None, version: _Version, pieces: Iterable) -> None:
        """Writes a body at its position in the file.

        A server that cannot resume repeats earlier bytes. These are compared with the file, not
        dropped first, so that an attempt that fails early loses nothing.
        """
        total = self.version and self.version.size
        style = {"disable": None, "unit": "B", "unit_scale": True, "unit_divisor": 1024}
        bar = tqdm(total=total, initial=position, desc=self.path.name, **style)
        with bar, self.part.open("r+b") as file:
            file.seek(position)
            for piece in pieces:
                self._stop_if_cancelled()
                if self.largest and position + len(piece) > self.largest:
                    raise _AttemptFailedError(
                        f"expected at most {self.largest:,} bytes. Received: more", for_good=True
                    )
                if end is not None and position + len(piece) > end:
                    raise _AttemptFailedError(f"more bytes came than the {end} promised")
                here = file.read(len(piece))
                if not piece.startswith(here):  # the rest of the file is another version
                    file.truncate(position)
                    file.seek(position)
                    here = b""
                    self._remember(version)
                file.write(piece[len(here) :])
                file.flush()  # so that the bytes outlive this process
                position += len(piece)
                self.furthest = max(self.furthest, position)
                bar.update(len(piece))
            total = self.version and self.version.size
            if position < next(size for size in (total, end, self._size()) if size is not None):
                raise _AttemptFailedError(f"the server stopped at byte {position}")
            file.truncate(position)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _remember(self, version: _Version) -> None:
        if version != self.version:
            _write_json(self.state, version._asdict())
            self.version = version

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.state.unlink(missing_ok=True)
        self.version = None

    def _stop_if_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise _AttemptFailedError("stopped", for_good=True)


def _seconds(timeout: Timeout) -> float:
    """Returns how long an answer may take in all."""
    return timeout if isinstance(timeout, (int, float)) else sum(timeout)


class _Waiter:
    """A thread for calls that may never return; it is left to itself then.

    The timeouts of a connection begin anew with each byte, so a slow server would hold it forever.
    """

    def __init__(self):
        self.calls, self.results = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while function := self.calls.get():
            try:
                self.results.put((function(), None))
            except BaseException as error:  # it is raised by `within`
                self.results.put((None, error))

    def within(self, seconds: float, function: Callable[[], Any]) -> Any:
        """Returns what a function returns.

        Raises:
            TimeoutError: If it takes longer. No further function may be given then.
        """
        self.calls.put(function)
        try:
            result, error = self.results.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"it took more than {seconds:g} s") from None
        if error:
            raise error
        return result

    def end(self) -> None:
        """Lets the thread end after what it does now."""
        self.calls.put(None)


def _within(timeout: Timeout, function: Callable[[], Any]) -> Any:
    """Returns what one function returns, see `_Waiter.within`."""
    waiter = _Waiter()
    try:
        return waiter.within(_seconds(timeout), function)
    finally:
        waiter.end()


def _refusal(response: requests.Response) -> _AttemptFailedError:
    """Returns the failure of a status: client errors are final, server errors may pass."""
    status = response.status_code
    passing = status in (206, 408, 425, 429) or status >= 500
    wait = None
    with contextlib.suppress(InvalidHeader, ValueError, OverflowError):
        wait = urllib3.Retry().get_retry_after(response.raw)
    reason = f"the server answered {status} {response.reason or ''}".strip()
    return _AttemptFailedError(reason, for_good=not passing, wait=wait or 0.0)


def _cause(error: BaseException) -> BaseException:
    """Returns the original error inside those of requests and urllib3."""
    inner = [getattr(error, "reason", None), *error.args]
    inner = next((e for e in inner if isinstance(e, Exception)), None)
    return error if inner is None else _cause(inner)


def _publish(part: Path, path: Path, url: str, known_md5: str | None, remedy: str) -> None:
    """Checks a complete file, records it, and gives it its name."""
    if known_md5:
        with part.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if md5.hexdigest() != known_md5.lower():
            raise _AttemptFailedError(
                f"expected a file with the MD5 sum {known_md5}. Received: {md5.hexdigest()}. "
                f"If you trust {part}, rename it to {path.name}"
            )
    _write_json(lock_file(path), _examine(part, path, url, remedy))
    part.replace(path)


def _examine(file: Path, path: Path, url: str | None, remedy: str) -> dict[str, Any]:
    """Returns the lock record of a file for `path`, after a check against an earlier record."""
    status, record = file.stat(), _read_record(path, remedy)
    found = {"url": url, "size": status.st_size, "sha256": sha256(file)}
    if record and (record["size"], record["sha256"]) != (found["size"], found["sha256"]):
        raise _error(
            f"{path}: expected {record['size']} bytes with SHA-256 {record['sha256']}, as "
            f"{lock_file(path)} records. Received: {found['size']} bytes with SHA-256 "
            f"{found['sha256']}. If the file was published anew, delete the lock file",
            remedy,
        )
    return found | {"mtime_ns": status.st_mtime_ns}


def _read_record(path: Path, remedy: str) -> dict[str, Any] | None:
    """Returns the lock record of a file, or None without one."""
    try:
        record = read_json(lock_file(path))
        if isinstance(record, dict) and record.keys() >= {"url", "size", "sha256"}:
            return record
    except FileNotFoundError:
        return None
    except ValueError:
        pass
    raise _error(f"{lock_file(path)}: not a lock record. Delete it and start again", remedy)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    # With the process's number, because several processes may verify a file at the same time.
    with whole_file(path, f"{os.getpid()}") as partial:
        partial.write_text(json.dumps(values, indent=1))


def _error(text: str, remedy: str) -> DownloadError:
    """Returns a `DownloadError` in one line."""
    return DownloadError(" ".join(f"{text}. {remedy}".split()))
