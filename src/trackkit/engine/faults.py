"""Keeps errors of callbacks and sinks out of the training, and counts all of TrackKit's internal errors."""

from __future__ import annotations

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

    def add(self, where: str, error: BaseException, disabled: str = "", retried: bool = False) -> None:
        """Counts an error, and logs its traceback if it is the first one there.

        Args:
            where: what failed: `on_log`, `sink 'WandbSink' (write)`.
            error: the exception.
            disabled: the callback or sink that is disabled because of it; "" if none is.
            retried: whether it will be tried again.
        """
        self.count += 1
        if disabled:
            self._disabled[disabled] = None
        if where not in self._logged:
            self._logged.add(where)
            then = " and is disabled; training continues" if disabled else "; training continues without its values"
            then = " and is retried; training continues" if retried else then
            logger.error("%s failed%s", where, then, exc_info=error)

    def left_out(self, parts: Iterable[tuple[str, Exception]]) -> None:
        """Counts and logs the parts of a run's description that could not be recorded.

        Args:
            parts: a description of each missing part, and its error.
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
    """The callbacks or the sinks of a run. One that raises does not keep the others from being called.

    Args:
        members: in the order in which they are called.
        port: their base class, `Callback` or `Sink`.
        faults: counts the errors.
    """

    def __init__(self, members: Iterable[Callback | Sink], port: type[Callback | Sink], faults: Faults) -> None:
        self._members = list(members)
        self._port = port
        self._faults = faults
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
                self.failed(member, method, args, error)
        return results

    def failed(self, member: Callback | Sink, method: str, args: tuple[Any, ...], error: Exception) -> None:
        """Disables a member that has raised."""
        self._replace(member, None)
        name = f"{self._port.__name__.lower()} '{type(member).__name__}'"
        self._faults.add(f"{name} ({method})", error, disabled=name)

    def _replace(self, member: Callback | Sink, other: Callback | Sink | None) -> None:
        if member in self._members:
            place = self._members.index(member)
            self._members[place : place + 1] = [other] if other is not None else []
        self._overriding = {}

    def _overrides(self, member: Callback | Sink, method: str) -> bool:
        bound = getattr(member, method)
        return getattr(bound, "__func__", bound) is not getattr(self._port, method)
