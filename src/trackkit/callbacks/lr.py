"""Learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trackkit.engine.callback import Callback, Values
from trackkit.schema.keys import sanitize

if TYPE_CHECKING:
    import torch

    from trackkit.engine.records import Gradients, Moment
    from trackkit.engine.window import Window


class LearningRate(Callback):
    """Learning rate of the step just taken: read before the optimizer steps, so before any scheduler moves it.

    | key | unit | what |
    |---|---|---|
    | `batch/lr` | | of the optimizer that stepped last, its first parameter group |
    | `batch/lr/<group>` | | per parameter group, where groups are named or differ |
    | `batch/lr/<optimizer>` | | per optimizer, where there are several |
    """

    def __init__(self) -> None:
        self._taken: dict[str, float | torch.Tensor] = {}
        self._differ: set[str] = set()

    def gradients(self, gradients: Gradients) -> None:
        groups = gradients.optimizer.param_groups
        rates: Sequence[float | torch.Tensor] | None = gradients.rates
        if rates is None:
            rates = [_own(group["lr"]) for group in groups]
        if len(rates) != len(groups):
            return
        self._taken["batch/lr"] = rates[0]
        base = f"batch/lr/{gradients.name}" if gradients.name else "batch/lr"
        if gradients.name:
            self._taken[base] = rates[0]
        if len(groups) == 1 and "name" not in groups[0]:
            return
        named = any("name" in group for group in groups)
        if named or base in self._differ or _differ(rates):
            self._differ.add(base)
            names = [sanitize(str(group.get("name", f"group_{index}"))) for index, group in enumerate(groups)]
            for index, (name, rate) in enumerate(zip(names, rates, strict=True)):
                self._taken[f"{base}/{name if names.count(name) == 1 else f'{name}_{index}'}"] = rate

    def forget(self) -> None:
        self._taken = {}

    def row(self, moment: Moment, window: Window) -> Values:
        taken, self._taken = self._taken, {}
        return taken


def _differ(rates: Sequence[float | torch.Tensor]) -> bool:
    """Whether groups have rates of their own; comparing tensors would read the device, so they count as different."""
    return any(not isinstance(rate, (int, float)) or rate != rates[0] for rate in rates[1:])


def _own(rate: float | torch.Tensor) -> float | torch.Tensor:
    """A tensor rate (capturable optimizers) changes in place: keep a copy."""
    return rate if isinstance(rate, (int, float)) else rate.detach().clone()
