"""Masks secrets in everything that leaves the process."""
