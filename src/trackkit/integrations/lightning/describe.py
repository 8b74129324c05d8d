"""Describes a run: what Lightning knows at its start."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from trackkit.engine.run_info import Start
    from trackkit.record.description import Description

# Arguments of the trainer's constructor that are plain values and attributes of it.
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


def describe(trainer: Trainer, module: LightningModule, phase: str) -> Start:
    """Returns what Lightning knows at the start of a fit or an evaluation.

    Args:
        trainer: the trainer.
        module: its module.
        phase: `fit`, `validate` or `test`.
    """
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


def _describe(known: Description, trainer: Trainer, module: LightningModule, phase: str) -> None:
    """Adds the run config that the trainer and the module give."""
    from trackkit.integrations.batches import describe_data, loader_sizes
    from trackkit.record.run_config import model_config, optimizer_config, plain

    loader = trainer.train_dataloader if phase == "fit" else None
    dataset = known.ask("the data set", lambda: getattr(loader, "dataset", None), None)
    loader = loader if dataset is not None else None
    optimizers = [each for each in trainer.optimizers if each.param_groups]
    known.add("the model", lambda: model_config(module))
    known.add(
        "the optimizers",
        # `configure_optimizers` may return None: the optimizer in its place has no parameters.
        lambda: optimizer_config(optimizers, [item.scheduler for item in trainer.lr_scheduler_configs]),
    )
    size = known.ask("the data", lambda: loader_sizes(loader).size, None)
    describe_data(known, loader, size, trainer.accumulate_grad_batches, trainer.world_size)
    known.add("the schedule of the schedulers", lambda: _schedules(trainer))
    known.add(
        "the trainer's arguments",
        lambda: {f"trainer/{name}": plain(getattr(trainer, name)) for name in _ARGUMENTS if hasattr(trainer, name)},
    )
    if phase == "fit" and trainer.ckpt_path is not None:
        known.config["runtime/resumed_from"] = plain(trainer.ckpt_path)
    known.config["runtime/precision"] = str(trainer.precision)
    known.config["runtime/strategy"] = type(trainer.strategy).__name__


def _schedules(trainer: Trainer) -> dict[str, Any]:
    """Returns when each scheduler steps; numbered as the schedulers are."""
    flat: dict[str, Any] = {}
    several = len(trainer.lr_scheduler_configs) > 1
    for number, config in enumerate(trainer.lr_scheduler_configs):
        section = f"optim/{number}/scheduler" if several else "optim/scheduler"
        flat |= {f"{section}/interval": config.interval, f"{section}/frequency": config.frequency}
        flat |= {f"{section}/monitor": config.monitor} if config.monitor is not None else {}
    return flat


def _hparams(trainer: Trainer, module: LightningModule) -> dict[str, Any]:
    """Returns the hyperparameters of the module and the data module."""
    from trackkit.record.run_config import flatten

    hparams = flatten("", dict(getattr(module, "hparams_initial", None) or getattr(module, "hparams", {}) or {}))
    datamodule = trainer.datamodule  # type: ignore[attr-defined]
    if datamodule is not None:
        hparams.update(flatten("", dict(getattr(datamodule, "hparams", {}) or {})))
    # LightningCLI adds the name of its own function.
    return {name.removeprefix("/"): value for name, value in hparams.items() if name != "/_instantiator"}


def _version(trainer: Trainer) -> str:
    """Returns the version of the first logger's experiment; "" without one."""
    return str(getattr(trainer.logger, "version", None) or "") if trainer.loggers else ""


def _monitored(trainer: Trainer) -> tuple[str | None, str | None]:
    """Returns metric and mode (`min`, `max`) that checkpointing, else early stopping, monitors."""
    for callback in (*trainer.checkpoint_callbacks, *trainer.early_stopping_callbacks):
        monitor = getattr(callback, "monitor", None)
        if monitor:
            return str(monitor), getattr(callback, "mode", None)
    return None, None


def overrides(module: Any, name: str) -> bool:
    """Returns whether the user's module overrides a method of Lightning's."""
    return not getattr(type(module), name).__module__.startswith(("lightning.pytorch.", "pytorch_lightning."))


def _wandb_run(trainer: Trainer) -> Any:
    """Returns the W&B run of the trainer's WandbLogger on rank 0; else None."""
    for each in trainer.loggers:
        if type(each).__name__ == "WandbLogger" and trainer.is_global_zero:
            return each.experiment  # type: ignore[attr-defined]
    return None
