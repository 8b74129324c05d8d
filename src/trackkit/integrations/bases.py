"""Makes one class a callback of every framework, whichever is imported first.

`FrameworkBase` starts as a plain class. Once a framework's callback module is loaded, before or after TrackKit, the
framework's hooks and its callback class join its bases, so `isinstance` holds for all instances, earlier ones included.
"""

from __future__ import annotations

import os
import sys

from trackkit.integrations import FRAMEWORKS, Framework
from trackkit.integrations.loading import load, set_kit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


if TYPE_CHECKING:
    # To a type checker, TrackKit is a callback of every framework.
    from typing import Any as _Anchor
else:

    class _Anchor:
        """Keeps `object` from being the only base: Python refuses to exchange the bases of such a class."""


class FrameworkBase(_Anchor):  # type: ignore[misc]
    """Inherits from the hooks and the callback class of every framework that has been imported."""


def install(kit: str) -> None:
    """Handles the frameworks that are loaded already, and watches for the others. Safe to repeat.

    Args:
        kit: `module:Class` of TrackKit, which is loaded only where a framework wants the class itself.
    """
    set_kit(kit)
    for framework in FRAMEWORKS.values():
        for name in watched(framework):
            if name in sys.modules:
                _imported(framework, sys.modules[name])
    if not any(isinstance(finder, _PostImportFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PostImportFinder())


def watched(framework: Framework) -> set[str]:
    """Returns the modules at whose import something is to be done."""
    return {*framework.bases, *framework.on_import, *(framework.everywhere if _is_everywhere() else ())}


def _is_everywhere() -> bool:
    return bool(os.environ.get("TRACKKIT_EVERYWHERE"))


_hooks: list[type] = []
_callbacks: list[type] = []


def _imported(framework: Framework, module: ModuleType) -> None:
    """Makes TrackKit a callback of the framework that `module` belongs to."""
    if (name := framework.bases.get(module.__name__)) is not None:
        for known, kind in ((_hooks, load(framework.hooks)), (_callbacks, getattr(module, name))):
            if kind not in known:
                known.append(kind)
        # Hooks stand first: a framework's own empty methods must not hide another framework's hooks.
        FrameworkBase.__bases__ = (*_hooks, *_callbacks, _Anchor)
    if (function := framework.on_import.get(module.__name__)) is not None:
        load(function)(module)
    if _is_everywhere() and (function := framework.everywhere.get(module.__name__)) is not None:
        load(function)(module)


class _PostImportFinder:
    """Calls `_imported` for a framework's module once the module has been executed.

    (wrapt has such a finder, and importing it takes longer than the whole of `import trackkit` may.)
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        for framework in FRAMEWORKS.values():
            if fullname in watched(framework):
                return self._spec(framework, fullname, path, target)
        return None

    def _spec(
        self, framework: Framework, fullname: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> ModuleSpec | None:
        spec = None
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    break
        if spec is None or spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _imported(framework, module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
