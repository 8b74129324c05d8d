"""Measures the learning rate."""

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
    """Measures the learning rate of a step. Reads it before the optimizer steps, and so before a scheduler changes it.

    | key | unit | what |
    |---|---|---|
    | `batch/lr` | | of the optimizer that stepped last, its first parameter group |
    | `batch/lr/<group>` | | per parameter group, if groups are named or differ |
    | `batch/lr/<optimizer>` | | per optimizer, if there are several |
    """

    def __init__(self) -> None:
        self._rates: dict[str, float | torch.Tensor] = {}
        self._differ: set[str] = set()

    def gradients(self, gradients: Gradients) -> None:
        groups = gradients.optimizer.param_groups
        rates = [_copied(group["lr"]) for group in groups]
        self._rates["batch/lr"] = rates[0]
        base = f"batch/lr/{gradients.name}" if gradients.name else "batch/lr"
        if gradients.name:
            self._rates[base] = rates[0]
        if len(groups) == 1 and "name" not in groups[0]:
            return
        named = any("name" in group for group in groups)
        if named or base in self._differ or _differ(rates):
            self._differ.add(base)
            names = [sanitize(str(group.get("name", f"group_{index}"))) for index, group in enumerate(groups)]
            for index, (name, rate) in enumerate(zip(names, rates, strict=True)):
                self._rates[f"{base}/{name if names.count(name) == 1 else f'{name}_{index}'}"] = rate

    def forget(self) -> None:
        self._rates = {}

    def row(self, moment: Moment, window: Window) -> Values:
        rates, self._rates = self._rates, {}
        return rates


def _differ(rates: Sequence[float | torch.Tensor]) -> bool:
    """Returns whether groups have different rates. Tensors count as different: comparing them would read the device."""
    return any(not isinstance(rate, (int, float)) or rate != rates[0] for rate in rates[1:])


def _copied(rate: float | torch.Tensor) -> float | torch.Tensor:
    """Returns a copy of a tensor rate, which changes in place (capturable optimizers); a number as it is."""
    return rate if isinstance(rate, (int, float)) else rate.detach().clone()
