"""Brings a run's W&B files to a server, and checks there that all of its local log has arrived."""
