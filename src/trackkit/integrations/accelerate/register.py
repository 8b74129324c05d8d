"""Makes `Accelerator(log_with="trackkit")` known. `import accelerate` loads this file always, so it imports nothing."""

from __future__ import annotations

from trackkit.integrations.accelerate.name import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def register(module: ModuleType) -> None:
    """Registers TrackKit in `accelerate.tracking`, from accelerate 1.15 on. Loads nothing before a tracker is made."""
    if hasattr(module, "register_tracker_class"):
        module.register_tracker_class(_stub(module, "by_name"))


def replace_wandb(module: ModuleType) -> None:
    """Makes `log_with="wandb"` a tracker of TrackKit; `module` is `accelerate.tracking`."""
    known = getattr(module, "LOGGER_TYPE_TO_CLASS", {})
    known["wandb"] = _stub(module, "in_place_of_wandb", known.get("wandb"))


def _stub(module: ModuleType, maker: str, *more: Any) -> type:
    class TrackKitTracker(module.GeneralTracker):  # type: ignore[name-defined,misc]
        """Makes an `AccelerateTracker` in its own place."""

        name = NAME
        requires_logging_directory = False

        def __new__(cls, project: str, **settings: Any) -> Any:
            from trackkit.integrations.accelerate import tracker

            return getattr(tracker, maker)(project, settings, *more)

    return TrackKitTracker
