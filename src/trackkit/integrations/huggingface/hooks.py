"""The hooks of a transformers callback."""

from __future__ import annotations

import functools
from typing import Any, cast

from trackkit.integrations.guard import Kit, guarded
from trackkit.integrations.huggingface.fit import NullFit
from trackkit.integrations.huggingface.logged import read, read_prediction
from trackkit.integrations.huggingface.trainers import Trainers


class HuggingFaceHooks:
    """The hooks of a transformers callback. Each calls the adapter of the calling trainer, or its training.

    Rows follow the trainer's own logging, which TrackKit does not change: Hugging Face computes loss and gradient norm
    only where it logs. The first and the last step also make a row, with what TrackKit measures itself.
    """

    TRANSIENT = frozenset({"_huggingface_fit", "_huggingface_trainers"})
    """Attributes that are not pickled."""

    _huggingface_fit = NullFit()
    """The training in progress, so that a step does not search for it."""

    _huggingface_first_step = 1

    @functools.cached_property
    def _huggingface_trainers(self) -> Trainers:
        return Trainers(cast("Kit", self), HuggingFaceHooks)

    @guarded
    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        cast("Kit", self).prepare()

    @guarded
    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_first_step = state.global_step + 1
        self._huggingface_fit = NullFit()
        self._huggingface_fit = self._huggingface_trainers.adapter().fit_begins(args, state, kwargs)

    @guarded
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_fit.step_begins()

    @guarded
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step + 1
        fit = self._huggingface_fit
        if step % (state.logging_steps or 1) == 0 or self._huggingface_first_or_last(step, state) or fit.may_end(step):
            fit.before_step(kwargs["optimizer"])

    @guarded
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        row = control.should_log or self._huggingface_first_or_last(state.global_step, state)
        self._huggingface_fit.step_ends(row, kwargs["optimizer"])

    @guarded
    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_trainers.adapter().epoch_ends(control)

    @guarded
    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs:
            adapter = self._huggingface_trainers.adapter()
            adapter.logged(args, state, read(logs), kwargs)
            if control.should_save:
                adapter.saving()

    @guarded
    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_trainers.adapter().paused("evaluation")

    @guarded
    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._huggingface_trainers.adapter().paused("checkpoint")

    @guarded
    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any], **kwargs: Any) -> None:
        if metrics:
            self._huggingface_trainers.adapter().evaluated(args, state, read_prediction(metrics), kwargs)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Ends the training for Hugging Face, which gives three arguments; passes other frameworks' calls on."""
        if len(args) == 3:
            self._huggingface_train_ends()
        else:
            super().on_train_end(*args, **kwargs)  # type: ignore[misc]

    @guarded
    def _huggingface_train_ends(self) -> None:
        self._huggingface_trainers.adapter().fit_ends()
        self._huggingface_fit = NullFit()

    def _huggingface_first_or_last(self, step: int, state: Any) -> bool:
        return step == self._huggingface_first_step or bool(step >= state.max_steps)
