"""Re-exports `put` until `sync` imports it from `server`."""

from trackkit.integrations.wandb.server import put as put
