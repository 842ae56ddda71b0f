"""A server of files by ranges, on the loopback device, that fails when it is told to."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Server(ThreadingHTTPServer):
    """Serves the files of a folder by ranges; counts, and answers some requests as faults tell.

    ``faults`` maps the number of a request to a status, "drop" (closes in the middle of the body) or "hang". GDAL's
    request 0 is HEAD, 1 the first 16 KiB, the others tiles. "all" are all, "late" those for tiles. "whole" is no
    range, but all of the file.
    """

    daemon_threads = True

    def __init__(self, root):
        super().__init__(("127.0.0.1", 0), Handler)
        self.root, self.faults, self.requests = root, {}, []
        self.share = 0.33  # of a body that is dropped
        self.over = threading.Event()
        self.lock = threading.Lock()

    def url(self, name, *, user="", query=""):
        return f"http://{user}127.0.0.1:{self.server_address[1]}/{name}{query}"

    def handle_error(self, request, address):
        """The client hung up."""

    @property
    def moved(self):
        """Bytes of all bodies."""
        return sum(count for _, _, count in self.requests)

    def reset(self, **faults):
        self.requests.clear()
        self.faults = {int(name[1:]) if name[1:].isdigit() else name: fault for name, fault in faults.items()}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        """Say nothing."""

    def do_HEAD(self):
        """The size of a file."""
        self.do_GET()

    def do_GET(self):
        """The range of a file that is asked for."""
        name = unquote(self.path.split("?")[0]).lstrip("/")
        path, asked = self.server.root / name, self.headers.get("Range")
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append((name, asked, 0))  # the bytes are known when they are sent
        faults = self.server.faults
        fault = faults.get(number, faults.get("late" if number > 1 else "all", faults.get("all")))
        if fault == "hang":
            self.server.over.wait(20)
            self.close_connection = True
            return
        status = (
            fault
            if isinstance(fault, int)
            else 404
            if not path.is_file()
            else 206
            if asked and fault != "whole"
            else 200
        )
        body = path.read_bytes() if status in (200, 206) else b""
        size, first = len(body), 0
        if status == 206:
            first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", asked).groups())
            body = body[first : last + 1]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            body = b""
        elif fault == "drop":
            body = body[: int(len(body) * self.server.share)]
            self.close_connection = True
        self.wfile.write(body)
        with self.server.lock:
            self.server.requests[number] = (name, asked, len(body))
