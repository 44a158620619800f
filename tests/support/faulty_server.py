"""Serves files on this computer with the faults that a test wants, and counts what it sends."""

import contextlib
import dataclasses
import gzip
import http.server
import socket
import socketserver
import struct
import threading
import traceback

HTML = b"\n <!DOCTYPE html>\n<html><title>Please log in</title></html>" + b" " * 500
BLOCK = 1000  # bytes sent at a time


@dataclasses.dataclass(frozen=True)
class Fault:
    """All that may be wrong with one answer; the defaults describe a right one."""

    kind: str = "none"  # what is wrong with the status or the headers
    drop: int | None = None  # bytes of the body after which the connection ends
    how: str = "end"  # "end" politely, "reset", or "stall" without a word
    framing: str = "length"  # "length" names the length; "close" and "chunked" do not
    early: int = 0  # bytes missing at the end, unnoticeably if the framing is "close"
    retry_after: str | None = None


@dataclasses.dataclass
class Request:
    """A request, and what was sent in answer to it."""

    path: str
    headers: dict
    status: int = 0
    start: int = 0  # the byte of the file that the body begins with
    sent: int = 0  # bytes of the body


class FaultyServer(http.server.ThreadingHTTPServer):
    """Serves versions of one file at every path.

    Args:
        versions: List of bytes. The fault of kind "changed" or "changed secretly" puts the next
            in the place of the one before.
        faults: Faults of the first answers, in their order.
        persistent: Fault of all answers after those. Defaults to none.
        validators: What the server names to know a version by: "strong", "weak", "date",
            "weak and date" or "none".
        honours_range: Whether it can send a part of the file.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, versions, faults=(), persistent=None, validators="strong", honours_range=True
    ):
        super().__init__(("127.0.0.1", 0), Handler)
        self.versions, self.faults = list(versions), list(faults)
        self.persistent = persistent or Fault()
        self.validators, self.honours_range = validators, honours_range
        self.current, self.named = 0, 0  # the version that is sent, and the one that is named
        self.requests, self.errors = [], []
        self.mutex = threading.Lock()
        self.gate = threading.Event()  # closed, it holds back all bodies
        self.gate.set()
        self.requested = threading.Event()
        self.ended = threading.Event()

    def server_bind(self):
        """Binds without asking the name service, which may be far away."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/brains.tar.gz"

    @property
    def offered(self):
        """Returns the versions that the server has really had so far."""
        return self.versions[: self.current + 1]

    def etag(self):
        return f'"version-{self.named}"'

    def date(self):
        return f"Mon, 0{self.named + 1} Jan 2024 00:00:00 GMT"

    def next_fault(self):
        with self.mutex:
            fault = self.faults.pop(0) if self.faults else self.persistent
            if fault.kind.startswith("changed") and self.current + 1 < len(self.versions):
                self.current += 1
                self.named = self.current if fault.kind == "changed" else self.named
            return fault

    def handle_error(self, request, client_address):
        self.errors.append(traceback.format_exc())

    @contextlib.contextmanager
    def serving(self):
        thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.ended.set()
            self.gate.set()
            self.shutdown()
            self.server_close()
            thread.join()
        assert not self.errors, self.errors


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # what counts as sent shall have left before a reset

    def log_message(self, *arguments):
        pass

    def handle(self):
        # A client that gives up is no failure of the server.
        with contextlib.suppress(ConnectionError):
            super().handle()

    def finish(self):
        with contextlib.suppress(ConnectionError):
            super().finish()

    def do_HEAD(self):  # noqa: N802
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.versions[self.server.current])))
        self.end_headers()

    def do_GET(self):  # noqa: N802
        self.close_connection = True
        self.request_seen = Request(self.path, dict(self.headers))
        self.server.requests.append(self.request_seen)
        self.server.requested.set()
        fault = self.server.next_fault()
        if fault.kind == "redirect":
            self.answer(302, {"Location": self.path + "x"}, b"", Fault())
        elif fault.kind.isdigit():
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self.answer(int(fault.kind), headers, b"not now", Fault())
        elif fault.kind.startswith("html"):
            label = "application/gzip" if "unlabelled" in fault.kind else "Text/HTML; charset=utf-8"
            body = b"Please log in" if "fragment" in fault.kind else HTML
            self.answer(200, {"Content-Type": label}, body, Fault(framing=fault.framing))
        elif fault.kind == "silence":
            pass
        elif fault.kind == "gibberish":
            self.wfile.write(b"\x00\xff gibberish\r\n\r\n")
        else:
            self.send_file(fault)

    def send_file(self, fault):
        server = self.server
        body = server.versions[server.current]
        headers = {"Content-Type": "application/gzip"} | self.validators(fault)
        if fault.kind == "mislabelled":
            headers["Content-Encoding"] = "gzip"
        if fault.kind == "compressed":
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(body, mtime=0)
        start = 1000 if fault.kind == "unrequested part" else self.requested_start(fault)
        if start is None:
            self.answer(200, headers, body, fault)
        elif start >= len(body) or fault.kind.startswith("unsatisfiable"):
            named = len(body) if fault.kind != "unsatisfiable elsewhere" else start // 2
            headers["Content-Range"] = f"bytes */{named}"
            self.answer(416, headers, b"", Fault())
        else:
            self.send_part(body, start, headers, fault)

    def send_part(self, body, start, headers, fault):
        first, last, total = start, len(body) - 1, len(body)
        sent = body[start:]
        if fault.kind == "shifted range":
            first, sent = first + 10, body[start + 10 :]
        if fault.kind == "range from 0":
            first, sent = 0, body
        if fault.kind == "other total":
            total += 10
        if fault.kind == "range beyond the end":
            last += 10
        if fault.kind == "short range":
            last = min(last, start + 9_999)
            sent = body[start : last + 1]
        if fault.kind == "longer":
            fault = dataclasses.replace(fault, framing="chunked")
            sent += b"more than promised" * 10
        headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        if fault.kind == "unknown total":
            headers["Content-Range"] = f"bytes {first}-{last}/*"
        if fault.kind == "no range named":
            del headers["Content-Range"]
        self.request_seen.start = first
        self.answer(206, headers, sent, fault)

    def requested_start(self, fault):
        """Returns the first byte that the client wants, or None if it gets the whole file."""
        requested = self.headers.get("Range")
        if not requested or not self.server.honours_range or fault.kind == "ignored range":
            return None
        condition = self.headers.get("If-Range")
        if condition and condition not in self.validators(Fault()).values():
            return None
        return int(requested.removeprefix("bytes=").removesuffix("-"))

    def validators(self, fault):
        kind, etag, headers = self.server.validators, self.server.etag(), {}
        if fault.kind == "other etag":
            etag = '"another"'
        if kind == "strong":
            headers["ETag"] = etag
        if kind.startswith("weak"):
            headers["ETag"] = "W/" + etag
        if kind.endswith("date"):
            headers["Last-Modified"] = self.server.date()
        return headers

    def answer(self, status, headers, body, fault):
        self.request_seen.status = status
        length = len(body)
        if fault.kind == "length too great":
            length += 100
        if fault.kind == "length too small":
            length -= min(length, 100)
        if fault.framing == "close":
            self.protocol_version = "HTTP/1.0"
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name, value)
        if fault.framing == "length":
            self.send_header("Content-Length", str(length))
        if fault.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        body = body[: max(0, len(body) - fault.early)]
        self.send_body(body if fault.drop is None else body[: fault.drop], fault.framing)
        if fault.drop is None and fault.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        if fault.drop is not None and fault.how == "reset":
            # A linger of 0 s has the connection reset in place of ended.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        if fault.drop is not None and fault.how == "stall":
            self.server.ended.wait()

    def send_body(self, body, framing):
        for start in range(0, len(body), BLOCK):
            self.server.gate.wait()
            block = body[start : start + BLOCK]
            framed = b"%x\r\n%s\r\n" % (len(block), block) if framing == "chunked" else block
            self.wfile.write(framed)
            self.request_seen.sent += len(block)
