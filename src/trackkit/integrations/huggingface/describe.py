"""Describes a run from what Hugging Face knows of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.engine.run_info import Start
from trackkit.integrations.batches import describe_data
from trackkit.integrations.huggingface import _compat

if TYPE_CHECKING:
    from trackkit.integrations.huggingface.progress import Sizes
    from trackkit.record.description import Description


def describe(
    known: Description, args: Any, state: Any, kwargs: dict[str, Any], phase: str, sizes: Sizes | None = None
) -> Start:
    """Returns what Hugging Face knows of a fit or an evaluation that begins.

    Args:
        known: gathers the run config.
        args, state, kwargs: the arguments of a hook.
        phase: as in `Start`.
        sizes: of the training's loader; None for an evaluation.
    """
    _describe(known, args, kwargs)
    if state.global_step and phase == "fit" and (resumed := _compat.resumed_from()):
        known.config["runtime/resumed_from"] = resumed
    if sizes is not None:
        size = None if sizes.batch is None else sizes.batch // args.world_size
        loader = kwargs.get("train_dataloader")
        describe_data(known, loader, size, args.gradient_accumulation_steps, args.world_size)
    monitor = args.metric_for_best_model
    return Start(
        framework="huggingface",
        package="transformers",
        output=Path(args.output_dir),
        phase=phase,
        config=known.config,
        hparams=dict(state.trial_params or {}),
        name=args.run_name if args.run_name and args.run_name != args.output_dir else "",
        device=str(args.device),
        monitor=None if monitor is None else monitor if monitor.startswith("eval_") else f"eval_{monitor}",
        goal=None if args.greater_is_better is None else "max" if args.greater_is_better else "min",
        faults=known.faults,
    )


def _describe(known: Description, args: Any, kwargs: dict[str, Any]) -> None:
    """Adds the model, the optimizer and the trainer's arguments to the run config."""
    from trackkit.record.run_config import flatten, model_config, optimizer_config

    # SetFit gives its callbacks an object that is no module, and has the trained one.
    model = getattr(kwargs.get("model"), "model_body", kwargs.get("model"))
    optimizer, scheduler = kwargs.get("optimizer"), kwargs.get("lr_scheduler")
    if model is not None:
        known.add("the model", lambda: model_config(model))
        known.add("the model's config", lambda: flatten("model/config", _own_config(model), depth=1))
        known.add("the adapters", lambda: _adapter_config(model))
    if optimizer is not None:
        bare = _compat.bare_optimizer(optimizer)
        schedulers = [_compat.bare_scheduler(scheduler)] if scheduler else []
        known.add("the optimizer", lambda: optimizer_config([bare], schedulers))
        if schedulers and not hasattr(schedulers[0], "patience"):
            # One that waits for a metric steps at evaluations.
            known.config.update({"optim/scheduler/interval": "step", "optim/scheduler/frequency": 1})
    known.add("the trainer's arguments", lambda: flatten("trainer", args.to_dict(), depth=1))
    known.config["runtime/output_folder"] = str(Path(args.output_dir))
    known.config["runtime/precision"] = "bf16" if args.bf16 else "fp16" if args.fp16 else "32"
    known.config["runtime/strategy"] = str(args.parallel_mode.value)
    known.config["seed/trainer"] = args.seed
    known.config["seed/data"] = args.data_seed if args.data_seed is not None else args.seed


def _adapter_config(model: Any) -> dict[str, Any]:
    """Returns `model/adapter/*`, the configuration of the model's PEFT adapter; with a name each if it has several."""
    from trackkit.record.run_config import flatten

    adapters: Any = getattr(model, "peft_config", None)
    flat: dict[str, Any] = {}
    for name, adapter in adapters.items() if isinstance(adapters, Mapping) else ():
        # A set, such as the target modules, has another order in each process.
        values = dict(adapter.to_dict())
        values |= {key: sorted(map(str, value)) for key, value in values.items() if isinstance(value, set)}
        flat.update(flatten("model/adapter" if len(adapters) == 1 else f"model/adapter/{name}", values, depth=1))
    return flat


def _own_config(model: Any) -> Any:
    """Returns the model's `config`; the user's own model may have anything under that name. Empty if unreadable."""
    config = getattr(model, "config", None)
    if config is None or isinstance(config, (Mapping, type)):
        return config if isinstance(config, Mapping) else {}
    if callable(to_dict := getattr(config, "to_dict", None)):
        return to_dict()
    return config if hasattr(config, "__dict__") or dataclasses.is_dataclass(config) else {}
