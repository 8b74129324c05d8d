"""Two gloo processes under torchrun, of which one dies, or that are told to end: what is left, and nothing hangs."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.support.doomed import Task
from tests.support.processes import ROOT, clean_env
from tests.support.wandb_offline import read_finished
from tests.support.warm import run_torchrun
from trackkit import read_run

FRAMEWORKS = ("lightning", "huggingface")
AT = 30
PAUSE = 0.05
# Rows that rank 0 takes along at most: they waited for the other's records; or, where SIGTERM comes from without, that
# of a step which the optimizer has taken and the trainer has not counted yet.
LOST = {("rank 0 killed", framework): 5 for framework in ("lightning", "huggingface")}
LOST |= {("torchrun terminated", framework): 1 for framework in ("lightning", "huggingface")}
KILLED = "import os, signal, time; os.environ['RANK'] == '{}' and os.kill(os.getpid(), signal.SIGKILL)"
# Rank 0 meets nobody for a while: torchrun's SIGTERM is the first that it hears of its neighbour's death.
BUSY = "; time.sleep(1)"
TERMINATED = "import os, signal; os.environ['RANK'] == '0' and os.kill(os.getppid(), signal.SIGTERM)"
ENDINGS = {
    "rank 0 killed": Task("", at=AT, then=KILLED.format(0), pause=PAUSE),
    "rank 1 killed": Task("", at=AT, then=KILLED.format(1)),
    "rank 1 killed, rank 0 busy": Task("", at=AT, then=KILLED.format(1) + BUSY),
    "torchrun terminated": Task("", at=AT, then=TERMINATED, pause=PAUSE),
}
Ended = Callable[..., Path]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """The folder of a training that has come to an ending; torchrun's exit code is in `code` there."""
    home = tmp_path_factory.mktemp("ranks")

    @functools.cache
    def end(ending: str, framework: str, kind: str = "tracked") -> Path:
        folder = home / ending / framework / kind
        folder.mkdir(parents=True)
        task = replace(ENDINGS[ending], framework=framework, kit={} if kind == "tracked" else None)
        script = ROOT / "tests" / "support" / "doomed.py"
        done = run_torchrun(script, json.dumps(asdict(task)), cwd=folder, env=clean_env(TRACKKIT_INDEX="index"))
        (folder / "code").write_text(str(done.returncode))
        (folder / "err.txt").write_text(done.stderr)
        return folder

    return end


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_the_local_log_has_every_row_and_the_right_status(ended: Ended, ending: str, framework: str) -> None:
    home = ended(ending, framework)
    told = (home / "err.txt").read_text()
    taken = len((home / "truth").read_text().splitlines())
    run = read_run(home / "out")
    steps = [row["batch/step"] for row in run.history if "batch/step" in row]
    assert steps == list(range(1, len(steps) + 1)), told
    assert 0 <= taken - len(steps) <= LOST.get((ending, framework), 0), told
    assert taken >= AT
    statuses = {"preempted"} if ending == "torchrun terminated" else {"failed"}
    assert run.run["status"] in statuses | ({"failed"} if _hung(told) else set()), told
    assert run.config["runtime/world_size"] == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_torchrun_ends_as_without(ended: Ended, ending: str, framework: str) -> None:
    """Its exit code, whom it blames, and that it did not have to kill anybody."""
    tracked = ended(ending, framework)
    told = (tracked / "err.txt").read_text()
    assert (tracked / "code").read_text() == "1", told
    if ending == "rank 1 killed":
        bare = ended(ending, framework, "bare")
        assert (bare / "code").read_text() == "1"
        assert _first_failure(told) == _first_failure((bare / "err.txt").read_text())
    # Lightning may wait for the other rank in its handler of SIGTERM, while that one waits in a collective.
    assert not _hung(told) or (ending, framework) == ("torchrun terminated", "lightning"), told


@pytest.mark.parametrize(
    ("ending", "framework", "status", "code"),
    [
        ("rank 1 killed", "lightning", "failed", 1),
        ("rank 1 killed", "huggingface", "failed", 1),
        ("rank 1 killed, rank 0 busy", "lightning", "failed", 1),
        ("rank 1 killed, rank 0 busy", "huggingface", "failed", 1),
        ("torchrun terminated", "huggingface", "preempted", 143),
    ],
)
def test_wandb_has_all_that_the_writing_rank_had(
    ended: Ended, ending: str, framework: str, status: str, code: int
) -> None:
    """Although torchrun terminates it while it ends its run."""
    home = ended(ending, framework)
    local, online = read_run(home / "out"), read_finished(home / "out")
    assert [step for step, _ in online.history("batch/loss")] == [step for step, _ in local.series("batch/loss")]
    assert (online.summary["final/status"], online.exit_code) == (status, code)


def _hung(told: str) -> bool:
    """Whether torchrun had to kill a rank: one that hangs in a collective runs no handler, and tells nothing."""
    return "forcefully exiting" in told


def _first_failure(told: str) -> tuple[str, ...]:
    """Rank and exit code that torchrun reports as the root cause."""
    found = re.search(r"rank\s*: (\d+).*?exitcode\s*: (-?\d+)", told.partition("Root Cause")[2], re.DOTALL)
    assert found is not None, told
    return found.groups()
