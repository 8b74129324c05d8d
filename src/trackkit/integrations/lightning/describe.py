"""What Lightning knows of a run that begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackkit.engine.run_info import Start
    from trackkit.record.description import Description

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
    from trackkit.engine.run_info import Start
    from trackkit.record.description import Description

    root = type(trainer).__module__.split(".")[0]
    known = Description()
    _describe(known, trainer, module, phase)
    monitor, goal = known.ask("the monitored metric", lambda: _monitored(trainer), (None, None))
    return Start(
        framework="lightning",
        package="lightning" if root == "lightning" else "pytorch-lightning",
        output=Path(trainer.default_root_dir) if "://" not in str(trainer.default_root_dir) else Path.cwd(),
        phase=phase,
        config=known.config,
        hparams=known.ask("the hyperparameters", lambda: _hparams(trainer, module), {}),
        version=known.ask("the logger's version", lambda: _version(trainer), ""),
        device=str(trainer.strategy.root_device),
        monitor=monitor,
        goal=goal,
        foreign_run=known.ask("the run of the WandbLogger", lambda: _wandb_run(trainer), None),
        faults=known.faults,
    )


def _describe(known: Description, trainer: Any, module: Any, phase: str) -> None:
    """The run config, as far as the trainer and the module tell."""
    from trackkit.record.run_config import data_config, fingerprint_config, model_config, optimizer_config, plain

    loader = trainer.train_dataloader if phase == "fit" else None
    dataset = known.ask("the data set", lambda: getattr(loader, "dataset", None), None)
    loader = loader if dataset is not None else None
    known.add("the model", lambda: model_config(module))
    known.add(
        "the optimizers",
        lambda: optimizer_config(trainer.optimizers, [item.scheduler for item in trainer.lr_scheduler_configs]),
    )
    known.add(
        "the data",
        lambda: data_config(dataset, _batch_size(loader), trainer.accumulate_grad_batches, trainer.world_size),
    )
    known.add("the data's fingerprint", lambda: fingerprint_config(dataset))
    known.add(
        "the trainer's arguments",
        lambda: {f"trainer/{name}": plain(getattr(trainer, name)) for name in _ARGUMENTS if hasattr(trainer, name)},
    )
    known.config["runtime/precision"] = str(trainer.precision)
    known.config["runtime/strategy"] = type(trainer.strategy).__name__


def _hparams(trainer: Any, module: Any) -> dict[str, Any]:
    """The module's hyperparameters, and the data module's."""
    from trackkit.record.run_config import flatten

    hparams = flatten("", dict(getattr(module, "hparams_initial", None) or getattr(module, "hparams", {}) or {}))
    if trainer.datamodule is not None:
        hparams.update(flatten("", dict(getattr(trainer.datamodule, "hparams", {}) or {})))
    return {name.removeprefix("/"): value for name, value in hparams.items()}


def _version(trainer: Any) -> str:
    """Of the first logger's experiment."""
    return str(getattr(trainer.logger, "version", None) or "") if trainer.loggers else ""


def _monitored(trainer: Any) -> tuple[str | None, str | None]:
    """What checkpointing, else early stopping, watches."""
    for callback in (*trainer.checkpoint_callbacks, *trainer.early_stopping_callbacks):
        monitor = getattr(callback, "monitor", None)
        if monitor:
            return str(monitor), getattr(callback, "mode", None)
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


def _batch_size(loader: Any) -> int | None:
    """Of a loader with a batch sampler of its own, the sampler knows."""
    size = getattr(loader, "batch_size", None)
    return size if size is not None else getattr(getattr(loader, "batch_sampler", None), "batch_size", None)
