"""No planted secret is in any file that a run leaves."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import clean_env
from tests.support.secret_samples import samples, secret_end
from tests.support.warm import run_script

SECRETS = {
    "hub": "hf_" + "Planted1" * 4,
    "option": "planted-option-value",
    "hparam": "planted-hparam-value",
    "nested": "planted-nested-value",
    "remote": "plantedremotevalue",
    "notes": "ghp_" + "Planted2" * 4,
    "environment": "planted-environment-value",
    "key": "0123456789abcdef" * 2 + "01234567",
    "json": "planted-json-value",
    "query": "planted-query-value",
    "connection": "planted-connection-value",
    "deep": "planted-deep-value",
    "name": "planted-name-value",
    "slurm": "planted-slurm-value",
    "server": "planted-server-value",
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
kit = TrackKit(notes="by " + os.environ["P_NOTES"], tags=["visible"], name="x-{hparams.api_key}")
trainer(kit).fit(module, data())
"""
HUGGINGFACE = """
import os
from pathlib import Path
from tests.support.toy import Recipe, with_huggingface
from trackkit import TrackKit

kit = TrackKit(notes="by " + os.environ["P_NOTES"], tags=["visible"])
with_huggingface(Recipe(epochs=1), Path("out"), [kit], hub_token=os.environ["P_HUB"])
"""
# In places where people put them, such as a subclass of the arguments that `HfArgumentParser` fills.
EVERYWHERE = """
import os
from dataclasses import dataclass
from tests.support.toy import Net, Points
from transformers import Trainer, TrainingArguments
from trackkit import TrackKit

@dataclass
class Arguments(TrainingArguments):
    wandb_key: str | None = None
    copied: str | None = None
    extra: str | None = None
    url: str | None = None
    connection: str | None = None
    secrets: dict | None = None

arguments = Arguments(
    "out", use_cpu=True, max_steps=2, save_strategy="no", disable_tqdm=True, report_to="none",
    run_name="run of " + os.environ["MY_API_KEY"],
    wandb_key=os.environ["WANDB_API_KEY"],
    copied="visible " + os.environ["WANDB_API_KEY"] + os.environ["P_ENVIRONMENT"],
    extra='{"hub_token": "' + os.environ["P_JSON"] + '", "pad_token": "<pad>"}',
    url="https://s3.x/y?X-Amz-Signature=" + os.environ["P_QUERY"] + "&token=" + os.environ["P_QUERY"],
    connection="Server=x;User=u;Password=" + os.environ["P_CONNECTION"] + ";",
    secrets={"database": [os.environ["P_DEEP"]]},
)
kit = TrackKit(tags=["password=" + os.environ["P_NAME"]], group="token=" + os.environ["P_NAME"], mode="auto")
Trainer(Net(), arguments, train_dataset=Points(), callbacks=[kit]).train()
"""

# A secret of every rule in every channel.
FORMS = """
import logging, os, sys
import torch
from tests.support.huggingface_toys import make_trainer
from tests.support.secret_samples import samples
from trackkit import TrackKit
from trackkit.notices import logger

secrets = [secret for _, secret in samples(7)]
text = "visible\\n" + "\\n".join(secrets)
sys.argv += [f"--note={secret}" for secret in secrets]
kit = TrackKit(notes=text[:15_000], tags=secrets[:20], group=secrets[0], name="run " + secrets[1], mode="offline")
trainer = make_trainer("out", [kit], max_steps=4, val=None, run_name="x")
trainer.model.config = {"deep": {secret: secret for secret in secrets}, "list": secrets}
log = trainer.log
trainer.log = lambda logs, *args: log({**logs, **{f"loss_{secret}": 1.0 for secret in secrets[::4]}}, *args)
logger.warning("a notice with %s", secrets)
trainer.train()
"""


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        (LIGHTNING, []),
        (HUGGINGFACE, ["--api-key", SECRETS["option"]]),
        (EVERYWHERE, []),
    ],
    ids=["lightning", "huggingface", "everywhere"],
)
def test_planted_secret_is_in_no_file_of_a_run(script: str, arguments: list[str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "train.py").write_text(script)
    remote = f"https://{SECRETS['remote']}:x-oauth-basic@example.org/o/n.git"
    git = ["git", "-C", str(work), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init"], ["remote", "add", "origin", remote], ["add", "train.py"], ["commit", "-m", "first"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    planted = {f"P_{name.upper()}": value for name, value in SECRETS.items()}
    env = clean_env(
        **planted,
        MY_API_KEY=SECRETS["environment"],
        WANDB_API_KEY=SECRETS["key"],
        WANDB_BASE_URL=f"http://me:{SECRETS['server']}@127.0.0.1:9",
        SLURM_JOB_NAME="visible",
        SLURM_JWT=SECRETS["slurm"],
    )
    done = run_script(work / "train.py", *arguments, cwd=work, env=env)
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


def test_secret_of_every_rule_is_in_no_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FORMS)
    # What Hugging Face prints is not masked on the terminal, where W&B itself would read it.
    done = run_script(tmp_path / "train.py", cwd=tmp_path, env=clean_env(WANDB_CONSOLE="off"))
    assert done.returncode == 0, done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "train.py"]
    everything = b"".join(path.read_bytes() for path in files).decode("utf-8", "replace") + done.stderr
    assert "visible" in everything
    spelled = re.sub(r"[^A-Za-z0-9]+", "_", everything).lower()
    ends = {secret: re.sub(r"[^A-Za-z0-9]+", "_", secret_end(secret)).strip("_").lower() for _, secret in samples(7)}
    assert [secret for secret, end in ends.items() if end in spelled] == []
