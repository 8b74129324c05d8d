"""The hooks of a Lightning callback."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from trackkit.integrations.guard import call_guarded, guarded
from trackkit.integrations.lightning.null import NullAdapter
from trackkit.integrations.lightning.position import Weights

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    from trackkit.integrations.lightning.adapter import LightningAdapter


class LightningHooks:
    """Passes the hooks of a Lightning callback to the adapter of the running trainer."""

    TRANSIENT = frozenset({"_lightning", "log", "log_dict"})
    """Attributes that are not pickled. Lightning sets the module's `log` and `log_dict` on every callback."""

    _lightning: LightningAdapter | NullAdapter = NullAdapter()

    @functools.cached_property
    def _lightning_weights(self) -> Weights:
        # No constructor makes them: instances may be older than the import of Lightning.
        return Weights()

    @property
    def state_key(self) -> str:
        """The key of the state in checkpoints: the same for all settings and subclasses."""
        return "TrackKit"

    def state_dict(self) -> dict[str, Any]:
        """Returns the run's id and project, and samples and tokens so far; nothing before a run is open."""
        fitted = self._lightning_weights.fitted
        if isinstance(self._lightning, NullAdapter):
            return dict(fitted.state) if fitted is not None else {}
        return call_guarded(self, "state_dict", self._lightning.state) or {}  # type: ignore[arg-type]

    @guarded
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._lightning.state_loaded(state_dict)

    @guarded
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._lightning.checkpoint_loaded(checkpoint)

    @guarded
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not (self.disabled or trainer.fast_dev_run or trainer.barebones or self._yields_to(trainer)):  # type: ignore[attr-defined]
            # Imported late, so that importing Lightning stays quick.
            from trackkit.integrations.lightning.adapter import LightningAdapter

            self._detach()
            self._lightning = LightningAdapter(self, trainer, self._lightning_weights)  # type: ignore[arg-type]
            self._lightning.attach()

    @guarded
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lightning.fit_begins(pl_module)

    @guarded
    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self._lightning.before_step(optimizer)

    @guarded
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._lightning.batch_ends(outputs, batch, batch_idx)

    @guarded
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lightning.evaluation_begins("validate")

    @guarded
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lightning.evaluation_ends()

    @guarded
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lightning.evaluation_begins("test")

    @guarded
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._lightning.evaluation_ends()

    @guarded
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        fitted = self._lightning_weights.fitted
        if isinstance(self._lightning, NullAdapter) and fitted is not None and fitted.trainer() is not trainer:
            # Another trainer has fitted last, with the same TrackKit.
            checkpoint.get("callbacks", {}).pop(self.state_key, None)
        self._lightning.saving_begins()

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Handles Lightning's call, which has two arguments; passes on those of other frameworks."""
        if len(args) == 2:
            self._train_ends()
        else:
            super().on_train_end(*args, **kwargs)  # type: ignore[misc]

    @guarded
    def _train_ends(self) -> None:
        self._lightning.fit_ends()

    @guarded
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        try:
            self._lightning.failed(exception, self._detach)
        except BaseException:
            self._detach()
            raise

    @guarded
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._detach()

    def _yields_to(self, trainer: Trainer) -> bool:
        """Returns whether another TrackKit of the trainer records instead of this one."""
        kits = [each for each in trainer.callbacks if isinstance(each, LightningHooks)]  # type: ignore[attr-defined]
        return self.yields and any(not each.yields for each in kits)  # type: ignore[attr-defined]

    def _detach(self) -> None:
        """Restores the trainer's own objects and forgets the trainer."""
        self._lightning.detach()
        vars(self).pop("_lightning", None)
