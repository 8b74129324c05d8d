"""The claim on a run folder, and whether a file is open in another process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import clean_env, run_python
from trackkit.engine.processes import process_fields
from trackkit.local_log.owner import claim, is_open, release

CLAIM = """
import sys
from pathlib import Path
from trackkit.local_log.owner import claim
print(claim(Path(sys.argv[1])))
"""


def claim_elsewhere(folder: Path) -> bool:
    """Returns whether a new process can claim the folder."""
    done = run_python(CLAIM, str(folder), cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() == "True"


def test_claim_excludes_other_processes_until_it_is_released(tmp_path: Path) -> None:
    assert claim(tmp_path)
    assert claim(tmp_path)
    (tmp_path / ".lock").read_bytes()
    assert not claim_elsewhere(tmp_path)
    release(tmp_path)
    assert claim_elsewhere(tmp_path)


def test_claim_ends_with_its_process(tmp_path: Path) -> None:
    assert claim_elsewhere(tmp_path)
    assert claim(tmp_path)
    release(tmp_path)


def test_forked_child_drops_the_claim_and_the_parent_keeps_it(tmp_path: Path) -> None:
    assert claim(tmp_path)
    child = os.fork()
    if not child:
        release(tmp_path)
        os._exit(int(claim(tmp_path)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not claim_elsewhere(tmp_path)
    release(tmp_path)


def test_missing_folder_is_refused_to_no_process_and_not_created(tmp_path: Path) -> None:
    assert claim(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_run_file_names_the_writer_on_file_systems_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def unsupported(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    assert claim(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=clean_env()) as writer:
        fields = {key: value for key, value in process_fields().items() if key != "process_began"}
        (tmp_path / "run.json").write_text(json.dumps({**fields, "pid": writer.pid}))
        assert not claim(tmp_path)
        writer.communicate(b"\n")
    assert claim(tmp_path)


def test_open_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    assert not is_open(path)
    with path.open():
        assert is_open(path)
    assert not is_open(path)
