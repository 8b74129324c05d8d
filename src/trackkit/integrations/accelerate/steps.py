"""Counts the steps of a training of Accelerate, and makes their rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trackkit.engine.records import Gradients, Moment
from trackkit.integrations.accelerate import _compat
from trackkit.integrations.loop.steps import Optimizers
from trackkit.integrations.patches import Patch
from trackkit.schema.keys import BATCH

if TYPE_CHECKING:
    import torch

    from trackkit.engine.tracker import Tracker
    from trackkit.integrations.accelerate.data import Source


class Steps:
    """Follows the optimizers of one run. Its steps are those of the optimizer that was prepared first.

    With several, a step is complete once all have stepped, before more data are trained on, or when its row is made.

    Args:
        tracker: of the run.
        accelerator: with what it has prepared.
        first: steps taken before.
        total_steps, every: as in `trackkit.accelerate`.
        guard: calls a function (name, function, arguments) whose errors the training must not see.
        failed: called with the hook and the exception if a hook fails.

    Attributes:
        step: optimizer steps taken.
        epoch: passes over the data at that step, fractional; None if unknown.
        source: of the training's data; None as long as it is unknown.
    """

    def __init__(
        self,
        tracker: Tracker,
        accelerator: Any,
        first: int,
        total_steps: int | None,
        every: int,
        guard: Callable[..., Any],
        failed: Callable[[str, Exception], None],
    ) -> None:
        self.step = first
        self.epoch: float | None = None
        self.source: Source | None = None
        self._tracker, self._accelerator = tracker, accelerator
        self._first = self._row_step = first
        self._total, self._every = total_steps, every
        self._guard, self._failed = guard, failed
        self._losses: list[torch.Tensor] = []
        # As the clipping or the engine has returned it, for the last step.
        self._norm: torch.Tensor | float | None = None
        self._begun = self._measured = False
        # What was read up to a step that is not complete, and where that was.
        self._read: tuple[int | None, int, float | None] | None = None
        self._at: tuple[int, int] | None = None
        self._engine = _compat.is_deepspeed(accelerator)
        self._optimizers = Optimizers([], None, None)
        self._patches: list[Patch] = []

    def moment(self) -> Moment:
        """Returns where the training stands."""
        self._complete()
        return Moment(self.step, self.epoch, self._total)

    def logs(self) -> None:
        """Makes the row of the step just taken, which the script logs, or after which it ends."""
        self._complete()
        if self.step != self._row_step:
            self._row()

    def before_backward(self, loss: Any) -> None:
        """Counts a micro-batch; its loss is undivided by accumulation."""
        if not self._begun:
            self._begin()
        if self.source is None or self.source.position != self._at:
            self._complete()
        self._norm = None
        if hasattr(loss, "detach") and loss.numel() == 1:
            self._losses.append(loss.detach().clone().reshape(()))
        if self._engine and self._accelerator.sync_gradients:
            # DeepSpeed steps within `backward`, its scheduler too.
            for each in _compat.optimizers(self._accelerator)[:1]:
                self._tracker.gradients(Gradients(each, clipped=True))
        if self.source is not None and self.source.ends:
            # The step may be the training's last, which makes a row.
            self._optimizers.arm()

    def after_backward(self) -> None:
        """Counts the step that DeepSpeed has taken."""
        if self._engine and self._accelerator.sync_gradients:
            if self._due(self.step + 1):
                self._norm = _compat.engine_norm(self._accelerator)
            self._note_position()
            self._stepped(1)

    def clipped(self, norm: Any) -> None:
        """Keeps the norm of the gradients that have been clipped."""
        # That of sharded gradients may be spread over the ranks: to read it would be a collective.
        if hasattr(norm, "detach") and not hasattr(norm, "full_tensor"):
            self._norm = norm.detach()

    def free(self) -> None:
        """Lets go of the optimizers and the data; those of the next `backward` are followed then."""
        self._complete()
        self.close()
        self._optimizers, self._patches = Optimizers([], None, None), []
        self._begun, self.source = False, None

    def close(self) -> None:
        """Removes all hooks."""
        self._optimizers.close()
        for patch in self._patches:
            patch.remove()

    def _begin(self) -> None:
        """Follows the optimizers that have been prepared."""
        self._begun = True
        if self._engine:
            return
        wrapped = _compat.optimizers(self._accelerator)
        module = next(iter(_compat.models(self._accelerator)), None)
        self._optimizers = Optimizers(wrapped, module, self._accelerator.scaler)
        self._optimizers.follow(self._gradients, self._tracker.skipped, self._failed)
        self._patches = [Patch(each, "step", self._optimizer_step) for each in wrapped]

    def _optimizer_step(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            self._guard("optimizer.step", self._after_step)
            return result

        return step

    def _after_step(self) -> None:
        """Notes that an optimizer has taken its step, or was asked to while gradients accumulate."""
        counts = self._optimizers.steps
        if counts[0] and self._read is None:
            self._note_position()
        if all(counts):
            self._complete()

    def _complete(self) -> None:
        """Counts the step that is not complete, if there is one."""
        if self._read is None:
            return
        taken = self._optimizers.steps[0]
        self._optimizers.collect()
        self._stepped(taken)
        self._measured = False
        self._optimizers.disarm()
        self._optimizers.arm(norm=self._due(self.step + 1))

    def _note_position(self) -> None:
        # As it is now: the script may read on before the step is complete, or logged.
        self._read = (None, 0, None) if self.source is None else self.source.collect()
        self.epoch = None if self.source is None else self.source.epoch
        self._at = None if self.source is None else self.source.position

    def _stepped(self, taken: int) -> None:
        """Counts `taken` steps, and makes their row if one is due."""
        losses, self._losses = self._losses, []
        for loss in losses[:-1]:
            self._tracker.batch(loss)
        (samples, tokens, data_s), self._read = self._read or (None, 0, None), None
        self._tracker.batch(losses[-1] if losses else None, samples, tokens, data_s, taken)
        self.step += taken
        if self._due(self.step):
            self._row()

    def _due(self, step: int) -> bool:
        return step % self._every == 0 or step in (self._first + 1, self._total)

    def _row(self) -> None:
        self._tracker.row(self.moment())
        self._row_step = self.step
        # Where nothing was measured: DeepSpeed, or a step that was not expected to make a row. FSDP1's gradients do not
        # show that they are sharded, so what was measured is only this rank's part.
        if self._norm is not None and (not self._measured or _compat.is_fsdp(self._accelerator)):
            self._tracker.report({"batch/grad_norm": self._norm}, BATCH, self.step, self.epoch, framework=True)

    def _gradients(self, gradients: Gradients) -> None:
        self._measured = not gradients.clipped
        self._tracker.gradients(gradients)
