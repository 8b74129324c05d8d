"""Defines the settings and reads them from arguments, variables, YAML and OmegaConf."""
