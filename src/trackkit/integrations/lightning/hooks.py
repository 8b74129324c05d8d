"""The hooks of a Lightning callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.integrations.guard import guarded
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
    _lightning_weights: Weights

    @guarded
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not (self.disabled or trainer.fast_dev_run or trainer.barebones):  # type: ignore[attr-defined]
            # Imported late, so that importing Lightning stays quick.
            from trackkit.integrations.lightning.adapter import LightningAdapter

            self._detach()
            # No constructor makes it: instances may be older than the import of Lightning.
            weights = vars(self).setdefault("_lightning_weights", Weights())
            skippable = type(self).on_before_optimizer_step is LightningHooks.on_before_optimizer_step
            self._lightning = LightningAdapter(self, trainer, weights, skippable)  # type: ignore[arg-type]
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
        self._lightning.saving_begins(checkpoint)

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
            self._lightning.failed(exception)
        finally:
            self._detach()

    @guarded
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._detach()

    def _detach(self) -> None:
        """Restores the trainer's own objects and forgets the trainer."""
        self._lightning.detach()
        vars(self).pop("_lightning", None)
