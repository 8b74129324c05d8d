"""Hugging Face Trainer."""

from __future__ import annotations

import math
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackkit.errors import TrackKitError
from trackkit.integrations.guard import guarded
from trackkit.notices import ensure_heard, logger
from trackkit.records import BATCH, Gradients, Moment, Split, Status, Where

if TYPE_CHECKING:
    from trackkit.session import Session, Start

# What Hugging Face measures itself, and what it adds to its logs without being a metric.
_FRAMEWORK = {"loss": "batch/loss", "grad_norm": "batch/grad_norm", "learning_rate": "batch/lr"}
_NOT_METRICS = frozenset({"epoch", "step", "num_input_tokens_seen", "total_flos"})
_SPEED = ("_runtime", "_samples_per_second", "_steps_per_second", "_tokens_per_second", "_model_preparation_time")
_SPLITS: dict[str, Split] = {"eval": "val", "test": "test", "predict": "predict", "train": "train"}

# The TrackKit that records a trainer, by the identity of the trainer's arguments.
_recorders: dict[int, tuple[weakref.ref[Any], weakref.ref[Any]]] = {}


def _recorder(args: Any) -> Any:
    known, kit = _recorders.get(id(args), (None, None))
    return kit() if known is not None and kit is not None and known() is args else None


class HuggingFaceHooks:
    """The hooks of a transformers callback. They do nothing but call the adapter of the trainer at work.

    Hugging Face computes loss, gradient norm and learning rate only where it logs. So that the first and the last
    step have them, it is asked to log there, through `control.should_log`, which is what that flag is for. That is
    decided from the trainer's state alone, outside of anything that can fail or be switched off: logging gathers the
    loss over the ranks, and all ranks must agree.
    """

    _huggingface: HuggingFaceAdapter | None = None
    _huggingface_first_step = 1

    @guarded
    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Of two in one trainer, by `report_to` and in `callbacks`, the user's own comes last and records."""
        if _recorder(args) not in (None, self):
            ensure_heard()
            logger.warning("this trainer has two TrackKits, by 'report_to' and in 'callbacks': the latter records")
        for gone in [key for key, (known, _) in _recorders.items() if known() is None]:
            del _recorders[gone]
        _recorders[id(args)] = weakref.ref(args), weakref.ref(self)

    def _huggingface_records(self, args: Any) -> bool:
        return not self.disabled and _recorder(args) in (None, self)  # type: ignore[attr-defined]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_first_step = state.global_step + 1
        self._huggingface_begin(args, state, kwargs)

    @guarded
    def _huggingface_begin(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        if self._huggingface_records(args):
            # A fresh one: a training that was cut off is ended from where its own adapter left it.
            earlier, self._huggingface = self._huggingface, HuggingFaceAdapter(self)
            self._huggingface.session = earlier.session if earlier is not None else None
            self._huggingface.fit_begins(args, state, kwargs)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        try:
            if self._huggingface is not None:
                self._huggingface.step_begins()
        except Exception as error:
            self.hook_failed("on_step_begin", error)  # type: ignore[attr-defined]

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step + 1
        if step % (state.logging_steps or 1) == 0 or step == self._huggingface_first_step or step >= state.max_steps:
            self._huggingface_before(kwargs["optimizer"])

    @guarded
    def _huggingface_before(self, optimizer: Any) -> None:
        if self._huggingface is not None:
            self._huggingface.before_step(optimizer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step
        if step == self._huggingface_first_step or step >= state.max_steps:
            control.should_log = True
        adapter = self._huggingface
        try:
            if adapter is not None and not adapter.between_rows(control.should_log):
                adapter.step_ends(state, control, kwargs["optimizer"])
        except TrackKitError:
            raise
        except Exception as error:
            self.hook_failed("on_step_end", error)  # type: ignore[attr-defined]

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # An evaluation at the epoch's end comes after this event, and early stopping then leaves no other to log in.
        may_stop = args.eval_strategy == "epoch" and args.metric_for_best_model is not None
        if control.should_training_stop or may_stop:
            control.should_log = True

    @guarded
    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and self._huggingface_records(args):
            if self._huggingface is None:
                self._huggingface = HuggingFaceAdapter(self)
            self._huggingface.logged(args, state, logs, kwargs)
            if control.should_save and self._huggingface.session is not None:
                # A training that goes on from the checkpoint that follows won't make these rows again.
                self._huggingface.session.tracker.flush()

    @guarded
    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._huggingface is not None:
            self._huggingface.paused("evaluation")

    @guarded
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._huggingface is not None:
            self._huggingface.paused("checkpoint")

    @guarded
    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        if metrics and self._huggingface_records(args):
            if self._huggingface is None:
                self._huggingface = HuggingFaceAdapter(self)
            self._huggingface.predicted(args, state, metrics, kwargs)

    @guarded
    def _huggingface_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._huggingface is not None:
            self._huggingface.fit_ends(state)


class HuggingFaceAdapter:
    """Tells the tracker what one Hugging Face trainer does."""

    def __init__(self, kit: Any) -> None:
        self.kit = kit
        self.session: Session | None = None
        self._mark = time.perf_counter()
        self._data_s = 0.0
        self._samples = self._tokens = self._seen_step = 0
        self._sizes = _Sizes()
        self._state: Any = None
        self._scaled = False

    # -- training ------------------------------------------------------------------------------------------------

    def fit_begins(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        """`on_train_begin`: after a resumed state is loaded; again after an out-of-memory retry, in the same run."""
        self._sizes = _Sizes.of(args, state, kwargs.get("train_dataloader"))
        self._samples = self._sizes.samples(state)
        self._tokens = int(state.num_input_tokens_seen)
        self._state, self._seen_step, self._data_s = state, state.global_step, 0.0
        self._scaled = getattr(kwargs.get("optimizer"), "scaler", None) is not None
        start = describe(args, state, kwargs, "fit", self._samples, self._tokens)
        broken_off = self.session
        if args.auto_find_batch_size and broken_off is not None and broken_off.phase == "fitting":
            start = replace(start, again=True, checkpoint=broken_off.checkpoint_fields())
        elif state.global_step and "trackkit" in state.stateful_callbacks:
            start = replace(start, checkpoint=state.stateful_callbacks["trackkit"]["attributes"])
        self.session = self.kit.begin(replace(start, step=state.global_step))
        self.session.tracker.position = self._moment
        # Plain data under a callback's name is saved with every checkpoint, and is there again on resume.
        state.stateful_callbacks["trackkit"] = {"args": {}, "attributes": self.session.checkpoint_fields()}
        self._mark = time.perf_counter()

    def step_begins(self) -> None:
        """`on_step_begin`: this update's batches have been fetched."""
        self._data_s += time.perf_counter() - self._mark

    def before_step(self, optimizer: Any) -> None:
        """`on_pre_optimizer_step`, where a row is expected: gradients are clipped already; the rate is this step's."""
        if self.session is not None:
            self.session.tracker.gradients(Gradients(optimizer, clipped=True))

    def between_rows(self, should_log: bool) -> bool:
        """`on_step_end` of most steps: all counters are the trainer's own, and are read when a row is made."""
        if should_log or self._scaled:
            return False
        self._mark = time.perf_counter()
        return True

    def step_ends(self, state: Any, control: Any, optimizer: Any) -> None:
        """`on_step_end`: the step is counted; the log that may follow reports into the row opened here."""
        if self.session is None or self._state is None:
            return
        if self._scaled and optimizer.step_was_skipped:
            self.session.tracker.skipped(True)
        if control.should_log:
            self.session.tracker.row(self._moment())
        self._mark = time.perf_counter()

    def _moment(self) -> Moment:
        """Where the training stands; what has passed since the last row goes to the tracker."""
        assert self.session is not None
        state = self._state
        samples, tokens = self._sizes.samples(state), int(state.num_input_tokens_seen)
        steps = state.global_step - self._seen_step
        if steps:
            self.session.tracker.batch(None, samples - self._samples, tokens - self._tokens, self._data_s, steps)
            self._samples, self._tokens, self._seen_step, self._data_s = samples, tokens, state.global_step, 0.0
        return Moment(state.global_step, state.epoch, state.max_steps if state.max_steps > 0 else None)

    def fit_ends(self, state: Any) -> None:
        """`on_train_end`."""
        if self.session is None:
            return
        status: Status = "finished" if state.global_step >= state.max_steps else "stopped"
        self.session.end(status)

    def paused(self, what: str) -> None:
        """The time since the last event was not training."""
        now = time.perf_counter()
        if self.session is not None:
            self.session.tracker.pause(what, now - self._mark)
        self._mark = now

    # -- what is logged ------------------------------------------------------------------------------------------

    def logged(self, args: Any, state: Any, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """`on_log`: training, an evaluation, the last word of a training, or the user's own."""
        prefix = _evaluation_prefix(logs)
        if prefix is not None:
            self.paused("evaluation")
            self._evaluated(args, state, prefix, logs, kwargs)
        elif "total_flos" in logs and "train_runtime" in logs:
            self._trained(logs)
        else:
            self._stepped(args, state, logs, kwargs)

    def predicted(self, args: Any, state: Any, metrics: dict[str, Any], kwargs: dict[str, Any]) -> None:
        """`on_predict`: with labels its metrics are a test's."""
        prefix = _evaluation_prefix(metrics) or "test"
        self._evaluated(args, state, prefix, metrics, kwargs)

    def _stepped(self, args: Any, state: Any, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        session = self._session_for(args, state, kwargs, "fit")
        own = {key: logs[name] for name, key in _FRAMEWORK.items() if logs.get(name) is not None}
        others = {
            name: value
            for name, value in logs.items()
            if name not in _FRAMEWORK and name not in _NOT_METRICS and not _is_speed(name, "train")
        }
        tracker = session.tracker
        if "batch/lr" in own and session.phase == "fitting":
            # The trainer's own log of a step that nobody announced in `on_step_end`, such as at an epoch's end.
            tracker.last_row()
        if own:
            tracker.report(own, BATCH, state.global_step, state.epoch, framework=True)
        if others:
            tracker.report(others, BATCH, state.global_step, state.epoch)
        if own:
            tracker.seal()
            self._mark = time.perf_counter()

    def _evaluated(self, args: Any, state: Any, prefix: str, logs: dict[str, Any], kwargs: dict[str, Any]) -> None:
        metrics = {
            name: value for name, value in logs.items() if name not in _NOT_METRICS and not _is_speed(name, prefix)
        }
        if not any(value is not None for value in metrics.values()):
            return
        session = self._session_for(args, state, kwargs, "validate")
        word, _, dataset = prefix.partition("_")
        split = _SPLITS.get(word)
        where = Where("epoch", split, dataset) if split else Where("epoch", "val", prefix)
        if dataset or not split:
            metrics = {name.removeprefix(f"{prefix}_"): value for name, value in metrics.items()}
        session.tracker.report(metrics, where, state.global_step, state.epoch)
        session.tracker.seal()
        if session.phase == "fitted":
            session.tracker.summarise()
        elif session.phase == "evaluating":
            session.tracker.end("finished")

    def _trained(self, logs: dict[str, Any]) -> None:
        if self.session is not None:
            columns = {"train_loss": "final/train/loss", "total_flos": "final/total_flos"}
            more = {key: float(logs[name]) for name, key in columns.items() if name in logs}
            self.session.tracker.note(more)

    def _session_for(self, args: Any, state: Any, kwargs: dict[str, Any], phase: str) -> Session:
        """The open run, or, where nothing trains, one of an evaluation's own."""
        from trackkit.session import open_sessions

        if self.session is None or self.session not in open_sessions():
            phase = "validate" if phase == "fit" else phase
            self.session = self.kit.begin(describe(args, state, kwargs, phase, 0, 0))
        return self.session


class _Sizes:
    """Samples seen, from the trainer's own counters: its callbacks see no batch."""

    def __init__(self, per_update: int = 0, per_epoch: int | None = None, samples: int | None = None) -> None:
        self._per_update = per_update
        self._updates_per_epoch = per_epoch
        self._samples_per_epoch = samples

    @classmethod
    def of(cls, args: Any, state: Any, loader: Any) -> _Sizes:
        per_update = state.train_batch_size or args.train_batch_size
        per_update = int(per_update) * args.gradient_accumulation_steps * args.world_size
        try:
            batches = len(loader)
            dataset = len(loader.dataset)
        except (TypeError, AttributeError):
            return cls(per_update)
        updates = math.ceil(batches / args.gradient_accumulation_steps)
        per_batch = per_update // args.gradient_accumulation_steps
        return cls(per_update, updates, min(batches * per_batch, dataset if not args.dataloader_drop_last else 1 << 62))

    def samples(self, state: Any) -> int:
        """Over all ranks, up to `state.global_step`; the last batch of an epoch may be a short one."""
        if self._updates_per_epoch is None or self._samples_per_epoch is None:
            return int(state.global_step) * self._per_update
        epochs, updates = divmod(int(state.global_step), self._updates_per_epoch)
        return epochs * self._samples_per_epoch + min(updates * self._per_update, self._samples_per_epoch)


def describe(args: Any, state: Any, kwargs: dict[str, Any], phase: str, samples: int, tokens: int) -> Start:
    """What Hugging Face knows of a run that begins."""
    from trackkit.run_config import data_config, flatten, model_config, optimizer_config
    from trackkit.session import Start

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


def _evaluation_prefix(logs: dict[str, Any]) -> str | None:
    """The prefix of an evaluation's metrics: that of its `*_runtime` and `*_samples_per_second`."""
    if "total_flos" in logs:
        return None
    for name in logs:
        prefix = name.removesuffix("_runtime")
        if prefix != name and f"{prefix}_samples_per_second" in logs:
            return prefix
    return None


def _is_speed(name: str, prefix: str) -> bool:
    return any(name == prefix + suffix for suffix in _SPEED)
