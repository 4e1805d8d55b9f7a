"""A proxy before a DICOMweb server that refuses some of what is posted, as overloaded servers do."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class RefusingProxy(ThreadingHTTPServer):
    """`answers`: statuses for the next posts, in order; then all is passed on. `largest`: bytes of a
    post above which it is 413. `headers_seen`: of all requests."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = port
        self.answers: list[int] = []
        self.largest = 10**9
        self.refused: list[int] = []
        self.headers_seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.server_address[1]}/dicom-web"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RefusingProxy

    def do_GET(self) -> None:
        self._pass_on(b"")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if len(content) > self.server.largest:
            self._refuse(413)
        elif self.server.answers:
            self._refuse(self.server.answers.pop(0))
        else:
            self._pass_on(content)

    def _refuse(self, status: int) -> None:
        self.server.refused.append(status)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _pass_on(self, content: bytes) -> None:
        self.server.headers_seen.append(dict(self.headers))
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
            headers = {
                name: value for name, value in self.headers.items() if name in ("Content-Type", "Accept")
            }
            connection.request(self.command, self.path, content or None, headers)
            answer = connection.getresponse()
            body = answer.read()
        except OSError:
            self.close_connection = True  # as if it were the server that is gone
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type") or "")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def refusing_proxy(port: int) -> Iterator[RefusingProxy]:
    """A proxy before the server at `port` of this machine, for the time of the block."""
    proxy = RefusingProxy(port)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
