"""An S3 server over HTTP, moto's, that can be slow, busy, deny, cut connections, stop and come back."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterable
from threading import Event, Lock, Thread
from typing import Any

import boto3
from botocore.config import Config
from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from tests.support.servers import free_port

KEY_ID, SECRET_KEY, SESSION_TOKEN = "AKIAPLANTEDKEY000001", "planted/Secret+Key/0000", "planted-session-token"
BUCKET = "archive"
_REASONS = {403: "AccessDenied", 404: "NoSuchKey", 500: "InternalError", 503: "SlowDown"}


class ObjectStore:
    """The server, with one bucket; what it holds outlasts `stop` and `start`.

    Faults are for requests whose path holds a text: `fail`, `cut`. `requests` counts by method.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests: Counter[str] = Counter()
        self.delay = 0.0
        self._faults: list[list[Any]] = []
        self._lock = Lock()
        self._server: Any = None
        self.start()
        self.client = boto3.client(
            "s3", endpoint_url=self.url, aws_access_key_id="x", aws_secret_access_key="x",  # noqa: S106 - of a server of the tests
            region_name="us-east-1", config=Config(retries={"max_attempts": 1}),
        )  # fmt: skip
        self.client.create_bucket(Bucket=BUCKET)
        self.requests.clear()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": SESSION_TOKEN,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self) -> None:
        ready = Event()

        def serve() -> None:
            application = DomainDispatcherApplication(create_backend_app)
            self._server = make_server(
                "127.0.0.1", self.port, self._with_faults(application), threaded=True,
                request_handler=MotoRequestHandler,
            )  # fmt: skip
            ready.set()
            self._server.serve_forever()
            self._server.server_close()

        self._thread = Thread(target=serve, daemon=True)
        self._thread.start()
        ready.wait()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()

    def reset(self) -> None:
        """Run without faults, hold nothing, count anew."""
        self.heal()
        self.delay = 0.0
        if not self._thread.is_alive():
            self.start()
        for key in self.listed():
            get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].delete_object(BUCKET, key)
        self.requests.clear()

    def close(self) -> None:
        """Stop, and forget what was held."""
        self.heal()
        self.client.close()
        self.stop()
        get_backend("s3").reset()

    def fail(self, status: int, part: str = "", times: int = 10**9, method: str = "") -> None:
        """Answer the next `times` requests of this method whose path holds `part` with an error."""
        self._faults.append([part, times, method, status])

    def cut(self, part: str = "", times: int = 10**9, method: str = "") -> None:
        """Cut the connection of such requests after part of the answer."""
        self._faults.append([part, times, method, 0])

    def heal(self) -> None:
        self._faults.clear()

    def put(self, key: str, content: bytes) -> None:
        # Not by a request, which takes longer and does not let every key through.
        get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"].put_object(BUCKET, key, content)

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def listed(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def _with_faults(self, application: Any) -> Any:
        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ.get("RAW_URI") or environ["PATH_INFO"]
            with self._lock:
                self.requests[method] += 1
                status = self._fault(method, path)
            time.sleep(self.delay)
            if status is None:
                return application(environ, start_response)
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            if status:
                code = _REASONS[status]
                body = f"<Error><Code>{code}</Code><Message>as asked</Message></Error>".encode()
                start_response(f"{status} {code}", [("Content-Length", str(len(body)))])
                return [b"" if method == "HEAD" else body]
            connection: socket.socket = environ["werkzeug.socket"]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100)
            connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionError("cut, as asked")

        return answer

    def _fault(self, method: str, path: str) -> int | None:
        for fault in self._faults:
            part, times, of_method, status = fault
            if times > 0 and part in path and of_method in ("", method):
                fault[1] -= 1
                return int(status)
        return None
