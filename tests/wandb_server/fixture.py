"""Provides the pytest fixture; import it in a conftest.py: `from tests.wandb_server.fixture import wandb_server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import WandbServer


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    """Starts a W&B server for one test; fails the test if the server itself failed."""
    with WandbServer() as server:
        yield server
    assert not server.state.errors, "\n".join(server.state.errors)
