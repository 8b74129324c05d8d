"""The hooks of a transformers callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.errors import TrackKitError
from trackkit.integrations.guard import guarded

if TYPE_CHECKING:
    from trackkit.integrations.huggingface.adapter import HuggingFaceAdapter
    from trackkit.integrations.huggingface.fit import Fit
    from trackkit.integrations.huggingface.trainers import Trainers


class HuggingFaceHooks:
    """The hooks of a transformers callback. They do nothing but call the adapter of the trainer at work.

    Hugging Face computes loss, gradient norm and learning rate only where it logs. So that the first and the last
    step have them, it is asked to log there, through `control.should_log`, which is what that flag is for. That is
    decided from the trainer's state alone, outside of anything that can fail or be switched off: logging gathers the
    loss over the ranks, and all ranks must agree.
    """

    TRANSIENT = frozenset({"_trainers", "_huggingface"})
    """Attributes that are not pickled."""

    _trainers: Trainers | None = None
    _huggingface: Fit | None = None
    _huggingface_first_step = 1

    def _huggingface_adapter(self) -> HuggingFaceAdapter | None:
        """Of the trainer that calls; None where nothing is recorded of it, or by another TrackKit."""
        if self._trainers is None:
            # Only now: `import trackkit` is to be quick.
            from trackkit.integrations.huggingface.trainers import Trainers

            self._trainers = Trainers(self)
        return self._trainers.adapter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_first_step = state.global_step + 1
        self._huggingface_begin(args, state, kwargs)

    @guarded
    def _huggingface_begin(self, args: Any, state: Any, kwargs: dict[str, Any]) -> None:
        self._huggingface = None
        adapter = self._huggingface_adapter()
        if adapter is not None:
            adapter.unrecorded = True
            self._huggingface = adapter.fit_begins(args, state, kwargs)
            adapter.unrecorded = False

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
        fit = self._huggingface
        try:
            if fit is not None and not fit.between_rows(control.should_log):
                fit.step_ends(control.should_log, kwargs["optimizer"])
        except TrackKitError:
            raise
        except Exception as error:
            self.hook_failed("on_step_end", error)  # type: ignore[attr-defined]

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # Early stopping decides in the evaluation that follows, and leaves no other event to log in.
        may_stop = control.should_evaluate and args.metric_for_best_model is not None
        if control.should_training_stop or may_stop:
            control.should_log = True
        self._huggingface_epoch_ends(state, control)

    @guarded
    def _huggingface_epoch_ends(self, state: Any, control: Any) -> None:
        adapter = self._huggingface_adapter()
        if adapter is not None:
            adapter.epoch_ends(state, control)

    @guarded
    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        adapter = self._huggingface_adapter() if logs else None
        if logs and adapter is not None:
            adapter.logged(args, state, logs, kwargs)
            if control.should_save:
                adapter.saving()

    @guarded
    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        adapter = self._huggingface_adapter()
        if adapter is not None:
            adapter.paused("evaluation")

    @guarded
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        adapter = self._huggingface_adapter()
        if adapter is not None:
            adapter.paused("checkpoint")

    @guarded
    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        adapter = self._huggingface_adapter() if metrics else None
        if adapter is not None:
            adapter.predicted(args, state, metrics, kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Hugging Face gives three arguments; other frameworks' hooks of this name are theirs."""
        if len(args) == 3:
            self._huggingface_train_ends()
        else:
            super().on_train_end(*args, **kwargs)  # type: ignore[misc]

    @guarded
    def _huggingface_train_ends(self) -> None:
        adapter = self._huggingface_adapter()
        if adapter is not None:
            adapter.fit_ends()
        self._huggingface = None


def register_report_to(module: Any, kit: type) -> None:
    """Makes `report_to="trackkit"` known to transformers' `integration_utils`."""
    module.INTEGRATION_TO_CALLBACK["trackkit"] = kit
