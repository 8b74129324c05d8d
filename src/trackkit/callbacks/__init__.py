"""Measures, one file per callback. To add one, write a file with a `Callback` and a line in `CALLBACKS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trackkit.callbacks.checkpoints import Checkpoints
from trackkit.callbacks.final_summary import FinalSummary
from trackkit.callbacks.gpu_memory import GpuMemory
from trackkit.callbacks.grad_norm import GradNorm
from trackkit.callbacks.loss import Loss
from trackkit.callbacks.lr import LearningRate
from trackkit.callbacks.nonfinite import NonFinite
from trackkit.callbacks.process_memory import ProcessMemory
from trackkit.callbacks.samples import Samples
from trackkit.callbacks.throughput import Throughput
from trackkit.engine.callback import Callback
from trackkit.errors import ConfigError, did_you_mean

__all__ = ["CALLBACKS", "Callback", "build_callbacks", "check_options"]

CALLBACKS: dict[str, type[Callback]] = {
    "loss": Loss,
    "lr": LearningRate,
    "grad_norm": GradNorm,
    "throughput": Throughput,
    "gpu_memory": GpuMemory,
    "process_memory": ProcessMemory,
    "nonfinite": NonFinite,
    "samples": Samples,
    "checkpoints": Checkpoints,
    "final_summary": FinalSummary,
}


def check_options(settings: Mapping[str, Any]) -> None:
    """Checks the setting `callbacks`.

    Raises:
        ConfigError: an unknown callback, an unknown option, or an option of the wrong type.
    """
    for name, value in settings.items():
        if name not in CALLBACKS:
            raise ConfigError(f"unknown callback '{name}'{did_you_mean(name, CALLBACKS)}")
        if isinstance(value, Mapping):
            _construct(name, value)
        elif not isinstance(value, bool):
            raise ConfigError(f"callback '{name}' must be true, false or a mapping of options; got {value!r}")


def build_callbacks(settings: Mapping[str, Any]) -> list[Callback]:
    """Returns the enabled callbacks, in the order of `CALLBACKS`."""
    built = []
    for name in CALLBACKS:
        value = settings.get(name, True)
        if value is not False:
            built.append(_construct(name, value if isinstance(value, Mapping) else {}))
    return built


def _construct(name: str, options: Mapping[str, Any]) -> Callback:
    kind = CALLBACKS[name]
    for option in options:
        if option not in kind.OPTIONS:
            raise ConfigError(f"unknown option '{option}' of callback '{name}'{did_you_mean(option, kind.OPTIONS)}")
    try:
        return kind(**{str(key): value for key, value in options.items()})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"callback '{name}': {error}") from error
