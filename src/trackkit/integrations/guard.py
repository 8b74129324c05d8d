"""Keeps TrackKit's own errors out of the training, in the hooks of every framework."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from trackkit.errors import TrackKitError

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.session.per_trainer import Runs
    from trackkit.session.session import Session

Hook = TypeVar("Hook", bound=Callable[..., Any])


class Kit(Protocol):
    """What hooks and adapters use of TrackKit.

    Attributes:
        disabled: whether nothing is recorded at all.
        yields: whether another TrackKit of the same trainer records instead.
        runs: the runs of the only trainer.
    """

    @property
    def disabled(self) -> bool: ...

    @property
    def yields(self) -> bool: ...

    @property
    def runs(self) -> Runs: ...

    def more_runs(self) -> Runs:
        """Returns the runs of a further trainer that uses this object."""
        ...

    def prepare(self) -> None:
        """Loads what a run needs, before a training starts."""
        ...

    def begin(self, start: Start, runs: Runs | None = None) -> Session:
        """Begins a fit or an evaluation: opens its run, or continues in the open one."""
        ...

    def hook_failed(self, hook: str, error: BaseException) -> None:
        """Counts an error in a hook, and logs its traceback the first time."""
        ...


def call_guarded(kit: Kit, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `function`; logs and counts its exceptions instead of raising them, except for the user's own mistakes.

    Args:
        kit: counts the error.
        name: of the hook, for the message.
        function, args, kwargs: what is called.

    Raises:
        TrackKitError: a setting or a logged name that the user has to correct.
    """
    try:
        return function(*args, **kwargs)
    except Exception as error:  # noqa: BLE001 -- the guard of hooks
        _survive(kit, name, error)
        return None


def guarded(hook: Hook) -> Hook:
    """Treats the exceptions of a hook method as `call_guarded` does, at half its cost: hooks run at every step."""

    @functools.wraps(hook)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- the guard of hooks
            _survive(self, hook.__name__, error)
            return None

    return call  # type: ignore[return-value]


def guarded_call(method: Hook) -> Hook:
    """Treats the exceptions of a method that the user's code calls as `guarded` does, except for wrong arguments."""

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
                # Python's own, for arguments that the method does not have.
                raise
            _survive(self, method.__name__, error)
            return None

    return call  # type: ignore[return-value]


def _survive(kit: Kit, name: str, error: Exception) -> None:
    """Logs and counts an exception; raises it again if it is the user's own mistake."""
    if isinstance(error, TrackKitError):
        raise error
    kit.hook_failed(name, error)
