"""Runs the server on 127.0.0.1 and a free port; it can be stopped and started again on the same port."""

from __future__ import annotations

import contextlib
import socket
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from .faults import Faults
from .handler import Handler
from .service import FEATURES, Service
from .state import State

API_KEY = "0123456789abcdef" * 2 + "01234567"
HOST = "127.0.0.1"

# Makes clients retry soon, and send chunks every second instead of every 15 s. The client ignores fractions of a
# second and replaces 0 by its own default.
QUICK = {
    "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
    "WANDB__FILE_STREAM_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__FILE_STREAM_RETRY_WAIT_MAX_SECONDS": "1",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__FILE_TRANSFER_RETRY_WAIT_MAX_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "1",
}


class _Listener(ThreadingHTTPServer):
    """Serves a bound socket, and keeps its open connections so that it can cut them."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, bound: socket.socket, handler: type[Handler]) -> None:
        super().__init__((HOST, 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = bound
        self.server_address = bound.getsockname()
        self.connections: set[socket.socket] = set()
        self.server_activate()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Does nothing: a client that disconnects is no error of the server."""

    def cut(self) -> None:
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class WandbServer:
    """A W&B server for tests. Use it as a context manager, or call `start` and `stop`."""

    def __init__(
        self,
        entity: str = "test-team",
        username: str = "test-user",
        api_key: str = API_KEY,
        features: tuple[str, ...] = FEATURES,
        crash_after: float = 300.0,
        port: int = 0,
    ) -> None:
        self.api_key = api_key
        self.port = port
        self.state = State(entity, username, crash_after)
        self.faults = Faults(self._listen)
        self.service = Service(self.state, features=features)
        self._listener: _Listener | None = None
        self._held: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def env(self, home: Path | None = None, quick: bool = True) -> dict[str, str]:
        """Returns the environment variables that a client needs; with `home`, it writes only into that folder."""
        env = {
            "WANDB_BASE_URL": self.url,
            "WANDB_API_KEY": self.api_key,
            "WANDB_ERROR_REPORTING": "false",
            "no_proxy": f"{HOST},localhost",
            "NO_PROXY": f"{HOST},localhost",
            **(QUICK if quick else {}),
        }
        if home is not None:
            for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
                folder = home / f"wandb-{name.lower().replace('_', '-')}"
                folder.mkdir(parents=True, exist_ok=True)
                env[f"WANDB_{name}"] = str(folder)
        return env

    def start(self) -> WandbServer:
        self._held = self._bind()
        self.port = self._held.getsockname()[1]
        self.service.url = self.url
        self._listen(True)
        return self

    def stop(self) -> None:
        """Closes the socket and all connections; `state` stays readable."""
        self.faults.clear()
        self._listen(False)
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None

    def _bind(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((HOST, self.port))
        return bound

    def _listen(self, wanted: bool) -> None:
        """Listens or refuses connections. A socket that is bound but does not listen refuses and keeps the port."""
        with self._lock:
            if wanted and self._listener is None and self._held is not None:
                fields = {"service": self.service, "faults": self.faults, "api_key": self.api_key}
                self._listener = _Listener(self._held, type("BoundHandler", (Handler,), fields))
                self._held = None
                threading.Thread(
                    target=self._listener.serve_forever, args=(0.05,), name="wandb-server", daemon=True
                ).start()
            elif not wanted and self._listener is not None:
                listener, self._listener = self._listener, None
                listener.shutdown()
                listener.server_close()
                self._held = self._bind()
                listener.cut()

    def __enter__(self) -> WandbServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
