"""Checks that need a GPU: `make test-gpu`. Not part of `make test`."""
