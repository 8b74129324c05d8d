"""Listens to what Python writes to `sys.stdout` and `sys.stderr`, without changing a byte of it.

The `write` of each stream object is patched, never a file descriptor: a pipe or a terminal in between would keep the
user's own output when the process dies, and deadlock with C code that holds the interpreter.
"""

from __future__ import annotations

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
        self.reached = False
        self._stream, below = stream, stream.write

        def write(*args: Any, **kwargs: Any) -> Any:
            result = below(*args, **kwargs)
            try:
                if text := args[0]:
                    for listener in self.listeners:
                        listener(name, text)
                else:
                    self.reached = True
            except Exception:  # noqa: BLE001 -- a print must not fail
                self.listeners = ()
            return result

        self._write, self._below = write, below
        stream.write = write

    def remove(self) -> None:
        """Restores the stream's own `write`, unless another patch lies on top of this one."""
        found = vars(self._stream)
        if found.get("write") is self._write:
            del found[_ATTRIBUTE]
            if getattr(self._below, "__self__", None) is self._stream:
                del found["write"]
            else:
                self._stream.write = self._below


def listen(listener: Listener) -> None:
    """Calls the listener with everything written to the streams, if it is not called already.

    Streams without a `write` that can be set are left alone.
    """
    for name, stream in {id(stream): (name, stream) for name, stream in _streams()}.values():
        hook = _hook(name, stream)
        if hook is not None and listener not in hook.listeners:
            hook.listeners += (listener,)
            if hook not in _hooks:
                _hooks.append(hook)


def ignore(listener: Listener) -> None:
    """Ends the calls of a listener."""
    for hook in [*_hooks]:
        hook.listeners = tuple(each for each in hook.listeners if each != listener)
        if not hook.listeners:
            _hooks.remove(hook)
            hook.remove()


def _streams() -> list[tuple[str, Any]]:
    return [("stderr", sys.stderr), ("stdout", sys.stdout)]


def _hook(name: str, stream: Any) -> _Hook | None:
    """Returns the hook of a stream: the one it has, if writes still reach it, else a new one."""
    try:
        hook: _Hook | None = vars(stream).get(_ATTRIBUTE)
        if hook is not None:
            # IPython puts back the `write` of before at the end of a cell.
            hook.reached = False
            stream.write("")
            if hook.reached:
                return hook
            heard, hook.listeners = hook.listeners, ()
            if hook in _hooks:
                _hooks.remove(hook)
        new = _Hook(name, stream)
        new.listeners = heard if hook is not None else ()
        setattr(stream, _ATTRIBUTE, new)
        return new
    except Exception:  # noqa: BLE001 -- a stream may be any object
        return None


def _sleep_in_child() -> None:
    """A forked child has no thread that would record, and must not write to its parent's file."""
    for hook in _hooks:
        hook.listeners = ()
    _hooks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_sleep_in_child)
