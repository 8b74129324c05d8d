"""The toy framework's hooks: all that a new framework needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trackkit.engine.records import Moment
from trackkit.engine.run_info import Start
from trackkit.integrations.guard import guarded


class ToyHooks:
    TRANSIENT = frozenset({"_toy"})

    @guarded
    def on_toy_begin(self, trainer: Any) -> None:
        self._toy = self.begin(Start("toy", "torch", Path(trainer.output), "fit"))  # type: ignore[attr-defined]

    @guarded
    def on_toy_step(self, trainer: Any, loss: Any) -> None:
        self._toy.tracker.batch(loss, samples=1, steps=1)
        self._toy.tracker.row(Moment(trainer.step, None, trainer.steps))

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        if len(args) == 1:
            self._toy.end("finished")
        else:
            super().on_train_end(*args, **kwargs)  # type: ignore[misc]
