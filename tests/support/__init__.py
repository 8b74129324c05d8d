"""Helpers that several tests share: toy models and data, readers of recorded runs, programs in processes."""
