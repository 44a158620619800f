"""Downloads from a server that fails in every way that we know of."""

import contextlib
import email.utils
import errno
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import types
import zlib
from pathlib import Path

import pytest
import urllib3.util.connection
import urllib3.util.retry

from oasisvq.core.errors import DownloadError
from oasisvq.data import download as module
from oasisvq.data.download import download, remote_size, verify
from support import faulty_server
from support.faulty_server import Fault, FaultyServer
from support.processes import HANG

SMALL_CHUNK = 4096
REMEDY = "Fetch it by hand"
IMPATIENCE = 0.2  # seconds without a byte, after which the client gives up on a stalling server


def archive(number, size=100_000):
    """Returns a gzip file of some 100 kB that begins like the others, as versions of a file do."""
    alike, own = random.Random(99), random.Random(number)
    content = b"OASIS" + alike.randbytes(size // 4) + bytes(30_000)
    return gzip.compress(content + own.randbytes(size * 3 // 4), mtime=0)


VERSIONS = [archive(0), archive(1), archive(2, size=70_000)]
SIZE = len(VERSIONS[0])
assert len(VERSIONS[1]) == SIZE  # by size alone nobody can tell which is which


def check(path):
    try:
        content = gzip.decompress(Path(path).read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"damaged ({error})") from None
    if not content.startswith(b"OASIS"):
        raise ValueError("of another kind")


def interrupt(path):
    raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """Makes chunks small, and allows no connection that leaves this computer."""
    connect = urllib3.util.connection.create_connection

    def connect_here(address, *arguments, **options):
        assert address[0] == "127.0.0.1", address
        return connect(address, *arguments, **options)

    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect_here)
    monkeypatch.setattr(module, "CHUNK", SMALL_CHUNK)
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "brains.tar.gz"


def fetch(server, path, **options):
    options = {"timeout": (HANG, HANG), "longest_wait": 0.002, "remedy": REMEDY} | options
    download(server.url, path, check, **options)


def part(path):
    return path.with_name(path.name + ".part")


def lock(path):
    return path.with_name(path.name + ".lock")


@contextlib.contextmanager
def serving_after(path, *arguments, begun=SIZE // 2, framing="length", **options):
    """Serves a file whose download has just been cut off after `begun` bytes."""
    server = FaultyServer(*arguments, **options)
    server.faults.insert(0, Fault(drop=begun, framing=framing))
    with server.serving():
        with pytest.raises(DownloadError):
            fetch(server, path, retries=0)
        assert part(path).stat().st_size == begun
        server.requests.clear()
        yield server


def assert_whole(server, path):
    content = path.read_bytes()
    assert content in server.offered
    record = json.loads(lock(path).read_text())
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["size"] == len(content)
    assert record["url"] == server.url
    left = {file.name for file in path.parent.iterdir()}
    assert left == {path.name, lock(path).name, f".{path.name}.mutex"}


def assert_refused(error, server, path):
    assert not path.exists()
    assert not lock(path).exists()
    message = str(error.value)
    assert "\n" not in message
    assert server.url in message
    assert str(path) in message
    assert message.endswith(REMEDY)


# Faults of one answer each, none of which may cost more than one attempt
KINDS = [
    "none",
    "ignored range",
    "shifted range",
    "range from 0",
    "other total",
    "no range named",
    "unknown total",
    "short range",
    "longer",
    "other etag",
    "changed",
    "changed secretly",
    "unsatisfiable",
    "unsatisfiable elsewhere",
    "408",
    "429",
    "500",
    "503",
    "html",
    "html unlabelled",
    "silence",
    "gibberish",
    "mislabelled",
    "compressed",
    "length too great",
    "length too small",
    "unrequested part",
    "range beyond the end",
]


def random_fault(dice):
    drop, how = None, "end"
    if dice.random() < 0.6:
        drop = dice.choice([0, 1, 14, 17, dice.randrange(SIZE), dice.randrange(SIZE)])
        how = dice.choices(["end", "reset", "stall"], [10, 10, 1])[0]
    framing = dice.choice(["length", "length", "close", "chunked"])
    early = dice.randrange(SIZE) if framing != "length" and dice.random() < 0.4 else 0
    retry_after = dice.choice([None, "0", "7", "-3", "soon", "Wed, 21 Oct 2015 07:28:00 GMT"])
    kind = dice.choice(KINDS) if dice.random() < 0.7 else "none"
    return Fault(kind, drop, how, framing, early, retry_after)


def random_server(seed):
    """Returns a server with one to five faults in a row; every fourth seed's last one stays."""
    dice = random.Random(seed)
    faults = [random_fault(dice) for _ in range(dice.randint(1, 5))]
    if faults[-1].how == "stall" and seed % 4 == 3:
        faults[-1] = Fault("503")  # stalls that stay have a test of their own: they take long
    validators = dice.choice(["strong", "weak", "date", "weak and date", "none"])
    persistent = faults[-1] if seed % 4 == 3 else None
    honours_range = dice.random() < 0.85
    return FaultyServer(VERSIONS, faults, persistent, validators, honours_range)


@pytest.mark.parametrize("seed", range(200))
def test_a_file_is_whole_or_an_error_whatever_the_server_does(path, seed):
    server = random_server(seed)
    passing = seed % 4 != 3
    stalling = any(fault.how == "stall" for fault in server.faults)
    # Beyond an attempt for each fault: two that find versions mixed, and where the client is
    # impatient, some on which this computer was too slow.
    retries = len(server.faults) + (6 if stalling else 2) if passing else 4
    with server.serving():
        try:
            fetch(server, path, retries=retries, timeout=(HANG, IMPATIENCE if stalling else HANG))
        except DownloadError as error:
            assert not passing, error
            assert not path.exists()
            assert not lock(path).exists()
            assert "\n" not in str(error)
        else:
            assert_whole(server, path)
    # Every `retries + 1` attempts must have brought a chunk that was never there before.
    assert len(server.requests) <= (retries + 1) * (SIZE // SMALL_CHUNK + 3)


@pytest.mark.parametrize("validators", ["strong", "weak", "date", "weak and date", "none"])
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_drop_costs_no_more_than_a_chunk(path, validators, how):
    dice = random.Random(0)
    drops = [Fault(drop=dice.randrange(SIZE // 8), how=how) for _ in range(6)]
    with FaultyServer(VERSIONS, drops, validators=validators).serving() as server:
        fetch(server, path, retries=6)
    assert_whole(server, path)
    assert len(server.requests) == 7
    for before, after in itertools.pairwise(server.requests):
        assert 0 <= before.start + before.sent - after.start <= SMALL_CHUNK
    assert SIZE <= sum(request.sent for request in server.requests) <= SIZE + 6 * SMALL_CHUNK
    conditions = {request.headers.get("If-Range") for request in server.requests[1:]}
    known = {"strong": server.etag(), "weak": None, "none": None}
    assert conditions == {known.get(validators, server.date())}
    assert {request.headers["Accept-Encoding"] for request in server.requests} == {"identity"}


def test_attempts_that_bring_new_chunks_are_not_counted(path):
    dropping = Fault(drop=SMALL_CHUNK + 1)
    with FaultyServer(VERSIONS, persistent=dropping).serving() as server:
        fetch(server, path, retries=1)
    assert_whole(server, path)
    assert len(server.requests) == -(-SIZE // dropping.drop)


def test_attempts_that_bring_less_than_a_chunk_come_to_an_end(path):
    with (
        FaultyServer(VERSIONS, persistent=Fault(drop=20)).serving() as server,
        pytest.raises(DownloadError, match=f"Received: 80 of {SIZE} bytes") as error,
    ):
        fetch(server, path, retries=3)
    assert_refused(error, server, path)
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault("503"), "503"),
        (Fault("html"), "HTML"),
        (Fault("html unlabelled"), "HTML"),
        (Fault("silence"), "without response"),
        (Fault("gibberish"), "no answer"),
        (Fault("compressed"), "are incomplete: of another kind"),
        (Fault("length too small"), "are incomplete: damaged"),
        (Fault(framing="close", early=SIZE // 2, kind="ignored range"), "incomplete"),
        (Fault(drop=100, how="stall"), "timed out"),
        (Fault("ignored range", drop=30_000), f"Received: 30000 of {SIZE}"),
    ],
)
def test_a_fault_that_stays_is_named(path, fault, message):
    patience = IMPATIENCE if fault.how == "stall" else HANG
    with (
        FaultyServer(VERSIONS, persistent=fault).serving() as server,
        pytest.raises(DownloadError, match=message) as error,
    ):
        fetch(server, path, retries=2, timeout=(HANG, patience))
    assert_refused(error, server, path)
    assert "Given up after attempts in a row: 3" in str(error.value)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("mislabelled"),
        Fault("length too great"),
        Fault(framing="close"),
        Fault(framing="chunked"),
        Fault(framing="chunked", drop=30_000),
        Fault("unknown total", framing="close", drop=30_000),
        Fault("short range", drop=30_000),
    ],
)
def test_a_fault_that_stays_but_does_no_harm_is_overcome(path, fault):
    with FaultyServer(VERSIONS, persistent=fault).serving() as server:
        fetch(server, path, retries=1)
    assert_whole(server, path)


def test_an_early_end_that_the_check_finds_is_resumed(path):
    with FaultyServer(VERSIONS, [Fault(framing="close", early=30_000)]).serving() as server:
        fetch(server, path, retries=1)
    assert_whole(server, path)
    assert [request.sent for request in server.requests] == [SIZE - 30_000, 30_000]


@pytest.mark.parametrize(
    "kind",
    [
        "shifted range",
        "range from 0",
        "other total",
        "no range named",
        "other etag",
        "range beyond the end",
    ],
)
def test_nothing_is_stored_of_a_part_that_does_not_fit(path, kind):
    with serving_after(path, VERSIONS, [Fault(kind)]) as server:
        kept = part(path).read_bytes()
        with pytest.raises(DownloadError, match="Content-Range"):
            fetch(server, path, retries=0)
        assert part(path).read_bytes() == kept
        server.faults = [Fault(kind), Fault(drop=70_000)]
        fetch(server, path, retries=2)
    assert_whole(server, path)
    ranges = [request.headers.get("Range") for request in server.requests[-3:]]
    assert ranges == [f"bytes={SIZE // 2}-", None, "bytes=70000-"]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("html"),
        Fault("html unlabelled"),
        Fault("500"),
        Fault("404"),
        Fault("silence"),
        Fault("longer"),
        Fault("ignored range", drop=0),
        Fault("ignored range", drop=100),
        Fault("ignored range", drop=100, how="reset", framing="chunked"),
        Fault("ignored range", framing="close", early=SIZE - 100),
        Fault("unsatisfiable elsewhere"),
        Fault(drop=0),
    ],
)
def test_a_failing_attempt_takes_nothing_away(path, fault):
    with serving_after(path, VERSIONS, [fault]) as server:
        kept = part(path).read_bytes()
        with pytest.raises(DownloadError):
            fetch(server, path, retries=0)
        assert part(path).read_bytes().startswith(kept)
        fetch(server, path, retries=0)
    assert_whole(server, path)
    assert server.requests[-1].start >= len(kept) or "unsatisfiable" in fault.kind


def test_an_end_within_what_is_here_takes_nothing_away(path):
    ends_early = Fault("ignored range", framing="close", early=SIZE - 100)
    with serving_after(path, VERSIONS, [ends_early], framing="chunked") as server:
        with pytest.raises(DownloadError, match="stopped at byte 100"):
            fetch(server, path, retries=0)
        assert part(path).stat().st_size == SIZE // 2
        fetch(server, path, retries=0)
    assert_whole(server, path)


@pytest.mark.parametrize("kind", ["compressed", "length too small"])
def test_what_has_proved_wrong_is_not_kept(path, kind):
    with FaultyServer(VERSIONS, [Fault(kind)]).serving() as server:
        with pytest.raises(DownloadError, match="Nothing of .*brains.tar.gz is kept"):
            fetch(server, path, retries=0)
        assert not part(path).exists()
        fetch(server, path, retries=0)
    assert_whole(server, path)


def test_a_partial_file_that_is_too_long_is_cut(path):
    with serving_after(path, VERSIONS) as server:
        part(path).write_bytes(VERSIONS[0] + b"of another origin")
        fetch(server, path, retries=1)
    assert_whole(server, path)
    assert [request.status for request in server.requests] == [416, 200]


def test_the_size_is_learnt_as_soon_as_it_is_named(path):
    with (
        serving_after(path, VERSIONS, [Fault(drop=10_000)], framing="chunked") as server,
        pytest.raises(DownloadError, match=f"Received: {SIZE // 2 + 10_000} of {SIZE} bytes"),
    ):
        fetch(server, path, retries=0)


def test_what_was_fetched_twice_is_no_progress(path):
    faults = [Fault(drop=5_000), Fault(drop=10_000)]
    with (
        serving_after(path, VERSIONS, faults, honours_range=False) as server,
        pytest.raises(DownloadError, match="attempts in a row: 2"),
    ):
        fetch(server, path, retries=1)
    assert len(server.requests) == 2


def test_a_file_that_changed_in_secret_is_taken_as_it_is_now(path):
    faults = [Fault("changed secretly")]
    with serving_after(path, VERSIONS, faults, honours_range=False) as server:
        fetch(server, path, retries=0)
    assert path.read_bytes() == VERSIONS[1]
    assert len(server.requests) == 1


def test_a_file_that_shrank_in_secret_is_taken_as_it_is_now(path):
    shrunk = [Fault("changed secretly", framing="chunked")]
    with serving_after(path, VERSIONS[::2], shrunk, honours_range=False) as server:
        fetch(server, path, retries=0)
    assert path.read_bytes() == VERSIONS[2]


def test_a_part_that_nobody_requested_is_not_stored(path):
    with FaultyServer(VERSIONS, [Fault("unrequested part")]).serving() as server:
        fetch(server, path, retries=1)
    assert_whole(server, path)


def test_a_file_is_on_the_disk_before_it_is_checked(path, monkeypatch):
    synced = []

    def note_size(handle):
        status = os.fstat(handle)
        if stat.S_ISREG(status.st_mode):  # new names are flushed too, with their folder
            synced.append(status.st_size)

    monkeypatch.setattr(os, "fsync", note_size)

    def check_synced(part):
        assert synced[-1] == SIZE

    with FaultyServer(VERSIONS).serving() as server:
        download(server.url, path, check_synced)
    assert len(synced) == 3  # its version, the file itself, its record


def test_a_server_that_cannot_resume_is_read_again(path):
    with serving_after(path, VERSIONS, honours_range=False) as server:
        fetch(server, path, retries=0)
    assert_whole(server, path)
    assert [request.sent for request in server.requests] == [SIZE]


def test_a_changed_file_is_fetched_from_its_start(path):
    with serving_after(path, VERSIONS, [Fault("changed")]) as server:
        fetch(server, path, retries=0)
    assert_whole(server, path)
    assert path.read_bytes() == VERSIONS[1]
    assert [request.status for request in server.requests] == [200]


def test_what_is_left_of_a_changed_file_does_not_hinder_the_new_one(path):
    # Each answer ends within what the two versions share.
    faults = [Fault("changed", drop=9_000)]
    with serving_after(path, VERSIONS, faults, Fault(drop=9_000), begun=40_000) as server:
        fetch(server, path, retries=4)
    assert path.read_bytes() == VERSIONS[1]


def test_two_versions_that_were_mixed_are_noticed_by_the_check(path):
    with serving_after(path, VERSIONS, [Fault("changed secretly")], validators="none") as server:
        fetch(server, path, retries=0)
    assert path.read_bytes() == VERSIONS[1]
    assert [request.status for request in server.requests] == [206, 200]


def test_a_file_that_was_complete_before_its_check_is_not_fetched_again(path):
    with FaultyServer(VERSIONS).serving() as server:
        with pytest.raises(KeyboardInterrupt):
            download(server.url, path, interrupt)
        assert part(path).read_bytes() == VERSIONS[0]
        fetch(server, path)
    assert_whole(server, path)
    assert len(server.requests) == 1


def test_a_416_that_names_the_size_we_have_completes_the_file(path):
    faults = [Fault(framing="close")]
    with FaultyServer(VERSIONS, faults).serving() as server:
        with pytest.raises(KeyboardInterrupt):
            download(server.url, path, interrupt)
        fetch(server, path, retries=0)
    assert_whole(server, path)
    assert [(request.status, request.sent) for request in server.requests] == [
        (200, SIZE),
        (416, 0),
    ]


@pytest.mark.parametrize("status", ["401", "403", "404", "410"])
def test_a_refusal_is_final(path, status):
    with (
        FaultyServer(VERSIONS, persistent=Fault(status)).serving() as server,
        pytest.raises(DownloadError, match=status) as error,
    ):
        fetch(server, path)
    assert_refused(error, server, path)
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["html", "html unlabelled", "html fragment"])
def test_html_is_noticed_by_its_label_or_its_first_bytes(path, monkeypatch, kind):
    monkeypatch.setattr(faulty_server, "BLOCK", 3)  # bytes a chunk: fewer than a page is known by
    fault = Fault(kind, framing="chunked")
    with (
        FaultyServer(VERSIONS, persistent=fault).serving() as server,
        pytest.raises(DownloadError, match="a page of HTML in place of the file") as error,
    ):
        fetch(server, path, retries=0)
    assert_refused(error, server, path)
    assert not part(path).exists()


def test_html_is_welcome_where_the_address_names_it(tmp_path):
    with FaultyServer(VERSIONS, persistent=Fault("html")).serving() as server:
        url = server.url.replace("tar.gz", "html")
        download(url, tmp_path / "page.html", check=lambda path: None)
    assert b"log in" in (tmp_path / "page.html").read_bytes()


class Clock(threading.Event):
    """An event that notes how long one would wait for it, and returns at once."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, seconds):
        self.waits.append(seconds)


def test_pauses_grow_and_a_pause_that_the_server_requests_is_made_within_bounds(path, monkeypatch):
    now = types.SimpleNamespace(time=lambda: 1_000_000_000)
    monkeypatch.setattr(urllib3.util.retry, "time", now)
    clock, date = Clock(), email.utils.formatdate(now.time() + 40, usegmt=True)
    pauses = [None, "7", "3600", "soon", "-5", None, None, date]
    faults = [Fault("503", retry_after=pause) for pause in pauses]
    with FaultyServer(VERSIONS, faults).serving() as server:
        fetch(server, path, retries=8, longest_wait=50, cancelled=clock)
    assert clock.waits == [1, 7, 50, 8, 16, 32, 50, 50]
    clock.waits.clear()
    path.unlink()
    with FaultyServer(VERSIONS, faults[-1:]).serving() as server:
        lock(path).unlink()
        fetch(server, path, longest_wait=50, cancelled=clock)
    assert clock.waits == [40]


def test_another_thread_can_end_a_download(path, monkeypatch):
    cancelled, written = threading.Event(), threading.Event()

    class Bar(module.tqdm):
        def update(self, count):
            self.n += count
            if self.n == 20_000:
                written.set()

    def cancel():
        written.wait(HANG)
        cancelled.set()

    monkeypatch.setattr(module, "tqdm", Bar)
    monkeypatch.setattr(module, "FIRST_WAIT", HANG)  # no second attempt comes before the end

    canceller = threading.Thread(target=cancel)
    with FaultyServer(VERSIONS, [Fault(drop=20_000)]).serving() as server:
        canceller.start()
        with pytest.raises(DownloadError, match="stopped") as error:
            fetch(server, path, cancelled=cancelled, longest_wait=HANG)
        canceller.join()
    assert_refused(error, server, path)
    assert part(path).stat().st_size == 20_000


def test_a_download_stops_between_two_chunks(path):
    server, cancelled = FaultyServer(VERSIONS), threading.Event()
    server.gate.clear()

    def cancel():
        server.requested.wait(HANG)
        cancelled.set()
        server.gate.set()

    canceller = threading.Thread(target=cancel)
    with server.serving():
        canceller.start()
        with pytest.raises(DownloadError, match="stopped"):
            fetch(server, path, cancelled=cancelled)
        with pytest.raises(DownloadError, match="stopped"):
            fetch(server, path, cancelled=cancelled)
        canceller.join()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("url", "attempts"),
    [
        ("http://[bad/brains", 1),
        ("http://", 1),
        ("brains.tar.gz", 1),
        ("ftp://127.0.0.1/brains", 1),
        ("http://\u0130" + "a" * 70 + ".example/", 1),
        ("http://nowhere.invalid/brains", 3),
        ("http://127.0.0.1:1/brains", 3),
    ],
)
def test_an_address_that_leads_nowhere_is_an_error(path, url, attempts, monkeypatch):
    def resolve(host, *arguments):
        raise socket.gaierror(-2, "Name or service not known")

    def connect(address, *arguments, **options):
        if address[0] == "nowhere.invalid":
            resolve(address)
        return connect_here(address, *arguments, **options)

    connect_here = urllib3.util.connection.create_connection
    monkeypatch.setattr(urllib3.util.connection, "create_connection", connect)
    clock = Clock()
    with pytest.raises(DownloadError) as error:
        download(url, path, check, remedy=REMEDY, retries=2, cancelled=clock)
    assert url in str(error.value)
    assert str(error.value).endswith(REMEDY)
    assert len(clock.waits) == attempts - 1
    assert remote_size(url) is None


def test_redirects_in_a_circle_are_an_error(path):
    with FaultyServer(VERSIONS, persistent=Fault("redirect")).serving() as server:
        with pytest.raises(DownloadError, match="redirects") as error:
            fetch(server, path)
        assert remote_size(server.url) == SIZE
    assert_refused(error, server, path)
    assert len(server.requests) == 31


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_a_certificate_that_nobody_trusts_is_final(path, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    command += f" -days 2 -subj /CN=127.0.0.1 -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    clock, server = Clock(), FaultyServer(VERSIONS)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *arguments: None  # the handshake fails on this side as well
    with server.serving(), pytest.raises(DownloadError, match="certificate"):
        download(server.url.replace("http:", "https:"), path, check, cancelled=clock)
    assert clock.waits == []


def test_the_size_is_known_beforehand():
    with FaultyServer(VERSIONS).serving() as server:
        assert remote_size(server.url, HANG) == SIZE
    assert remote_size(server.url, HANG) is None


CHILD = """
import sys
from oasisvq.data import download

class Bar(download.tqdm):
    def update(self, count):
        self.n += count
        print(self.n, flush=True)

download.CHUNK = 4096
download.tqdm = Bar
download.download(sys.argv[1], sys.argv[2], lambda path: None, timeout=float(sys.argv[3]))
"""


def child(server, path):
    """Starts another process that downloads the file, and prints how many bytes it has written."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, server.url, str(path), str(HANG)],
        cwd=Path(module.__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_process_leaves_what_the_next_one_goes_on_from(path):
    with FaultyServer(VERSIONS, [Fault(drop=40_000, how="stall")]).serving() as server:
        with child(server, path) as process:
            assert "40000\n" in process.stdout  # it reads on until that line comes
            process.send_signal(signal.SIGKILL)
        assert not path.exists()
        fetch(server, path, retries=0)
    assert_whole(server, path)
    resumed = server.requests[1]
    assert (resumed.headers["Range"], resumed.headers["If-Range"]) == (
        "bytes=40000-",
        server.etag(),
    )
    assert (resumed.status, resumed.sent) == (206, SIZE - 40_000)


def test_of_two_processes_one_downloads_and_one_waits(path):
    server = FaultyServer(VERSIONS)
    server.gate.clear()
    with server.serving(), child(server, path) as first:
        assert server.requested.wait(HANG)
        with child(server, path) as second:
            line = second.stderr.readline()
            assert line == f"Waiting for another process that downloads {path}\n"
            server.gate.set()
            assert (second.wait(HANG), second.stderr.read()) == (0, "")
        assert (first.wait(HANG), first.stderr.read()) == (0, "")
    assert_whole(server, path)
    assert len(server.requests) == 1


def test_a_file_published_anew_is_refused_until_its_lock_record_is_deleted(path):
    with FaultyServer(VERSIONS, [Fault(), Fault("changed")]).serving() as server:
        fetch(server, path)
        path.unlink()
        with pytest.raises(DownloadError, match="delete the lock file") as error:
            fetch(server, path)
        assert not path.exists()
        for version in VERSIONS[:2]:
            assert hashlib.sha256(version).hexdigest() in str(error.value)
        assert str(error.value).endswith(REMEDY)
        lock(path).unlink()
        fetch(server, path)
    assert_whole(server, path)
    assert len(server.requests) == 2  # what was refused is still there


def test_a_file_that_is_the_one_on_record_is_welcome_again(path):
    with FaultyServer(VERSIONS).serving() as server:
        fetch(server, path)
        path.unlink()
        fetch(server, path)
    assert_whole(server, path)


def test_a_known_sum_decides(path):
    with FaultyServer(VERSIONS).serving() as server:
        with pytest.raises(DownloadError, match="part, rename it to brains.tar.gz") as error:
            fetch(server, path, known_md5="0" * 32)
        assert_refused(error, server, path)
        md5 = hashlib.md5(VERSIONS[0]).hexdigest()
        assert md5 in str(error.value)
        fetch(server, path, known_md5=md5.upper())
    assert_whole(server, path)
    assert len(server.requests) == 1


def test_a_file_that_is_there_is_not_requested(path):
    path.write_bytes(b"put there by hand")
    download("http://127.0.0.1:1/", path, check)
    record = verify(path)
    assert record == json.loads(lock(path).read_text())
    assert record["url"] is None
    assert record["sha256"] == hashlib.sha256(b"put there by hand").hexdigest()


def test_a_file_is_read_again_only_if_its_time_has_changed(path, monkeypatch):
    path.write_bytes(b"put there by hand")
    record = verify(path)
    monkeypatch.setattr(module, "sha256", lambda path: pytest.fail("read again"))
    assert verify(path) == record
    monkeypatch.undo()
    os.utime(path, (1, 1))
    assert verify(path) == record | {"mtime_ns": 1_000_000_000}
    assert json.loads(lock(path).read_text())["mtime_ns"] == 1_000_000_000


def test_a_file_in_a_folder_of_read_only_data_is_welcome(path, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    path.write_bytes(b"put there by hand")
    monkeypatch.setattr(Path, "write_text", refuse)
    assert verify(path)["size"] == 17
    assert not lock(path).exists()


def test_a_record_without_a_time_is_compared_by_its_sum(path):
    path.write_bytes(b"abc")
    record = verify(path)
    del record["mtime_ns"]
    lock(path).write_text(json.dumps(record))
    assert "mtime_ns" in verify(path)
    lock(path).write_text(json.dumps(record | {"sha256": "0" * 64}))
    with pytest.raises(DownloadError, match="0000, as .* Received: 3 bytes"):
        verify(path)


def test_a_file_that_is_not_the_one_on_record_is_refused(path):
    path.write_bytes(b"put there by hand")
    verify(path)
    path.write_bytes(b"put there by head")
    os.utime(path, (1, 1))
    for attempt in (verify, lambda path, remedy: download("http://a/", path, check, remedy=remedy)):
        with pytest.raises(
            DownloadError, match=r"brains\.tar\.gz: expected 17 .*Fetch it by hand$"
        ):
            attempt(path, remedy=REMEDY)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": 1}', "\x00"])
def test_a_damaged_lock_record_is_named(path, text):
    path.write_bytes(b"abc")
    lock(path).write_text(text)
    with pytest.raises(DownloadError, match=r"brains\.tar\.gz\.lock: not a lock record"):
        verify(path)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"url": 1}', "\x00", "http://127.0.0.1/", "https://z/"]
)
def test_a_partial_file_of_unknown_origin_is_not_resumed(path, text):
    with serving_after(path, VERSIONS) as server:
        state = path.with_name(path.name + ".part.json")
        if text.startswith("http"):  # another address
            text = state.read_text().replace(server.url, text)
        state.write_text(text)
        fetch(server, path, retries=0)
    assert_whole(server, path)
    assert "Range" not in server.requests[0].headers


def test_a_full_disk_is_an_error_that_keeps_what_has_come(path):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FaultyServer(VERSIONS).serving() as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        try:
            with pytest.raises(DownloadError, match=r"cannot be saved as .*brains") as error:
                fetch(server, path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert_refused(error, server, path)
        assert len(server.requests) == 1
        assert part(path).stat().st_size == 40_000
        fetch(server, path)
    assert_whole(server, path)
    assert server.requests[1].start == 40_000


def test_a_record_that_cannot_be_written_is_an_error(path, monkeypatch):
    def refuse(path, text):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    with FaultyServer(VERSIONS).serving() as server:
        with pytest.raises(DownloadError, match=r"cannot be saved as .*brains.*No space") as error:
            fetch(server, path)
        assert_refused(error, server, path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadError, match="cannot be saved as .*brains"):
        download("http://127.0.0.1:1/", tmp_path / "file" / "brains", check)


def test_the_folder_is_made(tmp_path):
    with FaultyServer(VERSIONS).serving() as server:
        fetch(server, tmp_path / "new" / "folder" / "brains.tar.gz")
    assert_whole(server, tmp_path / "new" / "folder" / "brains.tar.gz")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_is_seen_on_a_terminal_only(path, monkeypatch, capsys):
    with serving_after(path, VERSIONS) as server:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", Terminal())
            fetch(server, path)
            bar = sys.stderr.getvalue()
        assert "brains.tar.gz" in bar
        assert "50%" in bar  # it begins at what was there
        assert "100%" in bar
        path.unlink()
        fetch(server, path)
    assert_whole(server, path)
    assert capsys.readouterr() == ("", "")


def test_a_server_that_sends_hardly_a_byte_is_named(path, monkeypatch):
    clock = types.SimpleNamespace(monotonic=itertools.count(0, 1000).__next__)
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "SLOWEST", 10**9)
    with (
        FaultyServer(VERSIONS).serving() as server,
        pytest.raises(DownloadError, match="fewer than 1,000,000,000 bytes a second came"),
    ):
        fetch(server, path, retries=0)


def test_an_answer_without_end_is_left_alone():
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"more than 0\.01 s"):
        module._within(0.01, never.wait)
    never.set()


def test_a_file_of_more_bytes_than_expected_is_refused(path):
    with (
        FaultyServer(VERSIONS).serving() as server,
        pytest.raises(DownloadError, match="expected at most 10 bytes"),
    ):
        fetch(server, path, largest=10)


def test_what_never_ends_is_no_download(path):
    path.symlink_to("/dev/zero")
    with pytest.raises(DownloadError, match="not a regular file"):
        verify(path)
