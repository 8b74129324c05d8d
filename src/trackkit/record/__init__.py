"""Collects what a run says of itself: config, git state, data fingerprint, environment, seeds."""
