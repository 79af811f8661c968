"""A real HTTP server on loopback, whose faults can be chosen file by file."""

import base64
import dataclasses
import hashlib
import http.server
import io
import socket
import struct
import threading
import time
import urllib.parse

import pytest


@dataclasses.dataclass
class ServedFile:
    """A file and how the server misbehaves over it."""

    content: bytes
    ranges: bool = True  # honours Range
    etag: str | None = '"v1"'
    cut_after: list = dataclasses.field(default_factory=list)  # bytes per request, then closes
    announced: int | None = None  # a Content-Length that lies
    md5: str | None = None  # what x-goog-hash claims: "true" or a base64 digest
    statuses: list = dataclasses.field(default_factory=list)  # answers before the first good one
    headers: dict = dataclasses.field(default_factory=dict)
    content_type: str = "application/octet-stream"
    delay: float = 0.0  # seconds before the answer
    wrong_range: bool = False  # sends 206 from the start whatever was asked
    reset: bool = False  # a cut is a reset of the connection instead of its end
    chunked: bool = False  # announces no length


class FileServer:
    """`files[path]` are served; `requests` records (path, Range header) of each request."""

    def __init__(self):
        self.files: dict[str, ServedFile] = {}
        self.requests: list[tuple[str, str | None]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def do_GET(self):
                owner.answer(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def serve(self, path: str, content: bytes, **faults) -> str:
        """Serves `content` at `path` and returns its URL."""
        self.files[path] = ServedFile(content, **faults)
        return f"http://{self.host}{urllib.parse.quote(path)}"

    def answer(self, handler):
        path = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path)
        asked = handler.headers.get("Range")
        self.requests.append((path, asked))
        file = self.files.get(path)
        if file is None:
            handler.send_error(404)
            return
        time.sleep(file.delay)
        if file.statuses:
            handler.send_response(file.statuses.pop(0))
            handler.send_header("Content-Length", "0")
            for name, value in file.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            return
        start, size = 0, len(file.content)
        if_range = handler.headers.get("If-Range")
        if asked and file.ranges and if_range in (None, file.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if file.wrong_range and start:
            start = 0
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes 0-{size - 1}/{size}")
        elif start >= size and start:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{size}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        elif start:
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        else:
            handler.send_response(200)
        body = file.content[start:]
        handler.send_header("Content-Type", file.content_type)
        announced = len(body) if file.announced is None else file.announced - start
        if file.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(announced))
        if file.etag:
            handler.send_header("ETag", file.etag)
        if file.md5:
            digest = base64.b64encode(hashlib.md5(file.content).digest()).decode()
            value = digest if file.md5 == "true" else file.md5
            handler.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={value}")
        for name, value in file.headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        cut = file.cut_after.pop(0) if file.cut_after else None
        handler.close_connection = cut is not None or announced != len(body)
        body = body[:announced][:cut]
        if file.chunked:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
            if cut is None:
                handler.wfile.write(b"0\r\n\r\n")
        else:
            handler.wfile.write(body)
        if file.reset and cut is not None:
            time.sleep(0.1)  # let what was written arrive
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.wfile = io.BytesIO()  # nothing may be flushed any more
            handler.connection.close()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def file_server(monkeypatch, tmp_path):
    """A `FileServer`; gs:// leads to it, and downloads are cached in a fresh directory."""
    server = FileServer()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{server.host}")
    monkeypatch.setenv("VIT_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.close()
