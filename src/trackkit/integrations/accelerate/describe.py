"""Describes a run from what an accelerator knows of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.integrations.accelerate import _compat
from trackkit.integrations.batches import describe_data
from trackkit.integrations.optimizers import bare
from trackkit.record.description import Description

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.integrations.accelerate.data import Source


def describe(start: Start, accelerator: Any, source: Source | None) -> Start:
    """Returns `start` with model, optimizers, data and the accelerator's settings.

    Args:
        start: what the tracker knows.
        accelerator: with what it has prepared so far.
        source: of the training data; None if unknown.
    """
    from trackkit.record.run_config import model_config, optimizer_config

    known = Description()
    models = _compat.models(accelerator)
    optimizers = [bare(each) for each in _compat.optimizers(accelerator)]
    if models:
        known.add("the model", lambda: model_config(models[0], type(accelerator.unwrap_model(models[0]))))
    if optimizers:
        schedulers = _compat.schedulers(accelerator)
        known.add("the optimizer", lambda: optimizer_config(optimizers, schedulers))
        if schedulers:
            known.config.update({"optim/scheduler/interval": "step", "optim/scheduler/frequency": 1})
    accumulation, ranks = accelerator.gradient_accumulation_steps, accelerator.num_processes
    if source is not None:
        size = None if source.sizes.batch is None else source.sizes.batch // ranks
        describe_data(known, source.loader, size, accumulation, ranks)
    known.config["trainer/gradient_accumulation_steps"] = accumulation
    output = Path(accelerator.project_dir) if accelerator.project_dir else start.output
    return replace(start, config={**start.config, **known.config}, faults=known.faults, output=output)
