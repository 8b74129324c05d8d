"""The pytest fixture. Import it in a conftest.py: `from tests.wandb_server.fixture import wandb_server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .server import WandbServer


@pytest.fixture
def wandb_server() -> Iterator[WandbServer]:
    """A W&B server of the test's own; the test fails if the server itself did."""
    with WandbServer() as server:
        yield server
    assert not server.state.errors, "\n".join(server.state.errors)
