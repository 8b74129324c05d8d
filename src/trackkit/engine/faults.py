"""Keeps errors of callbacks and sinks out of the training, and counts all of TrackKit's internal errors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from trackkit.engine.callback import Callback
from trackkit.engine.sink import Sink
from trackkit.notices import logger


class Faults:
    """The internal errors of one run.

    Attributes:
        count: number of errors.
    """

    def __init__(self) -> None:
        self.count = 0
        self._logged: set[str] = set()
        self._disabled: dict[str, None] = {}

    def add(self, where: str, error: BaseException, disabled: str = "") -> None:
        """Counts an error, and logs its traceback if it is the first one there.

        Args:
            where: what failed: `on_log`, `sink 'WandbSink' (write)`.
            error: the exception.
            disabled: the callback or sink that is disabled because of it; "" if none is.
        """
        self.count += 1
        if disabled:
            self._disabled[disabled] = None
        if where not in self._logged:
            self._logged.add(where)
            then = " and is disabled; training continues" if disabled else "; training continues without its values"
            logger.error("%s failed%s", where, then, exc_info=error)

    def left_out(self, parts: Iterable[tuple[str, Exception]]) -> None:
        """Counts and logs the parts of a run's description that could not be recorded.

        Args:
            parts: what is missing, in words, and the error.
        """
        for what, error in parts:
            self.count += 1
            logger.error("%s can't be recorded; training continues without it", what, exc_info=error)

    def join(self, earlier: Faults) -> None:
        """Adds the errors that were counted before the run was opened."""
        self.count += earlier.count
        self._logged |= earlier._logged
        self._disabled |= earlier._disabled

    def sum_up(self) -> None:
        """Logs one closing line if there were errors: how many, and what is disabled."""
        if self.count:
            errors = "1 internal error (traceback above)"
            if self.count > 1:
                errors = f"{self.count} internal errors (tracebacks above)"
            disabled = f" Disabled: {', '.join(self._disabled)}." if self._disabled else ""
            logger.warning("TrackKit hit %s.%s", errors, disabled)


class Group:
    """The callbacks or the sinks of a run. A member that raises is disabled; the others continue.

    Args:
        members: in the order in which they are called.
        port: their base class, `Callback` or `Sink`.
        faults: counts the errors.
    """

    def __init__(self, members: Iterable[Callback | Sink], port: type[Callback | Sink], faults: Faults) -> None:
        self._members = list(members)
        self._port = port
        self._faults = faults
        self._failed: list[Callback | Sink] = []
        self._overriding: dict[str, list[Callback | Sink]] = {}

    def call(self, method: str, *args: Any) -> list[Any]:
        """Calls a method of every member that overrides it.

        Returns:
            The results, in the members' order, without those of members that failed.

        Raises:
            Exception: one of a member's own `FATAL`.
        """
        members = self._overriding.get(method)
        if members is None:
            members = self._overriding[method] = [each for each in self._members if self._overrides(each, method)]
        results = []
        for member in members:
            try:
                results.append(getattr(member, method)(*args))
            except Exception as error:
                if isinstance(error, member.FATAL):
                    raise
                self._disable(member, method, error)
        return results

    def release(self, method: str, *args: Any) -> None:
        """Calls a method of the disabled members, which may still hold files open; ignores errors. Ends all calls."""
        for member in self._failed:
            with contextlib.suppress(Exception):
                getattr(member, method)(*args)
        self._members, self._failed, self._overriding = [], [], {}

    def _overrides(self, member: Callback | Sink, method: str) -> bool:
        bound = getattr(member, method)
        return getattr(bound, "__func__", bound) is not getattr(self._port, method)

    def _disable(self, member: Callback | Sink, method: str, error: Exception) -> None:
        if member in self._members:
            self._members.remove(member)
            self._failed.append(member)
        self._overriding = {}
        name = f"{self._port.__name__.lower()} '{type(member).__name__}'"
        self._faults.add(f"{name} ({method})", error, disabled=name)
