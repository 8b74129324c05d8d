"""The flat run config that every framework shares: model, optimizers, data, runtime, seeds."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import os
import platform
import shlex
import socket
import sys
from collections import Counter
from collections.abc import Mapping, MutableSequence, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.record.fingerprint import fingerprint
from trackkit.redaction.patterns import clip
from trackkit.redaction.redact import redact, redact_arguments

if TYPE_CHECKING:
    import torch

_SLURM = ("JOB_ID", "JOB_NAME", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_PARTITION", "NNODES", "NTASKS", "NODELIST")
# Characters of a text that are recorded, and how many are searched for secrets before that.
_MAX_TEXT = 2000
_MAX_SEARCHED = 10 * _MAX_TEXT
# A float, and Go's JSON, cannot hold longer integers.
_MAX_BITS = 1023


def recorded(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run config as it may be recorded: secrets masked, then texts cut at 2,000 characters."""
    return {key: _cut(value) for key, value in redact("", dict(config)).items()}


def flatten(section: str, values: Any, depth: int = 3) -> dict[str, Any]:
    """Returns `section/key` to a JSON value, with secrets masked, then texts cut at 2,000 characters.

    Args:
        section: the beginning of the keys.
        values: a mapping, a dataclass or a namespace.
        depth: how many levels become columns; deeper ones are kept as one value.
    """
    flat: dict[str, Any] = {}
    for name, value in _items(values):
        key = f"{section}/{name}"
        inner = _items(value) if depth > 1 and _is_mapping(value) else None
        if inner:
            flat.update(flatten(key, value, depth - 1))
        else:
            try:
                flat[key] = _cut(redact(name, plain(value)))
            except Exception:  # noqa: BLE001 -- a value that contains itself, or an object that raises
                flat[key] = _type(value)
    return flat


def plain(value: Any) -> Any:
    """Returns `value` as JSON; anything but numbers, strings and containers of them is converted to a string."""
    value = _number(value)
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        return f"<integer of {value.bit_length()} bits>"
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return clip(value, _MAX_SEARCHED)
    if isinstance(value, Mapping):
        return {_text(key): plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, set, frozenset, MutableSequence)):
        return [plain(item) for item in value]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if dataclasses.is_dataclass(value):
        return plain(dict(_items(value)))
    return _text(value)


def model_config(model: torch.nn.Module, name: type | None = None) -> dict[str, Any]:
    """Returns `model/*`: the class, and the parameters in millions. A sharded parameter counts with its whole size.

    The counts are left out for a lazy module that has seen no data, since its sizes are unknown.

    Args:
        model: the module whose parameters count.
        name: the class to record; default: the class of `model`.
    """
    from torch.nn.parameter import is_lazy

    kind = name or type(model)
    flat: dict[str, Any] = {"model/class": f"{kind.__module__}.{kind.__qualname__}"}
    parameters = list(model.parameters())
    if not any(is_lazy(parameter) for parameter in parameters):
        flat["model/total_params_M"] = sum(map(_size, parameters)) / 1e6
        flat["model/trainable_params_M"] = sum(_size(each) for each in parameters if each.requires_grad) / 1e6
    return flat


def optimizer_config(optimizers: Sequence[Any], schedulers: Sequence[Any] = ()) -> dict[str, Any]:
    """Returns `optim/*`: class and settings of each optimizer and scheduler, numbered if there are several."""
    flat: dict[str, Any] = {}
    for kind, objects in (("", optimizers), ("scheduler", schedulers)):
        for index, item in enumerate(objects):
            number = f"/{index}" if len(objects) > 1 else ""
            section = f"optim{number}/{kind}" if kind else f"optim{number}"
            if kind:
                flat.update(_scheduler_config(section, item))
            else:
                flat[f"{section}/class"] = type(item).__name__
                # A scheduler has already changed the rate; `initial_lr` has the first one.
                first = item.param_groups[0]
                settings = {name: value for name, value in first.items() if name not in ("params", "initial_lr")}
                settings["lr"] = first.get("initial_lr", first["lr"])
                flat.update({f"{section}/{name}": plain(_scalar(value)) for name, value in settings.items()})
    return flat


def _scheduler_config(section: str, scheduler: Any) -> dict[str, Any]:
    """Returns the class of a scheduler, and the constructor's arguments that it has kept; inner schedulers too."""
    flat: dict[str, Any] = {section: type(scheduler).__name__}
    kept = vars(scheduler)
    for name in inspect.signature(type(scheduler)).parameters:
        # `min_lr` is kept as `min_lrs`, and `milestones` of a sequence as `_milestones`.
        found = next((kept[each] for each in (name, f"_{name}", f"{name}s") if each in kept), None)
        if name in ("optimizer", "last_epoch", "verbose") or found is None:
            continue
        if isinstance(found, Counter):
            found = sorted(found.elements())
        if _is_plain(found):
            flat[f"{section}/{name}"] = plain(found)
    for number, function in enumerate(kept.get("lr_lambdas", ())):
        # Hugging Face's schedules are partial functions of numbers.
        where = section if number == 0 else f"{section}/{number}"
        bare, settings = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
        flat[f"{where}/lr_lambda"] = getattr(bare, "__qualname__", type(bare).__name__)
        flat.update({f"{where}/{name}": plain(value) for name, value in settings.items() if _is_plain(value)})
    for number, inner in enumerate(kept.get("_schedulers", ())):
        flat.update(_scheduler_config(f"{section}/{number}", inner))
    return flat


def _is_plain(value: Any) -> bool:
    """Returns whether a value is a number or a text, or a list of those."""
    if isinstance(value, (list, tuple)):
        return all(_is_plain(each) for each in value)
    return isinstance(value, (bool, int, float, str))


def data_config(dataset: Any, batch_size: int | None, accumulation: int | None, world_size: int) -> dict[str, Any]:
    """Returns `data/*`: sizes and accumulation, without what is unknown.

    Args:
        dataset: of the training.
        batch_size: samples per device and batch; None if unknown.
        accumulation: batches per optimizer step; None if unknown.
        world_size: ranks of the training.
    """
    flat: dict[str, Any] = {
        "data/train_samples": length(dataset),
        "data/batch_size_per_device": batch_size,
        "data/accumulation": accumulation,
        "data/batch_size_global": batch_size * accumulation * world_size if batch_size and accumulation else None,
        "data/dataset": None if dataset is None else type(dataset).__name__,
    }
    return {key: value for key, value in flat.items() if value is not None}


def fingerprint_config(dataset: Any) -> dict[str, Any]:
    """Returns `data/fingerprint`; empty if the data's content cannot be seen."""
    found = fingerprint(dataset)
    return {} if found is None else {"data/fingerprint": found}


def runtime_config(framework: str, package: str, world_size: int, device: str, output: Path) -> dict[str, Any]:
    """Returns `runtime/*` and `seed/*`: what the training runs on, and its random seeds.

    Args:
        framework, package: the framework that trains, and its distribution.
        world_size: ranks of the training.
        device: this rank's, as torch spells it.
        output: the trainer's output folder.
    """
    import torch

    flat: dict[str, Any] = {
        "runtime/framework": framework,
        "runtime/framework_version": package_version(package),
        "runtime/python": platform.python_version(),
        "runtime/torch": torch.__version__,
        "runtime/platform": platform.platform(),
        "runtime/host": socket.gethostname(),
        "runtime/cpu_count": os.cpu_count(),
        "runtime/world_size": world_size,
        "runtime/device": device,
        "runtime/output_folder": str(output),
        "runtime/command": shlex.join(redact_arguments([Path(sys.executable).name, *sys.argv])),
        "seed/torch": torch.initial_seed(),
    }
    if device.startswith("cuda"):
        flat["runtime/cuda"] = torch.version.cuda
        flat["runtime/gpu_name"] = torch.cuda.get_device_name(device)
        flat["runtime/gpu_count"] = world_size
    for name in _SLURM:
        if value := os.environ.get(f"SLURM_{name}"):
            flat[f"runtime/slurm_{name.lower()}"] = value
    for variable in ("PYTHONHASHSEED", "PL_GLOBAL_SEED"):
        if value := os.environ.get(variable):
            flat[f"seed/{variable.lower()}"] = value
    return flat


def length(dataset: Any) -> int | None:
    """Returns the number of samples of a data set; None without a length, or if its `__len__` raises."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _size(parameter: Any) -> int:
    """Returns the elements of the whole parameter, as DTensors count them and DeepSpeed's ZeRO-3 keeps them."""
    return int(parameter.ds_numel if hasattr(parameter, "ds_numel") else parameter.numel())


def _text(value: Any) -> str:
    """Returns an object's text; its type if that raises."""
    try:
        return clip(str(value), _MAX_SEARCHED)
    except Exception:  # noqa: BLE001 -- the user's objects may raise anything
        return _type(value)


def _type(value: Any) -> str:
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _cut(value: Any) -> Any:
    """Returns a JSON value with its texts cut."""
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, dict):
        return {key: _cut(item) for key, item in value.items()}
    return [_cut(item) for item in value] if isinstance(value, list) else value


def _number(value: Any) -> Any:
    """Returns the Python number of a NumPy or torch scalar; anything else as it is."""
    if getattr(value, "ndim", None) != 0 or not callable(getattr(value, "item", None)):
        return value
    try:
        number = value.item()
    except RuntimeError:
        # A tensor on the `meta` device has no value.
        return value
    return number if isinstance(number, (bool, int, float)) else value


def _scalar(value: Any) -> Any:
    """Returns a tensor of one element as a scalar: torch accepts either as a learning rate."""
    return value.reshape(()) if callable(getattr(value, "numel", None)) and value.numel() == 1 else value


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _items(values: Any) -> list[tuple[str, Any]]:
    if isinstance(values, Mapping):
        return [(_text(key), value) for key, value in values.items()]
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return [(item.name, getattr(values, item.name)) for item in dataclasses.fields(values)]
    return [(name, value) for name, value in vars(values).items() if not name.startswith("_")]


def package_version(package: str) -> str:
    """Returns the version of an installed distribution; `unknown` if it has none."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
