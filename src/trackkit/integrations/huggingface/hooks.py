"""The hooks of a transformers callback."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from trackkit.errors import TrackKitError
from trackkit.integrations.guard import guarded
from trackkit.notices import ensure_heard, logger

if TYPE_CHECKING:
    from trackkit.integrations.huggingface.adapter import HuggingFaceAdapter

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

    def _new_huggingface_adapter(self) -> HuggingFaceAdapter:
        # Only now: `import trackkit` is to be quick.
        from trackkit.integrations.huggingface.adapter import HuggingFaceAdapter

        return HuggingFaceAdapter(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_first_step = state.global_step + 1
        self._huggingface_begin(args, state, kwargs)

    @guarded
    def _huggingface_begin(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        if self._huggingface_records(args):
            # A fresh one: a training that was cut off is ended from where its own adapter left it.
            earlier, self._huggingface = self._huggingface, self._new_huggingface_adapter()
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
                self._huggingface = self._new_huggingface_adapter()
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
                self._huggingface = self._new_huggingface_adapter()
            self._huggingface.predicted(args, state, metrics, kwargs)

    @guarded
    def _huggingface_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._huggingface is not None:
            self._huggingface.fit_ends(state)
