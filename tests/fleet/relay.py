"""A network path that can be cut: relays TCP until a file says that the cable is out."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self


class Relay:
    """Forwards connections to a port of this machine; while `cut_file` exists, none get through and old ones end."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._folder = tempfile.TemporaryDirectory(prefix="pgr-relay-")
        self.cut_file = Path(self._folder.name) / "cut"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self.port: int = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        """Begin to relay."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all connections."""
        self._over.set()
        self._thread.join()
        self._listener.close()
        self._folder.cleanup()

    @property
    def _is_cut(self) -> bool:
        return self._over.is_set() or self.cut_file.exists()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._is_cut:
                return
            with socket.create_connection(self._target) as server:
                other = threading.Thread(target=self._copy, args=(server, client), daemon=True)
                other.start()
                self._copy(client, server)
                other.join()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        source.settimeout(0.1)
        with contextlib.suppress(OSError):
            while not self._is_cut:
                try:
                    part = source.recv(65536)
                except TimeoutError:
                    continue
                if not part:
                    break
                target.sendall(part)
        for side in (source, target):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
