"""A proxy before Postgres that loses the reply to a COMMIT."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

# A query message of the protocol: in BEGIN ISOLATION LEVEL READ COMMITTED the word stands, too.
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"


class CuttingProxy:
    """Between us and Postgres; once armed it passes the next COMMIT on and cuts before the reply is through.

    It waits for the reply and drops it; if `impatient`, it does not wait, and Postgres is still at it.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.armed = False
        self.impatient = False
        self.cut = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while data := client.recv(65536):
                if self.armed and COMMIT in data:
                    self.armed = False
                    if self.impatient:
                        self.cut += 1
                        server.sendall(data)
                        _close(client)
                        break
                    self._swallow = server
                server.sendall(data)
        except OSError:
            pass
        finally:
            _close(server)

    _swallow: socket.socket | None = None

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                if self._swallow is server:
                    # The reply is here, so the transaction is committed; nobody hears of it.
                    self.cut += 1
                    break
                client.sendall(data)
        except OSError:
            pass
        finally:
            _close(client)
            _close(server)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
