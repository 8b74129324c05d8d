"""PyTorch Lightning, under both its import roots."""

from trackkit.integrations.lightning.hooks import LightningHooks

__all__ = ["LightningHooks"]
