"""Each detector finds its fault in a real training, and nothing in healthy ones."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.digest.cases import HEALTHY, SICK
from tests.support.local_log import write_run
from trackkit import read_run
from trackkit.local_log.recorded import RecordedRun
from trackkit.reading.findings.finding import Finding
from trackkit.reading.findings.registry import DETECTORS, findings

# Detector to a training with its fault; those that are missing here have no training in one process on a CPU.
FAULTS = {
    "divergence": "lr jumps late",
    "learning_rate_high": "lr too high, AdamW",
    "learning_rate_zero": "lr 0",
    "learning_rate_low": "lr too low, SGD",
    "nan": "NaN from a bad batch",
    "no_generalization": "labels shuffled",
    "no_learning": "dead ReLU",
    "vanishing_gradients": "dead ReLU, no gradient",
    "exploding_gradients": "exploding recurrent net, Trainer",
    "overfitting": "overfitting on 60 samples",
    "loss_spike": "spike",
    "plateau": "flat at a high loss",
    "leak": "validation in training",
    "data_starvation": "slow loader",
    "throughput_decay": "throughput decay",
    "memory_growth": "memory growth",
    "resume_seam": "resumed with a seam",
    "crash": "crash",
    "too_few_steps": "too few steps",
    "clipping": "clip too tight, Trainer",
    "schedule": "schedule ends early",
    "frozen": "frozen model",
    "evaluation_disagrees": "validation of another distribution",
}
SOUND = ("digits, two layers, AdamW", "wine, Trainer", "text, GRU")
WITHOUT_TRAINING = {"skipped_steps", "slow_rank", "code", "schedule"}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, RecordedRun]:
    home = tmp_path_factory.mktemp("trainings")
    wanted = {*FAULTS.values(), *SOUND}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKKIT_INDEX", str(home / "index.jsonl"))
        for number, case in enumerate(case for case in (*SICK, *HEALTHY) if case.name in wanted):
            case.train(home / str(number))
            wanted.remove(case.name)
            wanted.add((case.name, home / str(number)))  # type: ignore[arg-type]
    return {name: read_run(folder) for name, folder in wanted}  # type: ignore[misc]


def rules(found: Sequence[Finding]) -> set[str]:
    return {each.rule for each in found}


@pytest.mark.parametrize("rule", FAULTS)
def test_fault_is_found_with_its_evidence(recorded: Mapping[str, RecordedRun], rule: str) -> None:
    found = next((each for each in findings(recorded[FAULTS[rule]]) if each.rule == rule), None)
    assert found is not None, rules(findings(recorded[FAULTS[rule]]))
    assert 0 < found.confidence <= 1
    assert found.key
    assert found.text.endswith(".")
    assert found.steps is None or 0 <= found.steps[0] <= found.steps[1]
    assert found.advice or found.severity == "low"


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_in_a_healthy_training(recorded: Mapping[str, RecordedRun], name: str) -> None:
    assert rules(findings(recorded[name])) <= {"dirty_code"}


def test_every_detector_has_a_training_or_rows(recorded: Mapping[str, RecordedRun]) -> None:
    names = {detector.__name__ for detector in DETECTORS}
    assert names <= {*FAULTS, *WITHOUT_TRAINING}


def steps(count: int = 40, **values: Any) -> list[dict[str, Any]]:
    """Returns rows with a loss that falls; values may be functions of the step."""
    return [
        {"batch/step": step, "batch/loss": 2 / step**0.5 + 0.01 * (step % 3)}
        | {f"batch/{name}": value(step) if callable(value) else value for name, value in values.items()}
        for step in range(1, count + 1)
    ]


def test_steps_that_the_gradient_scaler_skipped_are_found(tmp_path: Path) -> None:
    skipping = write_run(tmp_path / "a", "a", rows=steps(skipped_steps=lambda step: int(step % 4 == 0), lr=0.1))
    calibrating = write_run(tmp_path / "b", "b", rows=steps(skipped_steps=lambda step: int(step < 3), lr=0.1))
    assert "skipped_steps" in rules(findings(read_run(skipping)))
    assert rules(findings(read_run(calibrating))) == set()


def test_infinite_norm_of_a_skipped_step_is_no_fault(tmp_path: Path) -> None:
    infinite = {
        "skipped_steps": lambda step: int(step < 3),
        "grad_norm": lambda step: float("inf") if step < 3 else 1.0,
    }
    folder = write_run(tmp_path, "a", rows=steps(**infinite, nonfinite=lambda step: int(step < 3)))
    assert rules(findings(read_run(folder))) == set()


def test_norms_of_zero_are_no_measure_of_an_explosion(tmp_path: Path) -> None:
    broken = steps(6, grad_norm=lambda step: 3.0 if step == 1 else 0.0, nonfinite=lambda step: int(step > 1))
    assert "exploding_gradients" not in rules(findings(read_run(write_run(tmp_path, "a", rows=broken))))


def test_rank_that_the_others_wait_for_is_found(tmp_path: Path) -> None:
    def rows(rank: int) -> list[dict[str, Any]]:
        signal = "ranks/data_time_s"
        return [
            {**row, f"{signal}/max": 0.2, f"{signal}/mean": 0.05, f"{signal}/max_rank": rank * n % 4}
            for n, row in enumerate(steps())
        ]

    slow = [{**row, "ranks/data_time_s/max_rank": 3} for row in rows(0)]
    found = findings(read_run(write_run(tmp_path / "a", "a", rows=slow)))
    assert [(each.rule, "Rank 3" in each.text) for each in found] == [("slow_rank", True)]
    assert rules(findings(read_run(write_run(tmp_path / "b", "b", rows=rows(1))))) == set()


def test_scheduler_whose_horizon_counts_steps_but_is_called_per_epoch_is_found(tmp_path: Path) -> None:
    config = {"optim/scheduler": "CosineAnnealingLR", "optim/scheduler/T_max": 40, "optim/scheduler/interval": "epoch"}
    rows = steps(lr=lambda step: 0.1 - 1e-4 * (step // 10), epoch=lambda step: step / 10)
    found = findings(read_run(write_run(tmp_path / "a", "a", config, rows=rows)))
    assert [(each.rule, "each of 4 epochs" in each.text) for each in found] == [("schedule", True)]
    right = {**config, "optim/scheduler/interval": "step"}
    assert findings(read_run(write_run(tmp_path / "b", "b", right, rows=rows))) == []


def test_code_that_was_not_committed_or_has_changed_since_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=n", "-c", "user.email=e", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "-q")
    for message in ("a", "b"):
        git("commit", "-q", "--allow-empty", "-m", message)
    old, new = git("rev-parse", "HEAD~"), git("rev-parse", "HEAD")
    for number, (commit, dirty, rule) in enumerate(
        [(new, False, set()), (old, False, {"outdated_code"}), (new, True, {"dirty_code"})]
    ):
        config = {"git/commit": commit, "git/dirty": dirty}
        folder = write_run(tmp_path / str(number), "a", config, rows=steps())
        assert rules(findings(read_run(folder))) == rule
    monkeypatch.chdir(tmp_path.parent)
    assert rules(findings(read_run(tmp_path / "1"))) == set()


@pytest.mark.parametrize(
    "rows",
    [
        (),
        ({"batch/step": 1},),
        ({"batch/step": 1, "batch/loss": 0.5},),
        tuple({"batch/step": n, "batch/loss": float("nan")} for n in range(30)),
        tuple({"batch/step": n, "batch/loss": 0.0, "batch/grad_norm": 0.0, "batch/lr": 0.0} for n in range(30)),
        tuple({"batch/step": n, "batch/loss": "text", "epoch/val/loss": None} for n in range(30)),
        tuple({"batch/step": 5, "batch/loss": 1e300 * (-1) ** n} for n in range(30)),
        tuple({"epoch/step": n, "epoch/val/loss": 1.0} for n in range(30)),
    ],
)
def test_odd_runs_are_survived(tmp_path: Path, rows: Any, caplog: pytest.LogCaptureFixture) -> None:
    run = read_run(write_run(tmp_path, "a", rows=rows))
    with caplog.at_level("DEBUG", "trackkit"):
        findings(run)
    assert "failed" not in caplog.text
