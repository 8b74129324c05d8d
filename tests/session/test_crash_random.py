"""Real trainings, each killed at a random moment and resumed from its last checkpoint.

Twenty in `make test`, with new seeds each time; `CRASH_TURNS=5 pytest ...` kills fifty.
"""

from __future__ import annotations

import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import STEPS, Task, step_of
from tests.support.local_log import local_run
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program, last_checkpoint
from trackkit import read_run
from trackkit.integrations.wandb.files import read_history

# For each framework, turns of one kill in each fifth of the training.
TURNS, PARTS = int(os.environ.get("CRASH_TURNS", "2")), 5


@pytest.mark.parametrize("turn", range(TURNS))
@pytest.mark.parametrize("framework", ["lightning", "huggingface"])
def test_kill_at_a_random_moment_loses_at_most_one_row(tmp_path: Path, framework: str, turn: int) -> None:
    """Kills in each fifth of the training; those in the last three leave a checkpoint for certain."""
    seeds = [random.SystemRandom().randrange(1 << 32) for _ in range(PARTS)]
    print("seeds:", *seeds)
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda each: kill_and_go_on(tmp_path, framework, *each), enumerate(seeds)))
    resumed = sum(outcome["resumed"] for outcome in outcomes)
    print(f"rows lost by each kill: {[outcome['lost'] for outcome in outcomes]}; resumed: {resumed}")
    assert resumed >= PARTS - 2


def kill_and_go_on(home: Path, framework: str, part: int, seed: int) -> dict[str, int]:
    moments = random.Random(seed)
    # The training waits for the kill before its last step: a busy machine may be late.
    program = Program(home / str(seed), Task(framework, pause=0.01, at=STEPS - 1, then="import time; time.sleep(60)"))
    steps = part * STEPS // PARTS + moments.randrange(STEPS // PARTS)
    program.wait_for_step(steps)
    time.sleep(moments.uniform(0, 0.02 if steps else 1.0))
    program.kill()
    program.wait()
    where = f"{framework}, seed {seed}, killed after {steps} steps, in {program.home}"
    finished = program.steps
    lost = check_first_pass(program.home, finished, where)
    checkpoint = last_checkpoint(program.home)
    if not checkpoint:
        return {"lost": lost, "resumed": 0}
    again = Program(program.home, Task(framework, resume=checkpoint))
    assert again.wait() == 0, f"{where}\n{again.stderr}"
    check_second_pass(program.home, step_of(checkpoint), where)
    return {"lost": lost, "resumed": 1}


def check_first_pass(home: Path, finished: int, where: str) -> int:
    """Returns how many rows of finished steps are lost, and asserts that every line but the last is strict JSON."""
    files = list(home.glob("out/_trackkit/*/rows.jsonl"))
    if not files:
        assert finished == 0, where
        return 0
    *lines, last = files[0].read_bytes().split(b"\n")
    rows = [strict(line) for line in lines]
    if last:
        with pytest.raises(ValueError, match=r"line|double quotes|delimiter|char"):
            strict(last)
    steps = [row["batch/step"] for row in rows if "batch/step" in row]
    assert steps == list(range(1, len(steps) + 1)), where
    assert [row["_row"] for row in rows] == list(range(len(rows))), where
    assert finished - 1 <= len(steps) <= finished, where
    assert read_run(home / "out").run["status"] == "failed", where
    return finished - len(steps)


def check_second_pass(home: Path, checkpoint: int, where: str) -> None:
    """Asserts that no step is missing, and that W&B's files together have the first attempt of every step."""
    local = local_run(home)
    again = [row["batch/step"] for row in local.rows if row.get("_pass") == 2 and "batch/step" in row]
    assert again == list(range(checkpoint + 1, STEPS + 1)), where
    assert (local.run["status"], local.run["passes"]) == ("finished", 2), where
    first: dict[str, dict[int, Any]] = {"batch/loss": {}, "epoch/val/loss": {}}
    for key, values in first.items():
        for step, value in local.history(key):
            values.setdefault(step, value)
    rows = [row for path in find_runs(home) for row in read_history(path)]
    places = [row["_step"] for row in rows]
    assert places == sorted(set(places)), where
    steps = [row["batch/step"] for row in rows if "batch/step" in row]
    assert steps == list(range(1, STEPS + 1)), where
    for key, axis in (("batch/loss", "batch/step"), ("epoch/val/loss", "epoch/step")):
        assert [(row[axis], row[key]) for row in rows if key in row] == sorted(first[key].items()), where
    # The framework decides whether to repeat an evaluation between a checkpoint and the kill.
    assert {STEPS} <= set(first["epoch/val/loss"]) <= {STEPS // 2, STEPS}, where


def strict(line: bytes) -> dict[str, Any]:
    def refuse(word: str) -> None:
        raise ValueError(word)

    found = json.loads(line, parse_constant=refuse)
    assert isinstance(found, dict)
    return found
