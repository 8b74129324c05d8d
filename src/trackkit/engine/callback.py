"""The port of callbacks: a callback measures one thing, and knows neither a framework nor a backend."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    from trackkit.engine.records import Checkpoint, Gradients, Moment, Row
    from trackkit.engine.run_info import RunInfo
    from trackkit.engine.window import Window

Values = Mapping[str, "float | int | torch.Tensor | Sequence[torch.Tensor]"]


class Callback:
    """Base of all callbacks: override the methods you need.

    A callback that raises is disabled for the rest of the run; the others continue.

    Attributes:
        OPTIONS: names of the constructor's keywords that the settings may give.
        REDUCE: key to how rank 0 combines the ranks' values: `mean`, `max`, `sum` or `root_sum` (the square root of
            the sum, for values that are sums of squares). Other keys are rank 0's own. A key that ends with `/` stands
            for all below it, of which each rank may have others.
        FATAL: exceptions that are raised to the user instead of disabling the callback.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()
    REDUCE: ClassVar[Mapping[str, str]] = {}
    FATAL: ClassVar[tuple[type[Exception], ...]] = ()

    def connect(self, uploads: Sequence[Any]) -> None:
        """Called before the first `start`.

        Args:
            uploads: of the backends that take files of checkpoints (`checkpoints.uploads.Uploads`).
        """

    def start(self, info: RunInfo) -> None:
        """Runs when training starts."""

    def unused(self) -> Mapping[str, str]:
        """Returns the options that were given and have no effect, as the settings name them, and why.

        Runs once training has started, and when the run ends.
        """
        return {}

    def gradients(self, gradients: Gradients) -> None:
        """Runs before an optimizer step that may make a row."""

    def forget(self) -> None:
        """Drops what `gradients` captured: that step makes no row."""

    def row(self, moment: Moment, window: Window) -> Values:
        """Returns this callback's values for a batch row that opens.

        Returns:
            Key to a number, to a device scalar (not to be read here), or to a list of device scalars, of which the mean
            is recorded. Keys that begin with `_` are only for `finish`, which gets their lists as lists.
        """
        return {}

    def finish(self, values: MutableMapping[str, Any]) -> None:
        """Derives values from others, once all of a batch row's values are on the host."""

    def samples(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns what is to be recorded of pictures, tables and texts, `samples/<name>` to value."""
        return {}

    def emitted(self, row: Row) -> None:
        """Runs for every row, of either tier, as it is emitted."""

    def paused(self, what: str, seconds: float) -> None:
        """Runs after a pause of training; `what` is "evaluation", "checkpoint" or another word for its cause."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Called when the framework has saved a checkpoint, before it may delete it; from any thread."""

    def pushed(self, url: str, path: str) -> None:
        """Called when the trainer has pushed a model to a hub; from any thread.

        Args:
            url: of the commit.
            path: of the checkpoint that has the same weights; "" for the newest.
        """

    def used(self, parent: Any) -> None:
        """Called when the program has loaded a checkpoint of another run (`checkpoints.parents.Parent`)."""

    def ended(self) -> None:
        """Runs when training is over; evaluations may follow."""

    def closing(self) -> None:
        """Called when the run ends, before the sinks are closed."""

    def closed(self) -> None:
        """Called when the sinks are closed."""

    def warning(self) -> str:
        """Returns a warning for the end of the run, a sentence without its full stop; "" for none."""
        return ""

    def final(self) -> Mapping[str, Any]:
        """Returns this callback's columns of the summary."""
        return {}
