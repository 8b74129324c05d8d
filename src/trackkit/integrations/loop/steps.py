"""The optimizers of a loop, and which of their steps make rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trackkit.errors import ConfigError
from trackkit.integrations.loop.norms import Follower, Scaling
from trackkit.integrations.optimizers import bare, name_of
from trackkit.schema.keys import sanitize

if TYPE_CHECKING:
    import torch

    from trackkit.engine.records import Gradients


class Optimizers:
    """Follows the optimizers of a training, between `follow` and `close`.

    Args:
        given: a torch optimizer, or several in a list or in a dict by name; wrappers are looked through.
        module: the model; None if unknown.
        scaler: the gradient scaler; None if unknown.

    Attributes:
        bare: the torch optimizers.

    Raises:
        ConfigError: one is not torch's.
    """

    def __init__(self, given: Any, module: torch.nn.Module | None, scaler: Any) -> None:
        if isinstance(given, Mapping):
            self.bare = [bare(each) for each in given.values()]
            self._names = [sanitize(str(name)) for name in given]
        else:
            self.bare = [bare(each) for each in (given if isinstance(given, (list, tuple)) else [given])]
            self._names = [name_of(each, self.bare) for each in self.bare]
        wrong = [type(each).__name__ for each in self.bare if not hasattr(each, "register_step_post_hook")]
        if wrong:
            raise ConfigError(
                f"trackkit.loop got an optimizer of type {wrong[0]}. Give the torch.optim.Optimizer that takes the "
                "steps, or several in a list or in a dict by name."
            )
        self._module, self._scaler = module, scaler
        self._followers: list[Follower] = []
        self._scaling = Scaling(None, lambda _: None)
        self._armed = False

    def follow(
        self,
        report: Callable[[Gradients], None],
        skipped: Callable[[torch.Tensor | bool], None],
        failed: Callable[[str, Exception], None],
    ) -> None:
        """Puts hooks on the optimizers, and arms them for the first step.

        Args:
            report: called with the gradients of a step that may make a row.
            skipped: called for a step that the gradient scaler has skipped: True, or the device's flag.
            failed: called with a hook and the exception that it has raised.
        """

        def skips(optimizer: Any) -> None:
            skipped(True)
            for each in self._followers:
                if each.optimizer is optimizer:
                    each.skip()

        self._scaling = Scaling(self._scaler, skips)
        self._followers = [
            Follower(optimizer, name, self._module, self._scaling, report, skipped, failed)
            for name, optimizer in zip(self._names, self.bare, strict=True)
        ]
        self.arm()

    def scaled_by(self, scaler: Any) -> None:
        """Follows the gradient scaler from now on, if none is followed."""
        self._scaling.follow(scaler)

    @property
    def steps(self) -> list[int]:
        """Steps of each optimizer that have not been collected yet."""
        return [each.steps for each in self._followers]

    def collect(self) -> int:
        """Returns the steps taken since the last call: of several optimizers, those of the one that took most."""
        if len(self._followers) == 1:
            follower = self._followers[0]
            steps, follower.steps = follower.steps, 0
            return steps
        steps = max(self.steps, default=0)
        for each in self._followers:
            each.steps = 0
        return steps

    def arm(self, norm: bool = True) -> None:
        """Reports the steps from now on; with `norm`, measures their gradient norms."""
        self._armed = True
        for each in self._followers:
            each.arm(norm)

    def disarm(self) -> None:
        """Reports no more steps."""
        if self._armed:
            self._armed = False
            for each in self._followers:
                each.disarm()

    def close(self) -> None:
        """Removes all hooks."""
        for each in self._followers:
            each.close()
        self._scaling.close()


class Rows:
    """Decides which steps make rows: the first, every Nth, and the last.

    Args:
        every: steps per row.
        total: planned steps; None if unknown.

    Attributes:
        next: the next step that makes one.
        made: the last step that has made one; -1 before.
    """

    def __init__(self, every: int, total: int | None) -> None:
        self._every, self._total = every, total
        self.next, self.made = 1, -1
        # The most steps that one call of `track.step` has counted.
        self._stride = 1

    def counted(self, step: int, steps: int) -> bool:
        """Returns whether a step makes a row, after `steps` steps since the last one asked about."""
        if steps > self._stride:
            self._stride = steps
        if step < self.next:
            return False
        self.made, self.next = step, (step // self._every + 1) * self._every
        if self._total is not None and step < self._total < self.next:
            self.next = self._total
        return True

    @property
    def quiet_before(self) -> int:
        """The first step after which a row may follow, if it makes none itself."""
        return self.next - self._stride
