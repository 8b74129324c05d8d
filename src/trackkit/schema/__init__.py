"""Defines the vocabulary: every key TrackKit writes, and how logged names become keys."""
