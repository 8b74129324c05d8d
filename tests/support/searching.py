"""A callback for either framework that trains other models in the middle of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import transformers

from tests.support.toy import TRAININGS, Recipe
from trackkit import TrackKit

OUTER, INNER = Recipe(epochs=2, every=1, lr=0.1), Recipe(epochs=1, every=2, lr=0.3)


class Both(pl.Callback, transformers.TrainerCallback):
    """A callback that either framework takes."""

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Does nothing; overrides both frameworks' method."""


class Searching(Both):
    """Trains others in the middle of a training, as a hyperparameter search or a teacher does."""

    def __init__(self, framework: str, folder: Path, fits: int) -> None:
        self._framework, self._folder, self._fits = framework, folder, fits

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        self._search(trainer.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._search(state.global_step)

    def _search(self, step: int) -> None:
        if step == 10:
            for number in range(self._fits):
                kit = TrackKit(name=f"inner-{number}", dir=str(self._folder))
                TRAININGS[self._framework](INNER, self._folder, [kit])
