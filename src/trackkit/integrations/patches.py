"""Wraps methods of single objects, and removes the wrappers again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_NOTHING = object()


class Patch:
    """Replaces a method of one object by `wrapper(method)` until `remove`.

    Copies and pickles as the method that it replaces, so that copies of the object are not wrapped.

    Args:
        owner: the object.
        name: of its method.
        wrapper: returns the function to call instead.
    """

    def __init__(self, owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        self._owner, self._name = owner, name
        self._earlier = vars(owner).get(name, _NOTHING)
        self._original = getattr(owner, name)
        self._call = wrapper(self._original)
        vars(owner)[name] = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def remove(self) -> None:
        """Restores the method, unless another one has been set since; that one may still call this."""
        self._call = self._original
        own = vars(self._owner)
        if own.get(self._name) is not self:
            return
        if self._earlier is _NOTHING:
            del own[self._name]
        else:
            own[self._name] = self._earlier

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        if getattr(self._original, "__self__", None) is self._owner:
            # Not as the bound method: a decorated one is not found by its own name.
            return getattr, (self._owner, self._name)
        return _itself, (self._original,)


def _itself(method: Any) -> Any:
    return method
