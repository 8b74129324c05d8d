"""The server is down when a training starts: it is recorded offline at once, or fails before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.measured_training import Training
from tests.support.wandb_offline import read_offline
from tests.wandb_server import WandbServer

CASES = [
    ("lightning", "refuse", "Connection refused"),
    ("lightning", "http_500", "HTTP 500"),
    ("lightning", "hang", "no answer within 2.5 s"),
    ("lightning", "wrong key", "rejected the API key (HTTP 401)"),
    ("lightning", "no key", "No W&B API key in WANDB_API_KEY or ~/.netrc. Run `wandb login`."),
    ("lightning", "denied", "wandb.init failed"),
    ("huggingface", "slow", "no answer within 2.5 s"),
]


# The shorter timeout of `mode: auto`, to save time.
QUICK = "import trackkit.integrations.wandb.init as ours; ours.PROBE_S['online'] = ours.PROBE_S['auto']"


def start(server: WandbServer, home: Path, framework: str, fault: str, mode: str) -> Training:
    env = {"wrong key": {"WANDB_API_KEY": "f" * 40}, "no key": {"WANDB_API_KEY": ""}}.get(fault, {})
    if fault == "denied":
        server.faults.deny("UpsertBucket", status=403)
    elif not env:
        server.faults.set(fault)
    return Training(server, home, [framework, "--mode", mode, "--patch", QUICK], env)


@pytest.mark.parametrize(("framework", "fault", "why"), CASES)
def test_auto_trains_offline_and_says_why_and_how_to_upload(
    wandb_server: WandbServer, tmp_path: Path, framework: str, fault: str, why: str
) -> None:
    training = start(wandb_server, tmp_path, framework, fault, "auto")
    try:
        training.finish()
    finally:
        training.kill()
    run = training.local
    notices = [line for line in training.lines if "' offline." in line]
    assert len(notices) == 1, training.stderr
    assert why in notices[0]
    assert f"Upload it with `trackkit sync {run.folder}`" in notices[0]
    assert (run.run["status"], run.summary["final/tracker_errors"]) == ("finished", 0)
    assert len(run.history("batch/loss")) == 24
    assert [step for step, _ in read_offline(tmp_path).history("batch/loss")] == list(range(1, 25))
    assert not wandb_server.state.runs


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("refuse", "Connection refused"),
        ("http_500", "HTTP 500"),
        ("hang", "no answer within 2.5 s"),
        ("wrong key", "HTTP 401"),
        ("no key", "No W&B API key in WANDB_API_KEY"),
        ("denied", "wandb.init failed"),
    ],
)
def test_online_fails_before_the_first_step(wandb_server: WandbServer, tmp_path: Path, fault: str, why: str) -> None:
    training = start(wandb_server, tmp_path, "lightning", fault, "online")
    try:
        training.finish(code=1)
    finally:
        training.kill()
    last = training.stderr.strip().splitlines()
    error = next(line for line in last if line.startswith("trackkit.integrations.wandb.init.WandbError:"))
    assert why in error
    assert "mode: auto" in error
    assert fault in ("no key", "denied") or wandb_server.url in error
    assert all(run.rows == [] for run in [training.local])
