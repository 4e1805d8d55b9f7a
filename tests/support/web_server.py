"""A web server of files, with listings as nginx and Apache make them, which can fail as it is asked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class WebServer(ThreadingHTTPServer):
    """`files`: content by encoded path; `pages`: by a folder's, with its slash; `failing`: statuses to answer
    with, by path, the last of them for ever; `heads`: of HEAD alone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.pages: dict[str, str] = {}
        self.failing: dict[str, list[int]] = {}
        self.heads: dict[str, int] = {}
        self.gives_ranges, self.gives_marks = True, True

    def handle_error(self, *_: object) -> None:
        """Nothing: a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: WebServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        server, path = self.server, self.path
        failing = server.failing.get(path)
        status = 200 if not failing else failing.pop(0) if len(failing) > 1 else failing[0]
        if self.command == "HEAD":
            status = server.heads.get(path, status)
        content, kind = server.files.get(path), "application/octet-stream"
        if path in server.pages:
            content, kind = server.pages[path].encode(), "text/html; charset=utf-8"
        if status == 200 and content is None:
            status = 404
        content = content if status == 200 and content is not None else b"<a href='x.png'>no file</a>"
        headers = {"Content-Type": kind}
        if status in (301, 302):
            headers["Location"] = "https://elsewhere.example/login"
        if server.gives_marks:
            headers["ETag"] = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        asked = self.headers.get("Range", "")
        if status == 200 and asked and server.gives_ranges:
            first, last = (int(number) for number in asked.removeprefix("bytes=").split("-"))
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            status, content = 206, content[first : last + 1]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing: the tests look at what the client says."""


@contextmanager
def web_server() -> Iterator[WebServer]:
    with WebServer() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
