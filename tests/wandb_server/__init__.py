"""A W&B server on 127.0.0.1 for tests; the real client works with it online. See `server.WandbServer`."""

from .server import WandbServer
from .state import State

__all__ = ["State", "WandbServer"]
