"""Re-exports `known` until `sync` imports it from `_compat`."""

from trackkit.integrations.wandb._compat import known_settings

known = known_settings
