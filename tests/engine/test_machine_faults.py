"""The machine or W&B fails: the training ends with the same weights, and one message says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.measured_training import Training
from tests.support.wandb_offline import find_runs
from tests.wandb_server import WandbServer
from trackkit.callbacks.nvml import device_handle, energy_counter
from trackkit.integrations.wandb.files import read_history

LIMIT = 16384
DISK_FULL = f"""
import logging, os, resource, signal
# The program's own output does not count against the limit.
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
logging.raiseExceptions = False
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, {LIMIT}))
"""
# Makes a method of W&B's run or module raise from its n-th call on.
RAISING = """
import wandb
def broken(owner, name, after):
    original, calls = getattr(owner, name), []
    def call(*args, **kwargs):
        calls.append(name)
        if len(calls) > after:
            raise RuntimeError(f"W&B's {name} is out of order")
        return original(*args, **kwargs)
    setattr(owner, name, call)
"""
CALLS = {
    "init": "broken(wandb, 'init', 0)",
    "setup": "broken(wandb, 'setup', 0)",
    "log": "broken(wandb.Run, 'log', 5)",
    "the last log": "broken(wandb.Run, 'log', 24)",
    "define_metric": "broken(wandb.Run, 'define_metric', 3)",
    "config": "broken(wandb.sdk.wandb_config.Config, 'update', 0)",
    "summary": "broken(wandb.sdk.wandb_summary.Summary, 'update', 0)",
    "step": "wandb.Run.step = property(lambda run: 1 / 0)",
    "finish": "broken(wandb.Run, 'finish', 0)",
}


def train(server: WandbServer, home: Path, framework: str, *arguments: str, **env: str) -> Training:
    training = Training(server, home, [framework, "--mode", "offline", *arguments], env)
    try:
        return training.finish()
    finally:
        training.kill()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Returns the weights without TrackKit, which are the same in both frameworks."""
    with WandbServer() as server:
        return str(train(server, tmp_path_factory.mktemp("bare"), "lightning", "--bare").report["weights"])


@pytest.mark.parametrize("call", CALLS)
def test_training_survives_errors_from_every_wandb_call(
    wandb_server: WandbServer, tmp_path: Path, bare: str, call: str
) -> None:
    framework = "huggingface" if call in ("log", "finish") else "lightning"
    mode = "auto" if call == "setup" else "offline"
    training = train(wandb_server, tmp_path, framework, "--mode", mode, "--patch", RAISING + CALLS[call])
    run = training.local
    assert training.report["weights"] == bare
    assert training.stderr.count("Traceback (most recent call last)") == 1, training.stderr
    messages = [line for line in training.lines if "failed" in line]
    assert len(messages) == 1
    assert messages[0].startswith("trackkit: sink 'WandbSink' (")
    assert run.summary["final/tracker_errors"] == 1
    assert [step for step, _ in run.history("batch/loss")] == list(range(1, 25))
    assert (run.run["status"], run.run["exit_code"]) == ("finished", 0)


WHILE = """
import wandb
original, calls = wandb.Run.log, []
def log(*args, **kwargs):
    calls.append(1)
    if 5 < len(calls) < 9:
        raise RuntimeError("W&B's log is out of order")
    return original(*args, **kwargs)
wandb.Run.log = log
"""


def test_wandb_that_fails_for_a_while_gets_every_row(wandb_server: WandbServer, tmp_path: Path, bare: str) -> None:
    training = train(wandb_server, tmp_path, "lightning", "--patch", WHILE)
    assert training.report["weights"] == bare
    assert training.stderr.count("Traceback (most recent call last)") == 1, training.stderr
    (file,) = find_runs(tmp_path)
    steps = [row["batch/step"] for row in read_history(file) if "batch/loss" in row]
    assert steps == list(range(1, 25))


@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_training_survives_a_full_disk(wandb_server: WandbServer, tmp_path: Path, framework: str) -> None:
    """No file can grow beyond some kilobytes, as on a full disk. The rows until then are readable."""
    bare = str(train(wandb_server, tmp_path / "bare", framework, "--bare", "--epochs", "3").report["weights"])
    training = train(wandb_server, tmp_path, framework, "--epochs", "3", "--patch", DISK_FULL)
    assert training.report["weights"] == bare
    messages = [line for line in training.lines if "failed" in line]
    assert messages
    assert len(set(messages)) == len(messages)
    assert "'LocalSink'" in messages[0]
    folder = next(tmp_path.glob("**/_trackkit/*/run.json")).parent
    kept = (folder / "rows.jsonl").read_bytes()
    assert 0 < len(kept) <= LIMIT
    assert kept.count(b"\n") >= 5


def test_run_moves_out_of_a_read_only_folder(wandb_server: WandbServer, tmp_path: Path, bare: str) -> None:
    spare = tmp_path / "spare"
    spare.mkdir()
    training = train(wandb_server, tmp_path, "lightning", TRACKKIT_DIR="/sys/kernel", TMPDIR=str(spare))
    assert training.report["weights"] == bare
    messages = [line for line in training.lines if "cannot write to the run folder" in line]
    assert len(messages) == 1
    assert "'/sys/kernel/_trackkit/" in messages[0]
    run = training.local
    assert run.folder.is_relative_to(spare)
    assert [path.parent.parent.parent.parent for path in find_runs(spare)] == [run.folder.parent.parent.parent]
    assert (len(run.history("batch/loss")), run.run["status"]) == (24, "finished")
    assert run.summary["final/tracker_errors"] == 0


NVML = """
import pynvml, trackkit.callbacks.final_summary, trackkit.session.open
from trackkit.engine.run_info import Start
Start.has_cuda = True
import trackkit.callbacks.nvml
trackkit.callbacks.nvml.device_handle = lambda device: device
def energy(handle, readings=[1000.0]):
    if not readings:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    return readings.pop()
pynvml.nvmlDeviceGetTotalEnergyConsumption = energy
"""


def test_gpu_lost_to_nvml_costs_only_its_own_column(wandb_server: WandbServer, tmp_path: Path, bare: str) -> None:
    """The energy counter answers at the start, and fails at the end."""
    off = {"TRACKKIT_CALLBACKS": "{gpu_memory: false}"}
    training = train(wandb_server, tmp_path, "lightning", "--patch", NVML, **off)
    assert training.report["weights"] == bare
    assert [line for line in training.lines if "failed" in line] == []
    summary = training.local.summary
    assert (summary["final/steps"], summary["final/tracker_errors"]) == (24, 0)
    assert "final/energy_kWh" not in summary


def test_no_handle_without_nvml() -> None:
    """Neither on a machine without NVML, nor for a device that torch does not know."""
    assert device_handle("cuda:99") is None
    assert energy_counter("cuda:99") is None
