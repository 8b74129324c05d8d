"""Refuses `Fabric(callbacks=[TrackKit()])`, which would record nothing."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from trackkit.errors import TrackKitError
from trackkit.integrations.loading import kit_class


def refuse(module: ModuleType) -> None:
    """Makes the `Fabric` of a module that has been imported raise an error if it is given a TrackKit.

    Args:
        module: `lightning.fabric.fabric`, or its twin.
    """
    original = module.Fabric.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        for given in (*args, *kwargs.values()):
            if any(isinstance(each, kit_class()) for each in (given if isinstance(given, (list, tuple)) else [given])):
                raise TrackKitError(
                    "Fabric(callbacks=...) got a TrackKit, but Fabric does not call its hooks: nothing is recorded. "
                    "Use trackkit.loop in your loop, or lightning.pytorch.Trainer(callbacks=[TrackKit()])."
                )
        original(self, *args, **kwargs)

    module.Fabric.__init__ = init
