"""A Hydra application records its composed config and overrides; the jobs of a sweep share a group."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

import trackkit
from tests.support.processes import run_python
from trackkit.local_log.recorded import RecordedRun

APP = """
import random
import sys
import hydra
import numpy as np
import trackkit
from omegaconf import DictConfig, OmegaConf
from pathlib import Path
from tests.support.toy import TRAININGS, Recipe
from trackkit.integrations.memory import MemorySink

OmegaConf.register_new_resolver("twice", lambda value: 2 * value)
OmegaConf.register_new_resolver("draw", lambda: random.random() + np.random.random())

def draws():
    return random.random(), np.random.random()

@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float:
    TRAININGS["huggingface"](Recipe(epochs=1, lr=cfg.optim.lr), Path("out"), [trackkit.TrackKit(sinks=[])])
    # The trainer has set this seed: reading the config has drawn nothing.
    drawn = draws()
    random.seed(42), np.random.seed(42)
    assert drawn == draws()
    return cfg.optim.lr

main()
"""
CONFIG = """
defaults: [_self_, optim: sgd, optim/schedule@schedule: cosine]
model: {width: 8, depth: "${twice:${model.width}}"}
api_key: sk-ant-api03-0123456789abcdef0123
missing: ???
unknown: {here: "${oc.env:NO_SUCH_VARIABLE}", missing: "${missing}", twice: "${twice:4}", drawn: "${draw:}"}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("app")
    (home / "conf/optim/schedule").mkdir(parents=True)
    (home / "conf/optim/schedule/cosine.yaml").write_text("warmup: 3\n")
    (home / "conf/config.yaml").write_text(CONFIG)
    (home / "conf/optim/sgd.yaml").write_text("lr: 0.2\nname: sgd\n")
    (home / "conf/optim/adam.yaml").write_text("lr: 0.1\nname: adam\n")
    (home / "train.py").write_text(textwrap.dedent(APP))
    return home


def train(app: Path, cwd: Path, *arguments: str) -> list[RecordedRun]:
    process = run_python(app / "train.py", *arguments, cwd=cwd)
    assert process.returncode == 0, process.stdout + process.stderr
    return sorted(trackkit.runs(cwd), key=lambda run: run.config.get("hydra/job_number", 0))


def test_job_records_composed_config_and_overrides(app: Path, tmp_path: Path) -> None:
    (run,) = train(app, tmp_path, "optim=adam", "optim.lr=0.05", "+seed=3")
    config = run.config
    assert config["hydra/overrides"] == ["optim=adam", "optim.lr=0.05", "+seed=3"]
    assert (config["hydra/job"], config["hydra/mode"], config["hydra/choices/optim"]) == ("train", "RUN", "adam")
    assert config["hydra/choices/optim/schedule@schedule"] == "cosine"
    assert config["hparams/optim/lr"] == 0.05
    assert (config["hparams/seed"], config["hparams/model/depth"]) == (3, 16)
    assert [config[f"hparams/unknown/{name}"] for name in ("here", "missing", "twice")] == [
        "${oc.env:NO_SUCH_VARIABLE}", "${missing}", 8
    ]  # fmt: skip
    assert "sk-ant" not in str(config)
    assert 0 < config["hparams/unknown/drawn"] < 2
    assert (run.summary["final/tracker_errors"], run.run["status"]) == (0, "finished")
    assert "hydra/job_number" not in config
    assert config.get("trackkit/settings/group") is None
    assert Path(config["hydra/output"], ".hydra/config.yaml").is_file()


def test_jobs_of_a_sweep_share_a_group(app: Path, tmp_path: Path) -> None:
    """And the project, though Hydra changes the folder for each. Overrides are recorded without the composed config."""
    more = ("hydra.sweep.dir=sweeps/2026-11-29/12-00", "hydra.output_subdir=null", "hydra.job.chdir=true")
    first, second = train(app, tmp_path, "--multirun", "optim.lr=0.1,0.3", *more)
    assert [run.config["hydra/job_number"] for run in (first, second)] == [0, 1]
    assert [run.config["hydra/overrides"] for run in (first, second)] == [["optim.lr=0.1"], ["optim.lr=0.3"]]
    assert "hparams/optim/lr" not in first.config
    assert {run.config["trackkit/settings/group"] for run in (first, second)} == {"train-2026-11-29-12-00"}
    assert {run.config["trackkit/settings/project"] for run in (first, second)} == {tmp_path.name}
    assert first.run_id != second.run_id
