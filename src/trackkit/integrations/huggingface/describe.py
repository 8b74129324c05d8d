"""What Hugging Face knows of a run that begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.integrations.huggingface.sizes import Sizes
    from trackkit.record.description import Description


def describe(
    known: Description, args: Any, state: Any, kwargs: dict[str, Any], phase: str, sizes: Sizes | None = None
) -> Start:
    """What Hugging Face knows of a run that begins.

    Args:
        known: takes the run config.
        args, state, kwargs: as a hook gets them.
        phase: as in `Start`.
        sizes: of what is trained on; None where nothing is.
    """
    from trackkit.engine.run_info import Start

    _describe(known, args, kwargs)
    if sizes is not None:
        _describe_data(known, args, kwargs.get("train_dataloader"), sizes)
    monitor = args.metric_for_best_model
    return Start(
        framework="huggingface",
        package="transformers",
        output=_output(args),
        phase=phase,
        config=known.config,
        hparams=dict(state.trial_params or {}),
        name=args.run_name if args.run_name and args.run_name != args.output_dir else "",
        device=str(args.device),
        monitor=None if monitor is None else monitor if monitor.startswith("eval_") else f"eval_{monitor}",
        goal=None if args.greater_is_better is None else "max" if args.greater_is_better else "min",
        faults=known.faults,
    )


def _output(args: Any) -> Path:
    """The output folder; in it, where it is published, one that is not: the Trainer leaves out what begins with `_`."""
    output = Path(args.output_dir)
    return output / "_trackkit" if args.push_to_hub else output


def _describe(known: Description, args: Any, kwargs: dict[str, Any]) -> None:
    """The run config, as far as the trainer tells."""
    from trackkit.record.run_config import flatten, model_config, optimizer_config

    model = kwargs.get("model")
    optimizer, scheduler = kwargs.get("optimizer"), kwargs.get("lr_scheduler")
    if model is not None:
        known.add("the model", lambda: model_config(model))
        known.add("the model's config", lambda: flatten("model/config", _own_config(model), depth=1))
    if optimizer is not None:
        bare = getattr(optimizer, "optimizer", optimizer)
        schedulers = [getattr(scheduler, "scheduler", scheduler)] if scheduler else []
        known.add("the optimizer", lambda: optimizer_config([bare], schedulers))
    known.add("the trainer's arguments", lambda: flatten("trainer", args.to_dict(), depth=1))
    known.config["runtime/output_folder"] = str(Path(args.output_dir))
    known.config["runtime/precision"] = "bf16" if args.bf16 else "fp16" if args.fp16 else "32"
    known.config["runtime/strategy"] = str(args.parallel_mode.value)
    known.config["seed/trainer"] = args.seed
    known.config["seed/data"] = args.data_seed if args.data_seed is not None else args.seed


def _describe_data(known: Description, args: Any, loader: Any, sizes: Sizes) -> None:
    """What is trained on."""
    from trackkit.record.run_config import data_config, fingerprint_config

    ranks, accumulation = args.world_size, args.gradient_accumulation_steps
    dataset = known.ask("the data set", lambda: getattr(loader, "dataset", None), None)
    batch = None if sizes.batch is None else sizes.batch // ranks
    known.add("the data", lambda: data_config(dataset, batch, accumulation, ranks))
    known.add("the data's fingerprint", lambda: fingerprint_config(dataset))


def _own_config(model: Any) -> Any:
    """The model's own `config`: a transformers model's, or whatever the user's model has under that name."""
    config = getattr(model, "config", None)
    if config is None or isinstance(config, (Mapping, type)):
        return config if isinstance(config, Mapping) else {}
    if callable(to_dict := getattr(config, "to_dict", None)):
        return to_dict()
    return config if hasattr(config, "__dict__") or dataclasses.is_dataclass(config) else {}
