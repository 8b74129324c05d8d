"""What Hugging Face knows of a run that begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackkit.start import Start


def describe(args: Any, state: Any, kwargs: dict[str, Any], phase: str, samples: int, tokens: int) -> Start:
    """What Hugging Face knows of a run that begins."""
    from trackkit.run_config import data_config, flatten, model_config, optimizer_config
    from trackkit.start import Start

    model, loader = kwargs.get("model"), kwargs.get("train_dataloader")
    optimizer, scheduler = kwargs.get("optimizer"), kwargs.get("lr_scheduler")
    dataset = getattr(loader, "dataset", None) if phase == "fit" else None
    config: dict[str, Any] = {}
    if model is not None:
        config.update(model_config(model))
        if getattr(model, "config", None) is not None:
            own = model.config if isinstance(model.config, dict) else model.config.to_dict()
            config.update(flatten("model/config", own, depth=1))
    if optimizer is not None:
        bare = getattr(optimizer, "optimizer", optimizer)
        config.update(optimizer_config([bare], [getattr(scheduler, "scheduler", scheduler)] if scheduler else []))
    if phase == "fit":
        batch = state.train_batch_size or args.train_batch_size
        config.update(data_config(dataset, batch, args.gradient_accumulation_steps, args.world_size))
    config.update(flatten("trainer", args.to_dict(), depth=1))
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "32"
    config.update({"runtime/precision": precision, "runtime/strategy": str(args.parallel_mode.value)})
    config.update({"seed/trainer": args.seed, "seed/data": args.data_seed if args.data_seed is not None else args.seed})
    monitor = args.metric_for_best_model
    return Start(
        framework="huggingface",
        package="transformers",
        output=Path(args.output_dir),
        phase=phase,
        config=config,
        hparams=dict(state.trial_params or {}),
        name=args.run_name if args.run_name and args.run_name != args.output_dir else "",
        device=str(args.device),
        monitor=None if monitor is None else monitor if monitor.startswith("eval_") else f"eval_{monitor}",
        goal=None if args.greater_is_better is None else "max" if args.greater_is_better else "min",
        samples=samples,
        tokens=tokens,
    )
