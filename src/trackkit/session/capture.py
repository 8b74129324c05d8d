"""Listens to what Python writes to `sys.stdout` and `sys.stderr`, without changing a byte of it.

The `write` of each stream object is patched, never a file descriptor: a pipe or a terminal in between would lose the
user's own output when the process dies, and could deadlock with C code that holds the interpreter.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

# Takes the stream's name and the text; must not wait, print or lock: it runs in signal handlers and `__del__` too.
Listener = Callable[[str, str], None]

_ATTRIBUTE = "_trackkit_hook"
_hooks: list[_Hook] = []


class _Hook:
    """The patched `write` of one stream object; asleep without listeners."""

    def __init__(self, name: str, stream: Any) -> None:
        self.listeners: tuple[Listener, ...] = ()
        self.name, self.stream = name, stream
        self._reached, below = False, stream.write

        def write(*args: Any, **kwargs: Any) -> Any:
            result = below(*args, **kwargs)
            try:
                if text := args[0]:
                    for listener in self.listeners:
                        listener(name, text)
                else:
                    self._reached = True
            except Exception:  # noqa: BLE001 -- a print must not fail
                self.listeners = ()
            return result

        self._write, self._below = write, below
        stream.write = write
        setattr(stream, _ATTRIBUTE, self)

    def is_out(self) -> bool:
        """Returns whether the stream has its own `write` again: IPython puts it back at the end of a cell."""
        return getattr(self.stream.write, "__self__", None) is self.stream

    def is_reached(self) -> bool:
        """Returns whether writes still come here, perhaps through other patches."""
        self._reached = self.stream.write is self._write
        if not self._reached and not self.is_out():
            self.stream.write("")
        return self._reached

    def remove(self) -> None:
        """Restores the stream's own `write`, unless another patch lies on top of this one."""
        found = vars(self.stream)
        if found.get("write") is self._write:
            del found[_ATTRIBUTE]
            if getattr(self._below, "__self__", None) is self.stream:
                del found["write"]
            else:
                self.stream.write = self._below


def listen(listener: Listener) -> None:
    """Calls the listener with everything written to the streams, if it is not called already.

    Streams without a `write` that can be set are left alone.
    """
    for name, stream in {id(stream): (name, stream) for name, stream in _streams()}.values():
        # A stream may be any object, and raise anything.
        with contextlib.suppress(Exception):
            hook: _Hook | None = vars(stream).get(_ATTRIBUTE)
            if hook is None or not hook.is_reached():
                hook = _again(hook) if hook is not None else _Hook(name, stream)
            if listener not in hook.listeners:
                hook.listeners += (listener,)
            if hook not in _hooks:
                _hooks.append(hook)


def renew() -> None:
    """Listens again to streams whose own `write` was put back."""
    for hook in [*_hooks]:
        with contextlib.suppress(Exception):
            if hook.is_out():
                _hooks.append(_again(hook))


def ignore(listener: Listener) -> None:
    """Ends the calls of a listener."""
    for hook in [*_hooks]:
        hook.listeners = tuple(each for each in hook.listeners if each != listener)
        if not hook.listeners:
            _hooks.remove(hook)
            hook.remove()


def _streams() -> list[tuple[str, Any]]:
    return [("stderr", sys.stderr), ("stdout", sys.stdout)]


def _again(old: _Hook) -> _Hook:
    """Returns a new hook of the same stream with the listeners of the old one."""
    new = _Hook(old.name, old.stream)
    new.listeners, old.listeners = old.listeners, ()
    if old in _hooks:
        _hooks.remove(old)
    return new


def _sleep_in_child() -> None:
    """Stops listening in a forked child: it has no thread to record with, and must not write its parent's file."""
    for hook in _hooks:
        hook.listeners = ()
    _hooks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sleep_in_child)
