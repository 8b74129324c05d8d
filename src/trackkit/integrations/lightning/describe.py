"""What Lightning knows of a run that begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.integrations.lightning.logged import SET, set_name
from trackkit.records import Where
from trackkit.schema import canonical

if TYPE_CHECKING:
    from trackkit.start import Start

# Trainer attributes that are arguments of its constructor and plain values.
_ARGUMENTS = (
    "max_epochs",
    "min_epochs",
    "max_steps",
    "min_steps",
    "accumulate_grad_batches",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "log_every_n_steps",
    "check_val_every_n_epoch",
    "val_check_interval",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "num_sanity_val_steps",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
    "num_nodes",
    "num_devices",
    "default_root_dir",
)


def describe(trainer: Any, module: Any, phase: str) -> Start:
    """What Lightning knows of a run that begins."""
    from trackkit.run_config import data_config, flatten, model_config, optimizer_config
    from trackkit.start import Start

    root = type(trainer).__module__.split(".")[0]
    hparams = flatten("", dict(getattr(module, "hparams_initial", None) or getattr(module, "hparams", {}) or {}))
    if trainer.datamodule is not None:
        hparams.update(flatten("", dict(getattr(trainer.datamodule, "hparams", {}) or {})))
    loader = trainer.train_dataloader if phase == "fit" else None
    loader = loader if hasattr(loader, "dataset") else None
    dataset = getattr(loader, "dataset", None)
    schedulers = [item.scheduler for item in trainer.lr_scheduler_configs]
    monitor, goal = _monitored(trainer)
    config = {
        **model_config(module),
        **optimizer_config(trainer.optimizers, schedulers),
        **data_config(
            dataset,
            _loader_batch_size(loader),
            trainer.accumulate_grad_batches,
            trainer.world_size,
        ),
        **{f"trainer/{name}": _plain(getattr(trainer, name)) for name in _ARGUMENTS if hasattr(trainer, name)},
        "runtime/precision": str(trainer.precision),
        "runtime/strategy": type(trainer.strategy).__name__,
    }
    return Start(
        framework="lightning",
        package="lightning" if root == "lightning" else "pytorch-lightning",
        output=Path(trainer.default_root_dir) if "://" not in str(trainer.default_root_dir) else Path.cwd(),
        phase=phase,
        config=config,
        hparams={name.removeprefix("/"): value for name, value in hparams.items()},
        version=str(getattr(trainer.logger, "version", None) or "") if trainer.loggers else "",
        device=str(trainer.strategy.root_device),
        monitor=monitor,
        goal=goal,
        foreign_run=_wandb_run(trainer),
    )


def _monitored(trainer: Any) -> tuple[str | None, str | None]:
    """What checkpointing, else early stopping, watches."""
    for callback in (*trainer.checkpoint_callbacks, *trainer.early_stopping_callbacks):
        monitor = getattr(callback, "monitor", None)
        if not monitor:
            continue
        match = SET.match(str(monitor))
        if match:
            # The set is a segment of the key, and the name loses it: the key itself is what can be followed.
            where = Where("epoch", "val", set_name(trainer, "val", int(match["index"])))
            monitor = where.prefix + canonical(match["name"], where)
        return str(monitor), str(callback.mode)
    return None, None


def overrides(module: Any, name: str) -> bool:
    """Whether the user's module has a method of its own in place of Lightning's."""
    return not getattr(type(module), name).__module__.startswith(("lightning.pytorch.", "pytorch_lightning."))


def _wandb_run(trainer: Any) -> Any:
    """The run of a WandbLogger of this trainer, on the rank that has one."""
    for each in trainer.loggers:
        if type(each).__name__ == "WandbLogger" and trainer.is_global_zero:
            return each.experiment
    return None


def _loader_batch_size(loader: Any) -> int | None:
    """Of a loader with a batch sampler of its own, the sampler knows."""
    size = getattr(loader, "batch_size", None)
    return size if size is not None else getattr(getattr(loader, "batch_sampler", None), "batch_size", None)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
