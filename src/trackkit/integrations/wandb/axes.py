"""Re-exports `define` until `sync` imports it from `steps`."""

from trackkit.integrations.wandb.steps import define as define
