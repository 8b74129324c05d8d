"""Two gloo processes under torchrun, of which one dies or which are terminated: rows, status and exit codes."""

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
# Rows that may be missing: they waited for the other rank's records when rank 0 was killed; or, after a SIGTERM, the
# row of a step that the optimizer took and the trainer had not counted yet.
LOST = {("rank 0 killed", framework): 5 for framework in ("lightning", "huggingface")}
LOST |= {("torchrun terminated", framework): 1 for framework in ("lightning", "huggingface")}
KILLED = "import os, signal, time; os.environ['RANK'] == '{}' and os.kill(os.getpid(), signal.SIGKILL)"
# Rank 0 joins no collective for a while: torchrun's SIGTERM is the first sign of the other rank's death.
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
    """Returns a function that trains to an ending and returns the folder, with torchrun's exit code in `code`."""
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
def test_local_log_has_every_row_and_the_right_status(ended: Ended, ending: str, framework: str) -> None:
    home = ended(ending, framework)
    output = (home / "err.txt").read_text()
    taken = len((home / "truth").read_text().splitlines())
    run = read_run(home / "out")
    steps = [row["batch/step"] for row in run.history if "batch/step" in row]
    assert steps == list(range(1, len(steps) + 1)), output
    assert 0 <= taken - len(steps) <= LOST.get((ending, framework), 0), output
    assert taken >= AT
    statuses = {"preempted"} if ending == "torchrun terminated" else {"failed"}
    assert run.run["status"] in statuses | ({"failed"} if _hung(output) else set()), output
    assert run.config["runtime/world_size"] == 2


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_torchrun_ends_as_without_trackkit(ended: Ended, ending: str, framework: str) -> None:
    """Compares its exit code, the rank it reports, and that it killed no rank."""
    tracked = ended(ending, framework)
    output = (tracked / "err.txt").read_text()
    assert (tracked / "code").read_text() == "1", output
    if ending == "rank 1 killed":
        bare = ended(ending, framework, "bare")
        assert (bare / "code").read_text() == "1"
        # Without TrackKit, torchrun may notice first that rank 0 failed in the collective.
        assert _first_failure(output) in (("1", "-9"), _first_failure((bare / "err.txt").read_text()))
    # Lightning's SIGTERM handler may wait for the other rank while that one waits in a collective.
    assert not _hung(output) or (ending, framework) == ("torchrun terminated", "lightning"), output


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
def test_wandb_has_all_rows_of_the_writing_rank(
    ended: Ended, ending: str, framework: str, status: str, code: int
) -> None:
    """Torchrun terminates rank 0 while it ends its run."""
    home = ended(ending, framework)
    local, online = read_run(home / "out"), read_finished(home / "out")
    assert [step for step, _ in online.history("batch/loss")] == [step for step, _ in local.series("batch/loss")]
    assert (online.summary["final/status"], online.exit_code) == (status, code)


def _hung(output: str) -> bool:
    """Returns whether torchrun had to kill a rank: one that hangs in a collective runs no signal handler."""
    return "forcefully exiting" in output


def _first_failure(output: str) -> tuple[str, ...]:
    """Returns the rank and exit code that torchrun reports as the root cause."""
    found = re.search(r"rank\s*: (\d+).*?exitcode\s*: (-?\d+)", output.partition("Root Cause")[2], re.DOTALL)
    assert found is not None, output
    return found.groups()
