"""Syncs with whatever wandb is installed: it works, or asks for a newer one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.syncing import record, sync
from tests.wandb_server import WandbServer
from trackkit.errors import TrackKitError
from trackkit.integrations.wandb import _compat
from trackkit.sync.upload import require_wandb


def test_sync_works_or_asks_for_a_newer_wandb(wandb_server: WandbServer, tmp_path: Path) -> None:
    able = _compat.resumes_from_files()
    record(tmp_path / "out", "r1", 0, 9)
    printed = sync(wandb_server, tmp_path, tmp_path / "out", code=0 if able else 1)
    assert ("complete" in printed) == able
    assert ("pip install -U wandb" in printed) != able


def test_old_wandb_is_refused_before_anything_is_uploaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_compat, "resumes_from_files", lambda: False)
    with pytest.raises(TrackKitError, match=r"needs a newer wandb than the installed .*: run `pip install -U wandb`"):
        require_wandb()
