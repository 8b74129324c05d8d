"""`trackkit sync` of runs that the server has in part: it sends the values that are lacking, and no others."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.doomed import STEPS, Task
from tests.support.resuming import KILL
from tests.support.syncing import assert_all_there, plain_wandb_sync, record, row_of, sync, wait_for, wandb_files
from tests.support.warm import Program, last_checkpoint, run_script
from tests.wandb_server import WandbServer
from tests.wandb_server.client import environment
from trackkit import read_run
from trackkit.integrations.wandb.files import read_history
from trackkit.local_log.owner import is_open

pytestmark = pytest.mark.timeout(240)

# Resumes the run online and logs rows of the local log, with the time of now.
RESEND = """
import json, sys, wandb
from trackkit.local_log.strict import finite_words
run = wandb.init(project="p", id="r1", resume="allow", settings=wandb.Settings(x_disable_stats=True, console="off"))
first, last = map(int, sys.argv[2:])
for line in open(sys.argv[1]):
    row = {key: value for key, value in finite_words(json.loads(line)).items() if key[0] != "_"}
    if first <= row.get("batch/step", -1) < last or first <= row.get("epoch/step", -1) < last:
        run.log(row)
run.finish()
"""

# A training whose program has started a W&B run.
JOINS = """
import wandb
from pathlib import Path
from tests.support.toy import Recipe, TRAININGS
from trackkit import TrackKit
with wandb.init(project="p", id="theirs", settings=wandb.Settings(x_disable_stats=True, console="off")):
    TRAININGS["lightning"](Recipe(epochs=1), Path("out"), [TrackKit(project="ours", dir="out")])
"""


def resend(server: WandbServer, home: Path, root: Path, first: int, last: int) -> None:
    rows = root / "_trackkit" / "r1" / "rows.jsonl"
    done = run_script(RESEND, str(rows), str(first), str(last), cwd=home, env=environment(server, home))
    assert done.returncode == 0, done.stderr


def parsed(stream: dict[tuple[str, int], str]) -> list[tuple[tuple[str, int], dict[str, Any]]]:
    return [(place, json.loads(line)) for place, line in stream.items()]


def test_rows_sent_by_another_process_are_not_sent_again(wandb_server: WandbServer, tmp_path: Path) -> None:
    """They have another time and another W&B step on the server. The user's own values are still sent."""
    root = tmp_path / "out"
    record(root, "r1", 0, 30, "--own")
    resend(wandb_server, tmp_path, root, 0, 30)
    assert_all_there(wandb_server, root, "r1")
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    for key, count in {"batch/loss": 30, "batch/spike": 30, "epoch/val/acc": 3, "mine/a": 30, "mine/b": 30}.items():
        assert sum(key in row for row in wandb_server.state.run("r1").history) == count
    assert wandb_server.state.run("r1").summary["epoch/val/acc"] == 0.29


def test_rows_in_a_run_of_the_program_s_own_are_looked_for_there(wandb_server: WandbServer, tmp_path: Path) -> None:
    """No second run is made; a row that is lacking goes to the program's run."""
    done = run_script(JOINS, cwd=tmp_path, env=environment(wandb_server, tmp_path))
    assert done.returncode == 0, done.stderr
    run = wandb_server.state.run("theirs")
    steps = [row["batch/step"] for row in run.history if "batch/loss" in row]
    stream = run.streams["wandb-history.jsonl"]
    del stream[next(place for place, row in parsed(stream) if row.get("batch/step") == steps[-1])]
    local = read_run(tmp_path / "out")
    assert local.run_id != "theirs"
    assert row_of(sync(wandb_server, tmp_path, tmp_path / "out"), local.run_id)[-1] == "complete"
    assert [row["batch/step"] for row in run.history if "batch/loss" in row] == steps
    assert [run.id for run in wandb_server.state.runs.values()] == ["theirs"]


def test_only_lacking_rows_are_sent(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 30)
    resend(wandb_server, tmp_path, root, 12, 17)
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    steps = [row["batch/step"] for row in wandb_server.state.run("r1").history if "batch/loss" in row]
    assert steps == [*range(12, 17), *range(12), *range(17, 30)]


def test_differing_value_is_reported_and_not_sent(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The server may have another attempt of a repeated step, and W&B replaces nothing."""
    root = tmp_path / "out"
    record(root, "r1", 0, 12)
    resend(wandb_server, tmp_path, root, 0, 12)
    stream = wandb_server.state.run("r1").streams["wandb-history.jsonl"]
    place, row = next((place, row) for place, row in parsed(stream) if row.get("batch/step") == 5)
    stream[place] = json.dumps({**row, "batch/loss": 7.0})
    for _ in range(2):
        printed = sync(wandb_server, tmp_path, root, code=1)
        assert "1 rows (batch/step 5) have other values on the server" in printed
        rows = [row for row in wandb_server.state.run("r1").history if row.get("batch/step") == 5]
        assert [row["batch/loss"] for row in rows] == [7.0]


def test_rows_lost_in_a_crash_arrive_beside_the_users_own(wandb_server: WandbServer, tmp_path: Path) -> None:
    """The user's own rows have moved W&B's step past the training's."""
    root = tmp_path / "out"
    record(root, "r1", 0, 25, "--own", "--pause", "0.04", "--end", "kill")
    (path,) = wandb_files(root)
    wait_for(lambda: not is_open(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    time.sleep(1.1)
    record(root, "r1", 25, 40, "--own")
    kept = ["batch/loss" in row for path in wandb_files(root) for row in read_history(path)]
    assert sum(kept) < 40
    assert row_of(sync(wandb_server, tmp_path, root), "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    steps = [row["batch/step"] for row in wandb_server.state.run("r1").history if "batch/loss" in row]
    assert steps == list(range(40))


def test_rows_below_the_last_step_are_added_above_it(wandb_server: WandbServer, tmp_path: Path) -> None:
    root = tmp_path / "out"
    record(root, "r1", 0, 30)
    plain_wandb_sync(wandb_server, tmp_path, *[path.parent for path in wandb_files(root)])
    stream = wandb_server.state.run("r1").streams["wandb-history.jsonl"]
    kept = [json.dumps(row) for _, row in parsed(stream) if row.get("epoch/step") != 9]
    stream.clear()
    stream.update({("", number): line for number, line in enumerate(kept)})
    printed = sync(wandb_server, tmp_path, root)
    assert row_of(printed, "r1")[-1] == "complete"
    assert_all_there(wandb_server, root, "r1")
    assert wandb_server.state.run("r1").summary["epoch/val/acc"] == 0.29


@pytest.mark.parametrize("modes", [("offline", "online"), ("online", "offline", "online")], ids="-".join)
def test_rows_sent_by_a_resume_are_not_sent_again(
    wandb_server: WandbServer, tmp_path: Path, modes: tuple[str, ...]
) -> None:
    """An online resume sends what the killed attempt had not; that attempt's file still has it too."""
    online = {name: value for name, value in environment(wandb_server, tmp_path).items() if name != "WANDB_DIR"}
    for number, mode in enumerate(modes, 1):
        end = {"at": 20 + 25 * number, "then": KILL} if number < len(modes) else {}
        task = Task("huggingface", resume=last_checkpoint(tmp_path), pause=0.02, **end)
        program = Program(tmp_path, task, {**(online if mode == "online" else {}), "WANDB_MODE": mode})
        assert (program.wait() == 0) == (number == len(modes)), program.stderr
    run_id = read_run(tmp_path / "out").run["run_id"]
    assert row_of(sync(wandb_server, tmp_path, "out"), run_id)[-1] == "complete"
    run = wandb_server.state.run(run_id)
    assert Counter(row["batch/step"] for row in run.history if "batch/loss" in row) == Counter(range(1, STEPS + 1))
    assert (run.state, run.summary["final/status"]) == ("finished", "finished")
