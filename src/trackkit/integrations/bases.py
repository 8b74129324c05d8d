"""Makes one class a callback of every framework, whichever is imported first, and none where none is.

`FrameworkBase` starts as a plain class. When a framework's callback module is loaded, before or after TrackKit, that
framework's base class joins its bases, and so `isinstance` holds for every instance, also those made before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

Hook = Callable[[ModuleType], None]


class _Anchor:
    """A class other than `object` must stand below, or Python refuses to exchange the bases."""


class FrameworkBase(_Anchor):
    """Inherits from every framework's callback base that has been imported."""


def _join(name: str) -> Hook:
    def join(module: ModuleType) -> None:
        base = getattr(module, name)
        if base not in FrameworkBase.__bases__:
            FrameworkBase.__bases__ = (*FrameworkBase.__bases__[:-1], base, _Anchor)

    return join


def _register_report_to(module: ModuleType) -> None:
    from trackkit.kit import TrackKit

    module.INTEGRATION_TO_CALLBACK["trackkit"] = TrackKit


HOOKS: dict[str, Hook] = {
    "lightning.pytorch.callbacks.callback": _join("Callback"),
    "pytorch_lightning.callbacks.callback": _join("Callback"),
    "transformers.trainer_callback": _join("TrainerCallback"),
    "transformers.integrations.integration_utils": _register_report_to,
}


class _PostImportFinder:
    """Calls a module's hook once the module has been executed.

    (wrapt has such a finder, and importing it takes longer than the whole of `import trackkit` may.)
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in HOOKS:
            return None
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
            HOOKS[fullname](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Applies the hooks to what is loaded, and waits for the rest. Safe to repeat."""
    for name, hook in HOOKS.items():
        if name in sys.modules:
            hook(sys.modules[name])
    if not any(isinstance(finder, _PostImportFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PostImportFinder())
