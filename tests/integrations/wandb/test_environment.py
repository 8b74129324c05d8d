"""A training leaves the process's environment as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import Task
from tests.support.resuming import FRAMEWORKS
from tests.support.warm import Program

AFTER = """
import json, os, trackkit
trackkit.finish()
open("environment", "w").write(json.dumps(dict(os.environ)))
"""


@FRAMEWORKS
@pytest.mark.parametrize("wandb_dir", [True, False])
def test_environment_is_unchanged(tmp_path: Path, framework: str, wandb_dir: bool) -> None:
    env = {"WANDB_DIR": str(tmp_path / "wandb-dir")} if wandb_dir else {}
    (tmp_path / "wandb-dir").mkdir()
    found = [environment(tmp_path / name, framework, kit, env) for name, kit in (("with", {}), ("without", None))]
    # wandb itself names its process.
    found[0].pop("WANDB_SERVICE", None)
    assert found[0] == {**found[1], "TRACKKIT_INDEX": found[0]["TRACKKIT_INDEX"]}


def environment(home: Path, framework: str, kit: dict[str, Any] | None, env: dict[str, str]) -> dict[str, str]:
    """Returns the environment after a training."""
    program = Program(home, Task(framework, kit, steps=5, after=AFTER), env)
    assert program.wait() == 0, program.stderr
    found: dict[str, str] = json.loads((home / "environment").read_text())
    return found
