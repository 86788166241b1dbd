"""A slow network on loopback: a TCP relay that passes on so many bytes of what a client sends, and then nothing more."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Relay:
    """Forwards connections to `target` (a port). Each passes `most_bytes` on the way there; -1 is all."""

    def __init__(self, target: int, most_bytes: int = -1) -> None:
        self.target, self.most_bytes = target, most_bytes
        self.stalled = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Both ends of every connection see the other one gone."""
        while self._open:
            end = self._open.pop()
            with contextlib.suppress(OSError):  # it is gone already
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self._open += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server, self.most_bytes), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, -1), daemon=True).start()

    def _pass_on(self, source: socket.socket, drain: socket.socket, most: int) -> None:
        try:
            while data := source.recv(16_384 if most < 0 else min(16_384, most)):
                drain.sendall(data)
                if most > 0:
                    most -= len(data)
                if most == 0:
                    self.stalled.set()
                    return
            drain.shutdown(socket.SHUT_WR)
        except OSError:
            pass
