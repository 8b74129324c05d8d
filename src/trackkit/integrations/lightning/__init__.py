"""PyTorch Lightning, under both its import roots."""

from trackkit.integrations.lightning.adapter import LightningAdapter
from trackkit.integrations.lightning.hooks import LightningHooks

__all__ = ["LightningAdapter", "LightningHooks"]
