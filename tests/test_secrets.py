"""Planted secrets: none of them may be found in any file that a run leaves behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import clean_env, run_python

SECRETS = {
    "hub": "hf_" + "Planted1" * 4,
    "option": "planted-option-value",
    "hparam": "planted-hparam-value",
    "nested": "planted-nested-value",
    "remote": "plantedremotevalue",
    "notes": "ghp_" + "Planted2" * 4,
    "environment": "planted-environment-value",
}

LIGHTNING = """
import os
from tests.support.lightning_toys import Logging, data, trainer
from trackkit import TrackKit

class Module(Logging):
    def __init__(self, **hparams):
        super().__init__()
        self.save_hyperparameters(hparams)

module = Module(api_key=os.environ["P_HPARAM"], db={"logins": [{"password": os.environ["P_NESTED"]}]}, kept="visible")
trainer(TrackKit(notes="by " + os.environ["P_NOTES"], tags=["visible"])).fit(module, data())
"""
HUGGINGFACE = """
import os
from pathlib import Path
from tests.support.toy import Recipe, with_huggingface
from trackkit import TrackKit

kit = TrackKit(notes="by " + os.environ["P_NOTES"], tags=["visible"])
with_huggingface(Recipe(epochs=1), Path("out"), [kit], hub_token=os.environ["P_HUB"])
"""


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (LIGHTNING, []),
        (HUGGINGFACE, ["--api-key", SECRETS["option"]]),
    ],
    ids=["lightning", "huggingface"],
)
def test_no_planted_secret_is_in_any_file_of_a_run(script: str, arguments: list[str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(script)
    remote = f"https://{SECRETS['remote']}@example.org/o/n.git"
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init"], ["remote", "add", "origin", remote], ["add", "train.py"], ["commit", "-m", "first"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    planted = {f"P_{name.upper()}": value for name, value in SECRETS.items()}
    env = clean_env(MY_API_KEY=SECRETS["environment"], **planted)
    done = run_python(work / "train.py", *arguments, cwd=work, env=env)
    assert done.returncode == 0, done.stderr

    files = [path for path in work.rglob("*") if path.is_file() and ".git" not in path.relative_to(work).parts]
    assert {".wandb", ".jsonl", ".json"} <= {path.suffix for path in files}
    everything = {path: path.read_bytes() for path in files}
    assert any(b"visible" in data for path, data in everything.items() if path.suffix == ".wandb")
    found = {
        (name, os.path.relpath(path, work))
        for path, data in everything.items()
        for name, value in SECRETS.items()
        if value.encode() in data
    }
    assert found == set()
    assert not any(value in done.stdout + done.stderr for value in SECRETS.values())
