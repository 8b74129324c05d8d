"""A run in W&B's shape: `trackkit.init`, `run.log`, `run.finish`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import trackkit
from tests.support.local_log import local_run
from tests.support.wandb_offline import find_runs, read_offline
from tests.support.warm import run_script
from trackkit import ConfigError, TrackKitError
from trackkit.integrations.memory import MemorySink


def test_values_get_canonical_keys_at_their_steps(caplog: pytest.LogCaptureFixture) -> None:
    run = trackkit.init(project="mine", config={"lr": 0.1}, sinks=[sink := MemorySink()])
    run.log({"train/loss": torch.tensor(2.0), "lr": 0.1}, step=1)
    run.log({"acc": 0.5}, step=np.int64(1))
    run.log({"loss": 1.5})
    run.log({"val_acc": 0.5, "curve": None, "curves": {"roc": None}})
    run.log({"val_loss": 1.0, "epoch": np.int64(1)})
    run.log({"loss": 1.25}, commit=False)
    run.log({"lr": 0.2})
    run.log({"grad": {"norm": 3}, "step": 10})
    run.log({"text": "a sample", "loss": 1.0}, step=5)
    run.log({"acc": 0.75}, step=4)
    run.summary["note"] = "good"
    run.summary.update(best=torch.tensor(0.5), classes={np.int64(3)})
    run.finish()
    run.finish()
    rows = [(row.step, {k: v for k, v in row.values.items() if k.rpartition("/")[2] != "step"}) for row in sink.rows]
    assert rows == [
        (1, {"batch/loss": 2.0, "batch/lr": 0.1, "batch/acc": 0.5}),
        (2, {"batch/loss": 1.5}),
        (2, {"epoch/epoch": 1, "epoch/val/acc": 0.5, "epoch/val/loss": 1.0}),
        (3, {"batch/loss": 1.25, "batch/lr": 0.2}),
        (10, {"batch/grad/norm": 3}),
        (5, {"batch/loss": 1.0}),
        (4, {"batch/acc": 0.75}),
    ]
    assert sink.media == [(5, {"samples/text": "a sample"})]
    assert "step 5 came after step 10" in caplog.text
    assert caplog.text.count("came after") == 1
    assert sink.settings["hparams/lr"] == 0.1
    named = ("note", "best", "classes", "val/loss", "status", "steps")
    assert [sink.columns[f"final/{name}"] for name in named] == ["good", 0.5, [3], 1.0, "finished", 10]
    assert run.id == sink.info.run_id  # type: ignore[union-attr]
    assert sink.exit_code == 0


def test_run_is_resumed_by_its_id(tmp_path: Path) -> None:
    with trackkit.init(project="mine", sinks=[]) as run:
        run.log({"loss": 1.0}, step=3)
    with trackkit.init(project="mine", resume=run_id(tmp_path), sinks=[sink := MemorySink()]) as again:
        again.log({"loss": 0.5})
    assert [row.step for row in sink.rows] == [4]
    assert local_run(tmp_path).history("batch/loss") == [(3, 1.0), (4, 0.5)]


def run_id(folder: Path) -> str:
    (found,) = (folder / "_trackkit").iterdir()
    return found.name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: run.log(3), "mapping"),
        (lambda run: run.log({"a": 1}, step=-1), "0 or more"),
        (lambda run: run.log({"a": 1}, step=1.5), "whole number"),
        (lambda run: run.log({"a": 1}, step=torch.tensor(1.5)), "whole number"),
        (lambda run: run.log({"a": 1}, stepp=1), "unexpected keyword argument 'stepp'"),
        (lambda run: (run.finish(), run.log({"a": 1})), r"after run.finish\(\)"),
    ],
)
def test_wrong_calls_say_what_to_do(call: Any, message: str) -> None:
    with trackkit.init(sinks=[]) as run, pytest.raises((TrackKitError, TypeError), match=message):
        call(run)


def test_config_may_be_an_object_with_defaults_in_its_classes() -> None:
    class Base:
        lr, depth = 0.1, 4

    class Config(Base):
        width = 16

        @property
        def wide(self) -> bool:
            raise AssertionError

    config = Config()
    config.lr = 0.2
    trackkit.init(config=config, sinks=[sink := MemorySink()]).finish()
    assert {key: value for key, value in sink.settings.items() if key.startswith("hparams/")} == {
        "hparams/lr": 0.2,
        "hparams/depth": 4,
        "hparams/width": 16,
    }


def test_config_that_is_a_path_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml.*Load a file yourself"):
        trackkit.init(config="config.yaml")


def test_exit_code_and_errors_are_a_failed_run() -> None:
    trackkit.init(sinks=[sink := MemorySink()]).finish(exit_code=2)
    assert (sink.columns["final/status"], sink.exit_code) == ("failed", 2)
    with pytest.raises(ValueError, match="gone"), trackkit.init(sinks=[sink := MemorySink()]):
        raise ValueError("gone")
    assert sink.columns["final/error"].startswith("ValueError: gone")


@pytest.mark.parametrize(("end", "status"), [("", "finished"), ("raise ValueError('gone')", "failed")])
def test_program_that_does_not_finish_its_run(end: str, status: str, tmp_path: Path) -> None:
    code = f"import trackkit\nrun = trackkit.init(project='mine')\nrun.log({{'loss': 1.0}}, 1)\n{end}\n"
    done = run_script(code, cwd=tmp_path)
    assert done.returncode == (status == "failed"), done.stderr
    run = local_run(tmp_path)
    assert run.summary["final/status"] == status
    assert len(find_runs(tmp_path)) == 1
    assert read_offline(tmp_path).history("batch/loss") == [(1, 1.0)]


def test_disabled_run_records_nothing(tmp_path: Path) -> None:
    run = trackkit.init(mode="disabled")
    run.log({"loss": 1.0})
    run.summary["best"] = 1
    run.finish()
    assert not list(tmp_path.iterdir())
