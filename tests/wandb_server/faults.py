"""Makes the server fail in ways that can be switched while it runs.

    server.faults.set("http_500")                      # every answer
    server.faults.set("hang", only="file_stream")      # one REST route or one GraphQL operation
    server.faults.deny("CreateArtifact")               # an error for one operation, besides any other fault
    server.faults.drop_every(3)                        # closes every third connection without an answer
    server.faults.clear()

REST routes: file_stream, upload, download, metrics, other. `Faults.set` says what the modes do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MODES = ("none", "refuse", "http_500", "http_429", "hang", "slow", "reset")


class Faults:
    """The active faults. All methods may be called from any thread."""

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
        """Switches to one of MODES, for all requests or for `only` one operation or route.

        none: answers. refuse: does not listen, and closes open connections. http_500, http_429: answers that status.
        hang: accepts requests and answers once the mode changes. slow: sends one byte of the answer a second.
        reset: sends half of the answer (reads half of an upload), then a TCP reset.

        Raises:
            ValueError: an unknown mode, or `refuse` for one operation only.
        """
        if mode not in MODES:
            raise ValueError(f"unknown fault {mode!r}; there are {', '.join(MODES)}")
        if mode == "refuse" and only:
            raise ValueError(f"'refuse' applies to all requests; got only={only!r}")
        with self._changed:
            self.mode, self.only = mode, only
            self._changed.notify_all()
        self._listen(mode != "refuse")

    def deny(self, name: str, status: int = 0) -> None:
        """Answers one GraphQL operation (default status 200) or one REST route (403) with an error."""
        self.denied[name] = status

    def allow(self, name: str) -> None:
        """Undoes `deny`."""
        self.denied.pop(name, None)

    def drop_every(self, n: int, handled: bool = True) -> None:
        """Closes the connection of every n-th request without an answer; 0 stops that.

        With `handled`, the request takes effect and only its answer is lost, so the client sends it again.
        """
        self.drop_interval, self.drop_handled, self._count = n, handled, 0

    def clear(self) -> None:
        """Ends all faults."""
        self.denied.clear()
        self.drop_every(0)
        self.set("none")

    @contextmanager
    def active(self, mode: str, only: str = "") -> Iterator[None]:
        """Sets a mode for the length of a `with` block."""
        self.set(mode, only)
        try:
            yield
        finally:
            self.set("none")

    def of(self, operation: str) -> str:
        """Returns the fault for a request, "" for none; counts the request for `drop_every`."""
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
        """Waits until the mode is no longer `mode`; returns False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.mode != mode, timeout)
