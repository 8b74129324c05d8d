"""Runs are recorded in folders that are their owner's alone, and in no folder that another user has prepared."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.huggingface_toys import train
from trackkit.local_log import index
from trackkit.local_log.private import is_private, make_temporary_folder, temporary_folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Returns the path of the user's temporary folder, which does not exist."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return temporary_folder()


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_run_folder_and_its_files_are_closed_to_others(umask: int, tmp_path: Path) -> None:
    train(tmp_path / "out", max_steps=1)
    (run,) = (path.parent for path in tmp_path.rglob("run.json"))
    assert (mode(run), mode(run.parent)) == (0o700, 0o700)
    assert {mode(run / name) for name in ("run.json", "config.json", "summary.json", "rows.jsonl")} == {0o600}
    assert mode(index.index_path()) == 0o600


def test_temporary_folder_is_made_for_its_owner(umask: int, temporary: Path) -> None:
    assert make_temporary_folder() == temporary
    assert make_temporary_folder() == temporary
    assert mode(temporary) == 0o700


def test_temporary_folder_of_an_older_version_is_closed(temporary: Path) -> None:
    temporary.mkdir()
    temporary.chmod(0o755)
    assert make_temporary_folder() == temporary
    assert mode(temporary) == 0o700


def test_folder_that_others_can_write_is_not_taken(temporary: Path) -> None:
    temporary.mkdir()
    temporary.chmod(0o777)
    made = make_temporary_folder()
    assert made != temporary
    assert made.name.startswith(f"{temporary.name}-")
    assert mode(made) == 0o700
    assert temporary not in index.state_folders()


def test_link_is_not_taken(temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    temporary.symlink_to(tmp_path / "elsewhere")
    assert not is_private(temporary)
    assert make_temporary_folder() not in (temporary, tmp_path / "elsewhere")
    assert temporary not in index.state_folders()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_folder_of_another_user_is_not_taken(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary.mkdir(mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: temporary.stat().st_uid + 1)
    assert not is_private(temporary)
