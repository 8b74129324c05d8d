"""What several tests share: toy models and data, readers of what was written, processes started as a user would."""
