"""Faults that can be switched while the server runs.

    server.faults.set("http_500")                      # every answer
    server.faults.set("hang", only="file_stream")      # one REST route or one GraphQL operation
    server.faults.deny("CreateArtifact")               # an error for one operation, beside any other fault
    server.faults.drop_every(3)                        # every third connection closed with no answer
    server.faults.clear()

REST routes: file_stream, upload, download, metrics, other. `Faults.set` says what the modes do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MODES = ("none", "refuse", "http_500", "http_429", "hang", "slow", "reset")


class Faults:
    """The faults in force. All methods may be called from any thread."""

    def __init__(self, listen: Callable[[bool], None]) -> None:
        self._listen = listen
        self._changed = threading.Condition()
        self.mode = "none"
        self.only = ""
        self.denied: dict[str, int] = {}
        self.drop_interval = 0
        self.drop_handled = True
        self.retry_after = 1
        """Seconds, sent with http_429."""
        self._count = 0

    def set(self, mode: str, only: str = "") -> None:
        """Switch to one of MODES, for all requests or `only` for one operation or route.

        none: answer. refuse: nothing listens, and open connections are closed. http_500, http_429: answer that.
        hang: take the request, and answer nothing until the mode changes. slow: one byte of the answer a second.
        reset: TCP reset in mid-body: half the answer is sent, or, for an upload, half the file is read.
        """
        if mode not in MODES:
            raise ValueError(f"unknown fault {mode!r}; there are {', '.join(MODES)}")
        if mode == "refuse" and only:
            raise ValueError("a refused connection cannot tell what it would have asked for")
        with self._changed:
            self.mode, self.only = mode, only
            self._changed.notify_all()
        self._listen(mode != "refuse")

    def deny(self, name: str, status: int = 0) -> None:
        """Answer an error to one GraphQL operation (status 200 unless told) or one REST route (403)."""
        self.denied[name] = status

    def allow(self, name: str) -> None:
        """Take back a `deny`."""
        self.denied.pop(name, None)

    def drop_every(self, n: int, handled: bool = True) -> None:
        """Close every n-th request's connection with no answer; 0 stops that.

        `handled`: the request takes effect and only its answer is lost, so that a client sends it a second time.
        """
        self.drop_interval, self.drop_handled, self._count = n, handled, 0

    def clear(self) -> None:
        """No faults."""
        self.denied.clear()
        self.drop_every(0)
        self.set("none")

    @contextmanager
    def active(self, mode: str, only: str = "") -> Iterator[None]:
        """A mode for the length of a `with` block."""
        self.set(mode, only)
        try:
            yield
        finally:
            self.set("none")

    def of(self, operation: str) -> str:
        """The fault that a request meets; counts it for `drop_every`."""
        with self._changed:
            if operation in self.denied:
                return "deny"
            if self.drop_interval:
                self._count += 1
                if self._count % self.drop_interval == 0:
                    return "drop" if self.drop_handled else "drop_unhandled"
            if self.mode != "none" and self.only in ("", operation):
                return self.mode
            return ""

    def wait(self, mode: str, timeout: float | None = None) -> bool:
        """Wait for as long as `mode` is in force; whether it ended within `timeout`."""
        with self._changed:
            return self._changed.wait_for(lambda: self.mode != mode, timeout)
