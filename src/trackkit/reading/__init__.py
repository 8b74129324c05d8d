"""Reads recorded runs for people and programs."""
