"""Writes, reads and finds run folders on disk."""
