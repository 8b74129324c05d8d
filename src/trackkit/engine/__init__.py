"""Carries one row from opening to the sinks: tracker, rows, row queue, device copy, window, ranks, faults."""
