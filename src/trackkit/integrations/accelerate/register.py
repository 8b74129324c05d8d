"""Makes `Accelerator(log_with="trackkit")` known. `import accelerate` loads this file always, so it imports nothing."""

from __future__ import annotations

from trackkit.integrations.accelerate.name import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def register(module: ModuleType) -> None:
    """Registers TrackKit in `accelerate.tracking`, from accelerate 1.15 on. Loads nothing before a tracker is made."""
    if not hasattr(module, "register_tracker_class"):
        return

    class TrackKitTracker(module.GeneralTracker):  # type: ignore[name-defined,misc]
        """Makes an `AccelerateTracker` in its own place."""

        name = NAME
        requires_logging_directory = False

        def __new__(cls, project: str, **settings: Any) -> Any:
            from trackkit.integrations.accelerate.tracker import by_name

            return by_name(project, settings)

    module.register_tracker_class(TrackKitTracker)
