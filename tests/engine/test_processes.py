"""Process identity in `run.json`: alive, gone or unknown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from trackkit.engine.processes import process_fields, process_life


@pytest.mark.parametrize(
    ("changed", "life"),
    [
        ({}, "alive"),
        ({"host": "another"}, "unknown"),
        ({"boot_id": "another"}, "gone"),
        ({"process_began": 12}, "gone"),
        ({"pid": None}, "unknown"),
        ({"process_began": None}, "alive"),
    ],
)
def test_life_of_this_process_by_its_fields(changed: dict[str, Any], life: str) -> None:
    fields = {**process_fields(), **changed}
    assert process_life({key: value for key, value in fields.items() if value is not None}) == life


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_process_began_is_in_clock_ticks_since_boot_as_in_earlier_runs() -> None:
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    assert process_fields()["process_began"] == ticks


def test_zombie_and_reaped_processes_are_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    fields = {key: value for key, value in process_fields().items() if key != "process_began"} | {"pid": child.pid}
    assert process_life(fields) == "alive"
    assert child.stdin is not None
    child.stdin.close()
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
        assert process_life(fields) == "gone"
    child.wait()
    assert process_life(fields) == "gone"


def test_reused_process_id_is_gone() -> None:
    parent = {**process_fields(), "pid": os.getppid()}
    assert process_life({key: value for key, value in parent.items() if key != "process_began"}) == "alive"
    assert process_life({**parent, "process_began": parent["process_began"] + 10_000}) == "gone"
