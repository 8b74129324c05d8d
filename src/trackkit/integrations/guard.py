"""Keeps TrackKit's own trouble away from the training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from trackkit.errors import TrackKitError

Hook = TypeVar("Hook", bound=Callable[..., Any])


def guarded(hook: Hook) -> Hook:
    """A hook whose exceptions are logged and counted, never raised: but for what the user has to mend."""

    @functools.wraps(hook)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return hook(self, *args, **kwargs)
        except TrackKitError:
            raise
        except Exception as error:
            self.hook_failed(hook.__name__, error)
            return None

    return call  # type: ignore[return-value]
