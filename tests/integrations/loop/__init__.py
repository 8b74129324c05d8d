"""Plain loops."""
