"""The flat run config that every framework shares: model, optimizers, data, runtime, seeds, settings."""

from __future__ import annotations

import dataclasses
import enum
import os
import platform
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.fingerprint import fingerprint
from trackkit.redaction import redact, redact_arguments

if TYPE_CHECKING:
    import torch

_SLURM = ("JOB_ID", "JOB_NAME", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "JOB_PARTITION", "NNODES", "NTASKS", "NODELIST")
_MAX_TEXT = 2000


def flatten(section: str, values: Any, depth: int = 3) -> dict[str, Any]:
    """`values` as `section/key` to a JSON value, secrets masked.

    Args:
        section: what the keys begin with.
        values: a mapping, a dataclass or a namespace.
        depth: how many levels become columns; what lies deeper is kept as one value.
    """
    flat: dict[str, Any] = {}
    for name, value in _items(values):
        key = f"{section}/{name}"
        inner = _items(value) if depth > 1 and _is_mapping(value) else None
        if inner:
            flat.update(flatten(key, value, depth - 1))
        else:
            flat[key] = plain(redact(name, plain(value)))
    return flat


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: what is neither a number, a text nor a container of them becomes its text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, str):
        return value[:_MAX_TEXT]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if dataclasses.is_dataclass(value):
        return plain(dict(_items(value)))
    return str(value)[:_MAX_TEXT]


def model_config(model: torch.nn.Module, name: type | None = None) -> dict[str, Any]:
    """`model/*`: class, and parameters in millions (whole sizes, also where a parameter is sharded)."""
    total = trainable = 0
    for parameter in model.parameters():
        count = _size(parameter)
        total += count
        trainable += count if parameter.requires_grad else 0
    kind = name or type(model)
    return {
        "model/class": f"{kind.__module__}.{kind.__qualname__}",
        "model/total_params_M": total / 1e6,
        "model/trainable_params_M": trainable / 1e6,
    }


def optimizer_config(optimizers: Sequence[Any], schedulers: Sequence[Any] = ()) -> dict[str, Any]:
    """`optim/*`: class and defaults of each optimizer (numbered where there are several), class of each scheduler."""
    flat: dict[str, Any] = {}
    for kind, objects in (("", optimizers), ("scheduler", schedulers)):
        for index, item in enumerate(objects):
            number = f"/{index}" if len(objects) > 1 else ""
            section = f"optim{number}/{kind}" if kind else f"optim{number}"
            flat[f"{section}/class" if not kind else section] = type(item).__name__
            if not kind:
                # A scheduler has moved `defaults`' rate on by now; groups remember where they began.
                first = item.param_groups[0]
                settings = {name: value for name, value in first.items() if name not in ("params", "initial_lr")}
                settings["lr"] = first.get("initial_lr", first["lr"])
                flat.update({f"{section}/{name}": plain(_number(value)) for name, value in settings.items()})
    return flat


def data_config(dataset: Any, batch_size: int | None, accumulation: int, world_size: int) -> dict[str, Any]:
    """`data/*`: sizes, accumulation and fingerprint; what is unknown is left out."""
    flat: dict[str, Any] = {
        "data/train_samples": _length(dataset),
        "data/batch_size_per_device": batch_size,
        "data/accumulation": accumulation,
        "data/batch_size_global": None if batch_size is None else batch_size * accumulation * world_size,
        "data/dataset": None if dataset is None else type(dataset).__name__,
        "data/fingerprint": fingerprint(dataset),
    }
    return {key: value for key, value in flat.items() if value is not None}


def runtime_config(framework: str, package: str, world_size: int, device: str, output: Path) -> dict[str, Any]:
    """`runtime/*` and `seed/*`: what the training runs on, and what it started from."""
    import torch

    flat: dict[str, Any] = {
        "runtime/framework": framework,
        "runtime/framework_version": _version(package),
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


def _length(dataset: Any) -> int | None:
    """Samples, where the data set has a length: some have `__len__` only to raise."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        return None


def _size(parameter: Any) -> int:
    """Elements of the whole parameter: DTensors know theirs, DeepSpeed's ZeRO-3 keeps it aside."""
    return int(parameter.ds_numel if hasattr(parameter, "ds_numel") else parameter.numel())


def _number(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "numel", lambda: 0)() == 1 else value


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def _items(values: Any) -> list[tuple[str, Any]]:
    if isinstance(values, Mapping):
        return [(str(key), value) for key, value in values.items()]
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        return [(item.name, getattr(values, item.name)) for item in dataclasses.fields(values)]
    return [(name, value) for name, value in vars(values).items() if not name.startswith("_")]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
