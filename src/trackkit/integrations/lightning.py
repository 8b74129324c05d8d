"""PyTorch Lightning, under both its import roots."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.batches import batch_counts
from trackkit.errors import SchemaError
from trackkit.integrations.guard import guarded
from trackkit.notices import logger
from trackkit.records import BATCH, Gradients, Moment, Split, Status, Where
from trackkit.schema import canonical

if TYPE_CHECKING:
    from trackkit.session import Session, Start

_SET = re.compile(r"^(?P<name>.*)/dataloader_idx_(?P<index>\d+)$")

_INF = float("inf")
_BEFORE_STEP = "on_before_optimizer_step"

# Hooks of every batch that TrackKit leaves to others.
_UNUSED = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
)

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


class LightningHooks:
    """The hooks of a Lightning callback. They do nothing but call the adapter of the trainer at work."""

    _lightning: LightningAdapter | None = None
    _lightning_position: tuple[int, float | None] | None = None

    @guarded
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if not (self.disabled or trainer.fast_dev_run or trainer.barebones):  # type: ignore[attr-defined]
            self._detach()
            self._lightning = LightningAdapter(self, trainer)
            self._lightning.attach()

    @guarded
    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._lightning is not None:
            self._lightning.loaded_step = int(checkpoint["global_step"])

    @guarded
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.fit_begins(pl_module)

    @guarded
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self._lightning is not None:
            self._lightning.before_step(optimizer)

    @guarded
    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._lightning is not None:
            self._lightning.batch_ends(outputs, batch, batch_idx)

    @guarded
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_begins("validate")

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_ends()

    @guarded
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_begins("test")

    @guarded
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_ends()

    @guarded
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._lightning is not None:
            self._lightning.saving_begins()

    @guarded
    def _lightning_train_end(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.fit_ends()

    @guarded
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        try:
            if self._lightning is not None:
                self._lightning.failed(exception)
        finally:
            self._detach()

    @guarded
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._detach()

    def _detach(self) -> None:
        if self._lightning is not None:
            self._lightning.detach()
            self._lightning = None


class LightningAdapter:
    """Tells the tracker what one Lightning trainer does, from `setup` to `teardown`.

    Lightning has no hook for what the module logs: the logger connector's `log_metrics` is wrapped on this trainer's
    own connector, where every train, epoch and evaluation event passes as tensors, before any conversion.

    Attributes:
        loaded_step: optimizer steps of the checkpoint that this evaluation has loaded.
    """

    def __init__(self, kit: Any, trainer: Any) -> None:
        self.kit = kit
        self.trainer = trainer
        self.loaded_step: int | None = None
        self.session: Session | None = None
        self._wrapped: list[tuple[Any, str]] = []
        self._total_steps: int | None = None
        self._seen_step = 0
        self._rowed = False
        self._row_due = False
        self._logged_by_connector = False
        self._row_missing = self._owed = False
        self._saved: set[str] = set()
        self._raw = self._stepped = self._announced = False
        self._handles: list[Any] = []
        self._automatic = True
        self._ranks = 1
        self._scaler: Any = None
        self._mid_epoch_validation = self._foreseen = self._unclipped = False
        self._called = True
        self._loop = trainer.fit_loop.epoch_loop
        self._eval_batch: dict[str, Any] = {}
        self._data_s = 0.0
        self._fetch_began = 0.0
        self._pause: tuple[str, float] | None = None
        self._flags: list[Any] = []
        self._at: tuple[int, float] | None = None

    # -- wrapping ------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """Wraps what Lightning offers no hook for, on this trainer's own objects."""
        connector = self.trainer._logger_connector
        epoch_loop = self.trainer.fit_loop.epoch_loop
        for owner, name, wrap in (
            (connector, "log_metrics", self._wrap_log_metrics),
            (connector, "update_train_step_metrics", self._wrap_update),
            (self.trainer._checkpoint_connector, "resume_end", self._wrap_resume_end),
            (epoch_loop, "_on_before_fetch", self._wrap_before_fetch),
            (epoch_loop, "_on_after_fetch", self._wrap_after_fetch),
        ):
            original = getattr(owner, name, None)
            if original is None:
                logger.warning("this Lightning has no '%s': what depends on it is not recorded", name)
                continue
            setattr(owner, name, wrap(original))
            self._wrapped.append((owner, name))
        for name in _UNUSED:
            # Lightning passes over a hook that can't be called; calling an empty one costs it 3 us at every batch.
            inherited = getattr(type(self.kit), name, None)
            if inherited is not None and inherited.__module__.endswith(".callbacks.callback"):
                self.kit.__dict__[name] = None
                self._wrapped.append((self.kit, name))

    def detach(self) -> None:
        """Puts everything back."""
        for owner, name in self._wrapped:
            owner.__dict__.pop(name, None)
        self._wrapped.clear()
        self.kit.__dict__.pop(_BEFORE_STEP, None)
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.kit._lightning_position = self._at or self.kit._lightning_position

    def _wrap_log_metrics(self, original: Any) -> Any:
        def log_metrics(metrics: dict[str, Any], step: int | None = None) -> None:
            self._guard(self._logged, metrics)
            original(metrics, step)

        return log_metrics

    def _wrap_update(self, original: Any) -> Any:
        def update_train_step_metrics() -> None:
            original()
            if self._row_due:
                self._guard(self._complete_row)

        return update_train_step_metrics

    def _wrap_resume_end(self, original: Any) -> Any:
        def resume_end() -> None:
            # A checkpoint of weights only reaches no callback's `on_load_checkpoint`.
            step = self.trainer._checkpoint_connector._loaded_checkpoint.get("global_step")
            self.loaded_step = int(step) if step is not None else self.loaded_step
            original()

        return resume_end

    def _wrap_before_fetch(self, original: Any) -> Any:
        def before_fetch() -> None:
            if self._pause is not None:
                self._guard(self._resume)
            self._fetch_began = time.perf_counter()
            original()

        return before_fetch

    def _wrap_after_fetch(self, original: Any) -> Any:
        def after_fetch() -> None:
            original()
            self._data_s += time.perf_counter() - self._fetch_began

        return after_fetch

    def _guard(self, call: Any, *args: Any) -> None:
        try:
            call(*args)
        except SchemaError:
            raise
        except Exception as error:
            self.kit.hook_failed(call.__name__, error)

    # -- training ------------------------------------------------------------------------------------------------

    def fit_begins(self, module: Any) -> None:
        """`on_train_start`: after everything is restored, loaders and optimizers are there."""
        trainer = self.trainer
        self._automatic = bool(module.automatic_optimization)
        total = trainer.estimated_stepping_batches if self._automatic else trainer.max_steps
        self._total_steps = int(total) if 0 <= total < float("inf") else None
        self._seen_step = trainer.global_step
        self.loaded_step = self.kit._lightning_position = None
        self._ranks = trainer.world_size
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        self._scaler = scaler if scaler is not None and scaler.is_enabled() else None
        timed = getattr(trainer, "_val_check_time_interval", None) is not None
        often = trainer.val_check_batch is not None and trainer.val_check_batch < trainer.num_training_batches
        self._mid_epoch_validation = trainer.enable_validation and (timed or often)
        sized = trainer.num_training_batches < _INF
        self._foreseen = self._automatic and self._scaler is None and sized and not self._mid_epoch_validation
        per_step = any(each.interval == "step" for each in trainer.lr_scheduler_configs)
        clips = trainer.gradient_clip_val or _overrides(module, "configure_gradient_clipping")
        self._unclipped = not (per_step or clips)
        carried = self.kit.take_checkpoint() if trainer.global_step else None
        start = replace(describe(trainer, module, "fit"), step=trainer.global_step, checkpoint=carried)
        self.session = self.kit.begin(start)
        self.session.tracker.position = self._moment
        if not self._automatic:
            for optimizer in trainer.optimizers:
                self._handles.append(optimizer.register_step_post_hook(self._has_stepped))

    def _has_stepped(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Manual optimization: an optimizer has stepped. A raw one was not announced; its gradients are still there."""
        if not self._announced:
            self._guard(self.before_step, optimizer)
        self._stepped, self._announced = True, False

    def before_step(self, optimizer: Any) -> None:
        """`on_before_optimizer_step`: gradients are unscaled (but for fused optimizers) and not clipped yet."""
        if self.session is None:
            return
        self._announced = True
        scale = self._watch_scaler(optimizer) if self._scaler is not None else None
        if self._owed or self._should_log() or self._loop.batch_progress.is_last_batch or self._may_be_last():
            self.session.tracker.gradients(Gradients(optimizer, name=self._name_of(optimizer), scale=scale))

    def batch_ends(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """`on_train_batch_end`."""
        if self.session is None:
            return
        if self._pause is not None:
            self._resume()
        trainer = self.trainer
        step = trainer.global_step
        taken = step - self._seen_step
        stepped = taken > 0
        if not self._automatic:
            # Raw optimizers bypass Lightning's counter of steps; its count of batches is the next best. A step that
            # the gradient scaler skipped is counted, and never reached the optimizer.
            self._raw = self._raw or (self._stepped and taken == 0)
            stepped = self._stepped or taken > 0
            self._stepped = self._announced = False
            step = self._loop._batches_that_stepped + 1 if self._raw else step
        # A row that falls due on a batch without a step (manual optimization) is made by the next step.
        due = self._owed or self._due_now(step)
        self._owed = due and not stepped and not self._automatic
        tracker = self.session.tracker
        if due and not self._called and self._unclipped:
            # A stop that was decided within the batch: its gradients are as they were before the step.
            self.before_step(trainer.optimizers[0])
        samples, tokens = batch_counts(batch)
        steps = (taken or 1) if stepped else 0
        tracker.batch(self._loss_of(outputs), samples * self._ranks, tokens * self._ranks, self._data_s, steps)
        self._data_s = 0.0
        self._saved.clear()
        # As the batch leaves it: Lightning counts an epoch before it logs it.
        batches = trainer.fit_loop.max_batches
        part = (batch_idx + 1) / batches if 0 < batches < _INF else bool(self._loop.batch_progress.is_last_batch)
        self._at = step, float(trainer.fit_loop.epoch_progress.current.completed + part)
        if self._flags:
            tracker.skipped(self._skipped())
        if stepped:
            self._seen_step += taken
            self._row_missing = not due
            if due:
                self._rowed = self._row_due = True
                self._logged_by_connector = False
                tracker.row(self._moment())
        if self._foreseen:
            self._foresee(step, batch_idx, stepped)

    def _foresee(self, step: int, batch_idx: int, stepped: bool) -> None:
        """Whether the next batch may make a row: where it can't, Lightning is spared `on_before_optimizer_step`."""
        trainer, limit, every = self.trainer, self._loop.max_steps, self.trainer.log_every_n_steps
        called = (
            not self._rowed
            or trainer.should_stop
            or (every > 0 and (self._loop._batches_that_stepped + stepped + 1) % every == 0)
            or batch_idx + 2 >= trainer.fit_loop.max_batches
            or (limit >= 0 and limit <= step + 1)
        )
        if called is not self._called:
            self._called = called
            if called:
                self.kit.__dict__.pop(_BEFORE_STEP, None)
            else:
                self.kit.__dict__[_BEFORE_STEP] = None

    def fit_ends(self) -> None:
        """`on_train_end`: after the last epoch's metrics were logged."""
        if self.session is None:
            return
        self._resume()
        status: Status = "stopped" if self.trainer.should_stop else "finished"
        self.session.end(status)

    def failed(self, error: BaseException) -> None:
        """`on_exception`. An evaluation after a fit that went well may be tried again: it leaves the run open."""
        session = self.session
        if session is None or session.phase == "fitted":
            return
        from trackkit.session import CTRL_C

        if isinstance(error, KeyboardInterrupt):
            session.end("stopped", CTRL_C)
        elif isinstance(error, SystemExit) and type(error).__name__ == "SIGTERMException":
            session.end("preempted")
        else:
            session.end("failed", 1)
        session.close()

    def _may_be_last(self) -> bool:
        """Whether the training may end with this batch: by its number of steps, or by a validation in mid-epoch."""
        trainer, limit = self.trainer, self._loop.max_steps
        if limit >= 0:
            ahead = 1 if self._automatic else len(trainer.optimizers)
            if limit <= trainer.global_step + ahead:
                return True
        return self._mid_epoch_validation and bool(self._loop._should_check_val_fx(trainer.fit_loop._data_fetcher))

    def _due_now(self, step: int) -> bool:
        limit = self._loop.max_steps
        if self._should_log() or (limit >= 0 and limit <= step):
            return True
        if not self._loop.batch_progress.is_last_batch:
            return False
        epochs = self.trainer.max_epochs
        return epochs is not None and 0 <= epochs <= self.trainer.current_epoch + 1

    def _should_log(self) -> bool:
        """The first step, and where Lightning logs: its `should_update_logs`, whose property costs ten times this."""
        trainer = self.trainer
        every = trainer.log_every_n_steps
        due = every > 0 and ((self._loop._batches_that_stepped + 1) % every == 0 or trainer.should_stop)
        return due or not self._rowed

    def _loss_of(self, outputs: Any) -> Any:
        loss = outputs.get("loss") if isinstance(outputs, dict) else None
        if loss is None or not hasattr(loss, "detach"):
            return None
        # Lightning clones the loss of automatic optimization; a manual one may be a buffer that is used again.
        if not self._automatic:
            loss = loss.detach().clone()
        if loss.ndim:
            if loss.numel() != 1:
                return None
            loss = loss.detach().reshape(())
        divided = self.trainer.accumulate_grad_batches
        return loss * divided if self._automatic and divided != 1 else loss

    def _moment(self) -> Moment:
        """Where the training stands."""
        step, epoch = self._at or (self._seen_step, None)
        return Moment(step, epoch, self._total_steps)

    def _name_of(self, optimizer: Any) -> str:
        optimizers = self.trainer.optimizers
        if len(optimizers) < 2:
            return ""
        kinds = [type(each).__name__ for each in optimizers]
        for index, each in enumerate(optimizers):
            if each is optimizer or getattr(each, "optimizer", None) is optimizer:
                return f"{kinds[index]}_{index}" if kinds.count(kinds[index]) > 1 else kinds[index]
        return type(optimizer).__name__

    def _watch_scaler(self, optimizer: Any) -> Any:
        """Keeps the scaler's found-inf flags; gives the scale where a fused optimizer is about to unscale by itself."""
        scaler = self._scaler
        found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
        self._flags.extend(found.values())
        return scaler._scale if getattr(optimizer, "_step_supports_amp_scaling", False) else None

    def _skipped(self) -> Any:
        flags, self._flags = self._flags, []
        if not flags:
            return None
        import torch

        return flags[0] if len(flags) == 1 else torch.stack([flag.reshape(()) for flag in flags]).max()

    # -- pauses --------------------------------------------------------------------------------------------------

    def saving_begins(self) -> None:
        """`on_save_checkpoint`: no hook tells when the file is written; the next event does.

        What leads up to the checkpoint must be on disk before it: a training that goes on from there won't make it.
        """
        if self._row_due:
            self._guard(self._complete_row)
        if self.session is not None:
            self.session.tracker.flush()
        if self._pause is None:
            self._pause = ("checkpoint", time.perf_counter())

    def evaluation_begins(self, phase: str) -> None:
        """`on_validation_start`, `on_test_start`."""
        if self.trainer.sanity_checking:
            return
        self._eval_batch.clear()
        if self._fitting:
            self._resume()
            self._pause = ("evaluation", time.perf_counter())
        else:
            self.session = self.kit.begin(describe(self.trainer, self.trainer.lightning_module, phase))

    def evaluation_ends(self) -> None:
        """`on_validation_end`, `on_test_end`."""
        if self.session is None or self.trainer.sanity_checking:
            return
        if self._fitting:
            self._resume()
        elif self.session.phase == "fitted":
            self.session.tracker.summarise()
        else:
            self.session.tracker.end("finished")

    def _resume(self) -> None:
        if self._pause is not None and self.session is not None:
            what, since = self._pause
            self.session.tracker.pause(what, time.perf_counter() - since)
        self._pause = None

    @property
    def _fitting(self) -> bool:
        return bool(self.trainer.state.fn == "fit")

    # -- what the module logs ------------------------------------------------------------------------------------

    def _logged(self, metrics: dict[str, Any]) -> None:
        if self.session is None or self.trainer.sanity_checking:
            return
        on_batch = self.trainer._logger_connector._first_loop_iter is not None
        split: Split = "val" if self.trainer.validating else "test" if self.trainer.testing else "train"
        tracker = self.session.tracker
        if split != "train":
            if on_batch:
                self._eval_batch.update(metrics)
            else:
                self._evaluated(metrics, split)
            return
        if self._row_missing and self.trainer.should_stop:
            # Somebody stopped the training after this step was found to make no row.
            self._row_missing = self._logged_by_connector = False
            tracker.last_row()
            if not on_batch:
                self._complete_row()
        if on_batch:
            self._logged_by_connector = True
            new = {name: value for name, value in metrics.items() if name not in self._saved}
            if new:
                tracker.report(new, BATCH, *self._position)
        elif metrics:
            tracker.report(metrics, Where("epoch"), *self._position)
            tracker.seal()

    def _complete_row(self) -> None:
        """The first and the last row come where Lightning itself may not log: what was logged is still there."""
        self._row_due = False
        if self.session is None:
            return
        if not self._logged_by_connector:
            results = self.trainer._results
            for _, item in results.valid_items():
                value = results._get_cache(item, True)
                if item.meta.logger and value is not None:
                    name = results._forked_name(item, True)[1]
                    self._saved.add(name)
                    self.session.tracker.report({name: value}, BATCH, *self._position)
        self.session.tracker.seal()

    def _evaluated(self, metrics: dict[str, Any], split: Split) -> None:
        assert self.session is not None
        # A value logged per batch only has no epoch value of Lightning's: its last one stands for the evaluation.
        whole = {_stem(name) for name in metrics}
        last = {name: value for name, value in self._eval_batch.items() if _stem(name) not in whole}
        self._eval_batch.clear()
        by_set: dict[str, dict[str, Any]] = {}
        for name, value in {**last, **metrics}.items():
            match = _SET.match(name)
            dataset = _set_name(self.trainer, split, int(match["index"])) if match else ""
            by_set.setdefault(dataset, {})[match["name"] if match else name] = value
        for dataset, values in by_set.items():
            self.session.tracker.report(values, Where("epoch", split, dataset), *self._position)
        self.session.tracker.seal()

    @property
    def _position(self) -> tuple[int, float | None]:
        """Optimizer steps and passes through the data, of the weights that what is logged now belongs to."""
        last: tuple[int, float | None] | None = self._at or self.kit._lightning_position
        trainer = self.trainer
        step = trainer.global_step if self.loaded_step is None else self.loaded_step
        if last is not None and (self._fitting or step == last[0]):
            return last
        if last is not None and step == 0 and self.loaded_step is None:
            # Lightning's counter knows nothing of it: raw optimizers, or another trainer with the same TrackKit.
            return last
        epoch = trainer.current_epoch if self.loaded_step is None and step else None
        return int(step), None if epoch is None else float(epoch)


def describe(trainer: Any, module: Any, phase: str) -> Start:
    """What Lightning knows of a run that begins."""
    from trackkit.run_config import data_config, flatten, model_config, optimizer_config
    from trackkit.session import Start

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
        match = _SET.match(str(monitor))
        if match:
            # The set is a segment of the key, and the name loses it: the key itself is what can be followed.
            where = Where("epoch", "val", _set_name(trainer, "val", int(match["index"])))
            monitor = where.prefix + canonical(match["name"], where)
        return str(monitor), str(callback.mode)
    return None, None


def _overrides(module: Any, name: str) -> bool:
    """Whether the user's module has a method of its own in place of Lightning's."""
    return not getattr(type(module), name).__module__.startswith(("lightning.pytorch.", "pytorch_lightning."))


def _set_name(trainer: Any, split: Split, index: int) -> str:
    """One of several evaluation sets: by the name that its loader was given, else by its number."""
    loaders = trainer.val_dataloaders if split == "val" else trainer.test_dataloaders
    if isinstance(loaders, dict) and index < len(loaders):
        return re.sub(r"[^A-Za-z0-9_]+", "_", str(list(loaders)[index]))
    return f"dataloader_{index}"


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


def _stem(name: str) -> str:
    match = _SET.match(name)
    bare, index = (match["name"], match["index"]) if match else (name, "")
    return f"{re.sub(r'_(?:step|epoch)$', '', bare)}/{index}"
