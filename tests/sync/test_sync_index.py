"""Which runs `trackkit sync` takes, and which it leaves out: the index, what was verified before, several servers."""

from __future__ import annotations

from pathlib import Path

from tests.sync.test_sync import assert_all_there, record, row_of, sync
from tests.wandb_server import WandbServer


def test_another_server_has_nothing_yet(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "out", "r1", 0, 5)
    sync(wandb_server, tmp_path)
    with WandbServer() as other:
        assert row_of(sync(other, tmp_path), "r1")[-1] == "complete"
        assert_all_there(other, tmp_path / "out", "r1")
        for server in (wandb_server, other):
            assert "every run of the index is on the server" in sync(server, tmp_path)
            assert row_of(sync(server, tmp_path, "r1"), "r1")[-1] == "unchanged"


def test_a_run_that_is_gone_from_the_server(wandb_server: WandbServer, tmp_path: Path) -> None:
    record(tmp_path / "out", "r1", 0, 25)
    sync(wandb_server, tmp_path)
    wandb_server.state.runs.clear()
    printed = sync(wandb_server, tmp_path, "r1")
    assert "the server has it no more: it is sent again" in printed
    assert row_of(printed, "r1")[-1] == "complete"
    assert_all_there(wandb_server, tmp_path / "out", "r1")
