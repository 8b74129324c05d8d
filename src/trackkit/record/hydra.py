"""Describes the job of a Hydra application: its composed config, its overrides, and the sweep that it belongs to."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trackkit.record.run_config import flatten


@dataclass(frozen=True)
class HydraJob:
    """The running job of a function decorated with `@hydra.main`.

    | key | meaning |
    |---|---|
    | `hydra/job` | name of the application |
    | `hydra/job_number` | number of the job in its sweep, from 0; left out outside of a sweep |
    | `hydra/mode` | `RUN` or `MULTIRUN` |
    | `hydra/overrides` | the arguments that change the config, in their order |
    | `hydra/choices/<group>` | the option that was chosen from each config group |
    | `hydra/output` | the job's output folder |

    Attributes:
        config: as in the table.
        hparams: the composed config, without Hydra's own part: flat, three levels deep; secrets are masked.
        group: of the jobs of one sweep, `<job>-<folder of the sweep>`; "" outside of a sweep.
        home: the working directory that the application was started in: Hydra may change it for each job.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    hparams: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    home: Path = Path()


def read_hydra() -> HydraJob:
    """Returns the job that this process runs; an empty one outside of a Hydra application.

    The composed config is read from the file that Hydra writes for each job. With `hydra.output_subdir: null` there is
    none, and `hparams` is empty.

    Raises:
        OSError, OmegaConfBaseException: the file can't be read.
    """
    module = sys.modules.get("hydra.core.hydra_config")
    if module is None or not module.HydraConfig.initialized():
        return HydraJob()
    from omegaconf import OmegaConf

    hydra = module.HydraConfig.get()
    if OmegaConf.is_missing(hydra.runtime, "output_dir"):
        # Composed by `hydra.compose`: no job runs.
        return HydraJob()
    is_sweep = str(hydra.mode).rpartition(".")[2] == "MULTIRUN"
    output = str(hydra.runtime.output_dir)
    choices = {name: value for name, value in hydra.runtime.choices.items() if not str(name).startswith("hydra/")}
    config = {
        "hydra/job": hydra.job.name,
        "hydra/mode": "MULTIRUN" if is_sweep else "RUN",
        "hydra/overrides": OmegaConf.to_container(hydra.overrides.task),
        "hydra/output": output,
        **flatten("hydra/choices", choices),
    }
    if not OmegaConf.is_missing(hydra.job, "num"):
        config["hydra/job_number"] = hydra.job.num
    hparams = _composed(Path(output, hydra.output_subdir, "config.yaml")) if hydra.output_subdir else {}
    group = _group(hydra.job.name, str(hydra.sweep.dir)) if is_sweep else ""
    return HydraJob(config, hparams, group, Path(hydra.runtime.cwd))


def _composed(path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf

    with _random_states_kept():
        values = _plain(OmegaConf.load(path))
    if not isinstance(values, dict):
        return {}
    return {key.removeprefix("hparams/"): value for key, value in flatten("hparams", values).items()}


@contextmanager
def _random_states_kept() -> Iterator[None]:
    """Restores the generators of `random` and NumPy: a resolver of the application may draw from them."""
    numpy = sys.modules.get("numpy")
    state, numpys = random.getstate(), numpy.random.get_state() if numpy is not None else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy is not None:
            numpy.random.set_state(numpys)


def _plain(node: Any) -> Any:
    """Returns a node as plain Python; an interpolation that only the application can resolve stays as written."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not OmegaConf.is_dict(node):
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    values: Any = OmegaConf.to_container(node)
    for key in node:
        with suppress(OmegaConfBaseException):
            values[key] = _plain(node[key])
    return values


def _group(job: str, folder: str) -> str:
    """Returns `train-2026-11-29-12-30-00` for `multirun/2026-11-29/12-30-00`: Hydra's default has date and time."""
    parts = Path(folder).parts
    name = "-".join(parts[-2:] if len(parts) > 1 and re.match(r"\d{4}-", parts[-2]) else parts[-1:])
    return f"{job}-{name}"
