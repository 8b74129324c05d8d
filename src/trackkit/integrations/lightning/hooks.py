"""The hooks of a Lightning callback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackkit.errors import TrackKitError
from trackkit.integrations.guard import guarded

if TYPE_CHECKING:
    from trackkit.integrations.lightning.adapter import LightningAdapter


class LightningHooks:
    """The hooks of a Lightning callback. They do nothing but call the adapter of the trainer at work."""

    TRANSIENT = frozenset({"_lightning", "log", "log_dict"})
    """Attributes that are not pickled. Lightning hangs the module's `log` and `log_dict` on every callback."""

    _lightning: LightningAdapter | None = None
    _lightning_position: tuple[int, float | None] | None = None

    @guarded
    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        if not (self.disabled or trainer.fast_dev_run or trainer.barebones):  # type: ignore[attr-defined]
            # Only now: `import trackkit` is to be quick.
            from trackkit.integrations.lightning.adapter import LightningAdapter

            self._detach()
            self._lightning = LightningAdapter(self, trainer)
            self._lightning.attach()

    @guarded
    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.fit_begins(pl_module)

    @guarded
    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        if self._lightning is not None:
            self._lightning.before_step(optimizer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        # Guarded in place: at every batch, a call less.
        try:
            if self._lightning is not None:
                self._lightning.batch_ends(outputs, batch, batch_idx)
        except TrackKitError:
            raise
        except Exception as error:
            self.hook_failed("on_train_batch_end", error)  # type: ignore[attr-defined]

    @guarded
    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_begins("validate")

    @guarded
    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_ends()

    @guarded
    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_begins("test")

    @guarded
    def on_test_end(self, trainer: Any, pl_module: Any) -> None:
        if self._lightning is not None:
            self._lightning.evaluation_ends()

    @guarded
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self._lightning is not None:
            self._lightning.saving_begins(checkpoint)

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Lightning gives two arguments; other frameworks' hooks of this name are theirs."""
        if len(args) == 2:
            self._train_ends()
        else:
            super().on_train_end(*args, **kwargs)  # type: ignore[misc]

    @guarded
    def _train_ends(self) -> None:
        if self._lightning is not None:
            self._lightning.fit_ends()

    @guarded
    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        try:
            if self._lightning is not None:
                self._lightning.failed(exception)
        finally:
            self._detach()

    @guarded
    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._detach()

    def _detach(self) -> None:
        if self._lightning is not None:
            self._lightning.detach()
            self._lightning = None
