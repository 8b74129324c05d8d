"""PyTorch Lightning, under both its import roots."""
