"""Uploads recorded runs to a W&B server, and checks that all of their local logs has arrived there."""
