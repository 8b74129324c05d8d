"""What a callback is: it captures some of what happens, and knows neither a framework nor a backend."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    from trackkit.engine.records import Gradients, Moment, Row
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

Values = Mapping[str, "float | int | torch.Tensor | Sequence[torch.Tensor]"]


class Callback:
    """Base of all callbacks: every method may be left as it is.

    A callback that raises is switched off for the rest of the run; its siblings go on.

    Attributes:
        OPTIONS: names of the constructor's keywords that the settings may give.
        REDUCE: key to how rank 0 puts the ranks' values of it together: `mean`, `max`, `sum` or `root_sum` (the
            values are sums of squares). Keys not named are rank 0's own.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    REDUCE: ClassVar[Mapping[str, str]] = {}

    def start(self, info: RunInfo) -> None:
        """Training begins."""

    def gradients(self, gradients: Gradients) -> None:
        """An optimizer is about to take a step that may make a row."""

    def forget(self) -> None:
        """What `gradients` captured belongs to a step that made no row: drop it."""

    def row(self, moment: Moment, window: Window) -> Values:
        """A batch row opens: what this callback gives to it.

        Returns:
            Key to a number, to a device scalar (which must not be read here), or to a list of them, which stands for
            its mean. What begins with `_` is for `finish` only, and stays a list there.
        """
        return {}

    def finish(self, values: MutableMapping[str, Any]) -> None:
        """The row's values have reached the host: a last chance to derive one from others."""

    def emitted(self, row: Row) -> None:
        """A row, of either tier, has gone to the sinks."""

    def ended(self) -> None:
        """Training is over; evaluations may still come."""

    def final(self) -> Mapping[str, Any]:
        """This callback's columns of the summary."""
        return {}
