"""The console of real trainings: recorded while they run and up to their end, whatever that is."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import trackkit
from tests.support.doomed import Task
from tests.support.local_log import local_run
from tests.support.resuming import break_off
from tests.support.wandb_offline import find_runs
from tests.support.warm import Program, run_torchrun
from trackkit import read_run
from trackkit.engine.records import Line
from trackkit.integrations.wandb.files import read_logger_lines
from trackkit.local_log.console import read_console
from trackkit.session.console import MAX_CHARACTERS, MAX_LINES, Console

FRAMEWORKS = pytest.mark.parametrize("framework", ["lightning", "huggingface"])
TOKEN = "hf_" + "abcdefghij" * 3
SAY = "print('step', 74)"


def ended(home: Path, framework: str, then: str = "pass", code: int = 0, **task: Any) -> Path:
    """Runs a short training that does `then` after 6 steps; returns its run folder."""
    program = Program(home, Task(framework, **{"at": 6, "then": then, "steps": 12, **task}))
    assert program.wait() == code, program.stderr
    return local_run(home).folder


def texts(folder: Path) -> list[str]:
    return [line.text for line in read_run(folder).console]


def sent(home: Path) -> list[str]:
    """Returns the lines in W&B's offline file, without their times."""
    return [line.split(" ", 1)[1] for path in find_runs(home) for line in read_logger_lines(path)]


@FRAMEWORKS
def test_prints_of_a_training_are_recorded(tmp_path: Path, framework: str) -> None:
    say = f"import sys; print('at step', 6); print('password=hunter2hunter2 {TOKEN}', file=sys.stderr)"
    folder = ended(tmp_path, framework, say, after="print('after the fit')")
    lines = read_run(folder).console
    assert [line.time for line in lines] == sorted(line.time for line in lines)
    assert time.time() - 300 < lines[0].time < time.time()
    found = [(line.stream, line.text) for line in lines if line.stream == "stdout" or "password" in line.text]
    assert ("stdout", "at step 6") in found
    assert ("stderr", "password=*** ***") in found
    assert found[-1] == ("stdout", "after the fit")
    assert [text for text in sent(tmp_path) if text in dict(map(reversed, found))] == [text for _, text in found]
    assert {path.name for path in folder.iterdir() if path.suffix == ".txt"} == set()
    # The output of subprocesses is in the file that stdout goes to.
    assert local_run(tmp_path).run["stdout"]["file"] == str(tmp_path / "out.txt")
    assert TOKEN not in "".join(path.read_text(errors="replace") for path in folder.iterdir() if path.is_file())


@FRAMEWORKS
def test_failed_training_leaves_its_last_words(tmp_path: Path, framework: str) -> None:
    then = f"print('just before'); raise ValueError('no luck with {TOKEN}')"
    folder = ended(tmp_path, framework, then, code=1)
    run = read_run(folder)
    assert run.summary["final/error"] == "ValueError: no luck with *** (<string>, line 1)"
    for lines in (texts(folder), sent(tmp_path)):
        assert lines.count("ValueError: no luck with ***") == 1
        assert lines.count("Traceback (most recent call last):") == 1
        assert any("Training failed after step 6: ValueError: no luck with ***" in line for line in lines)
    words = (folder / "last_words.txt").read_text()
    assert all(each in words for each in ("failed after step 6", "Traceback", "just before", '"batch/step":6'))
    assert TOKEN not in words


@FRAMEWORKS
def test_failed_training_whose_error_is_caught_leaves_its_last_words(
    isolated: Path, framework: str, caplog: pytest.LogCaptureFixture
) -> None:
    break_off(framework)
    trackkit.finish()
    folder = local_run(isolated).folder
    said = [record.getMessage() for record in caplog.records if "Training failed after step 7" in record.getMessage()]
    assert len(said) == 1
    assert str(folder / "last_words.txt") in said[0]
    assert "failed after step 7" in (folder / "last_words.txt").read_text()


def test_error_of_a_failed_attempt_is_cleared_by_the_next(tmp_path: Path) -> None:
    program = Program(tmp_path, Task("lightning", at=25, then="raise ValueError('once')"))
    assert program.wait() == 1, program.stderr
    assert local_run(tmp_path).summary["final/error"]
    saved = (tmp_path / "saved").read_text().split()[-1]
    program = Program(tmp_path, Task("lightning", resume=saved, steps=30))
    assert program.wait() == 0, program.stderr
    assert local_run(tmp_path).summary["final/error"] == ""


def test_kill_costs_at_most_the_last_second(tmp_path: Path) -> None:
    then = "import os, time; print('early'); time.sleep(2.5); print('late'); os.kill(os.getpid(), 9)"
    assert "early" in texts(ended(tmp_path, "lightning", then, code=-signal.SIGKILL))


def test_sigterm_records_the_last_line(tmp_path: Path) -> None:
    then = "import os; print('the last line'); os.kill(os.getpid(), 15)"
    program = Program(tmp_path, Task("huggingface", at=6, then=then, steps=12))
    assert program.wait() == -signal.SIGTERM, program.stderr
    assert "the last line" in texts(local_run(tmp_path).folder)
    assert "the last line" in sent(tmp_path)


@pytest.mark.parametrize("how", ["_sigsegv", "_sigabrt"])
def test_native_crash_leaves_the_python_stack(tmp_path: Path, how: str) -> None:
    code = {"_sigsegv": signal.SIGSEGV, "_sigabrt": signal.SIGABRT}[how]
    folder = ended(tmp_path, "lightning", f"import faulthandler; faulthandler.{how}()", code=-code)
    assert "training_step" in (crash := (folder / "crash.txt").read_text()) or "in step" in crash


def test_file_of_the_program_stays_open(tmp_path: Path) -> None:
    """A program that closes all descriptors gets the number of our crash file for its own."""
    then = """
import builtins, os
for number in os.listdir('/proc/self/fd'):
    if os.path.realpath('/proc/self/fd/' + number).endswith('crash.txt'):
        os.close(int(number))
        builtins.own = open(os.open('own.txt', os.O_WRONLY | os.O_CREAT), 'w')
        assert builtins.own.fileno() == int(number)
"""
    after = "import builtins, trackkit; trackkit.finish(); builtins.own.write('kept'); builtins.own.close()"
    ended(tmp_path, "huggingface", then, after=after)
    assert (tmp_path / "own.txt").read_text() == "kept"


def test_forked_children_write_nothing(tmp_path: Path) -> None:
    then = """
import os, sys
print('parent before')
if (child := os.fork()) == 0:
    print('from the child')
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
print('parent after')
"""
    lines = texts(ended(tmp_path, "lightning", then))
    assert [line for line in lines if "parent" in line] == ["parent before", "parent after"]
    assert "from the child" not in lines


def test_setting_switches_the_console_off(tmp_path: Path) -> None:
    folder = ended(tmp_path, "lightning", "print('private')", kit={"console": False})
    assert not (folder / "console.jsonl").exists()
    assert read_run(folder).console == []
    assert sent(tmp_path) == []
    assert b"private" not in find_runs(tmp_path)[0].read_bytes()


def test_other_ranks_write_files_of_their_own(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(
        "from tests.support.doomed import RANK, Task, main\n"
        "main(Task('lightning', at=6, then=f'import time; print(\"hello from\", {RANK}); time.sleep(3)', steps=12))\n"
    )
    done = run_torchrun(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    folder = local_run(tmp_path).folder
    said = {path.name: [line.text for line in read_console(path)] for path in folder.glob("console*.jsonl")}
    assert {name: [line for line in lines if "hello" in line] for name, lines in said.items()} == {
        "console.jsonl": ["hello from 0"],
        "console.rank1.jsonl": ["hello from 1"],
    }
    assert [line for line in sent(tmp_path) if "hello" in line] == ["hello from 0"]


class Recording:
    """A console of its own, with the lines that sinks would get."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.sent = folder, list[Line]()
        self.failures: list[str] = []
        folder.mkdir(exist_ok=True)
        self.console = Console(0, lambda: folder, self.sent.extend, lambda what, error: self.failures.append(what))
        self.console._add("stdout", "")  # noqa: SLF001 -- what is printed by the test runner stays out
        self.say = self.console._add  # noqa: SLF001 -- as above

    def closed(self) -> list[str]:
        self.console.close()
        assert self.failures == []
        lines = read_console(self.folder / "console.jsonl")
        assert [line.text for line in self.sent] == [line.text for line in lines]
        return [line.text for line in lines]


def test_flood_is_bounded_and_what_is_missing_is_said(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for number in range(5000):
        recording.say("stdout", f"line {number}\n")
    recording.console.drain()
    lines = recording.closed()
    assert len(lines) == MAX_LINES + 1
    assert (lines[0], lines[-1]) == ("line 0", "line 4999")
    assert next(line for line in lines if "left out" in line).startswith("[4500 lines left out: more than")
    assert (tmp_path / "console.jsonl").stat().st_mode & 0o077 == 0


def test_flood_takes_bounded_memory(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    for _ in range(3000):
        recording.say("stderr", "x" * 999 + "\n")
    held = sum(len(text) for _, _, text in recording.console._pieces)  # noqa: SLF001 -- no public way to see it
    assert held < MAX_CHARACTERS + 2000
    assert any("lines left out" in line for line in recording.closed())


@pytest.mark.parametrize(
    "printed",
    [
        ["pass", "word=hunter2", "hunter2\n"],
        ["\x1b[32mpassword\x1b[0m=\x1b[1mhunter2hunter2\x1b[0m\n"],
        [f"{TOKEN} {'x' * 7950} {TOKEN}\n"],
        [f"hf_\x1b[31m{TOKEN[3:]}\x1b[0m\n"],
        [
            "-----BEGIN RSA PRIVATE KEY-----\n",
            *["hunter2hunter2abc\n"] * 9,
            "-----END RSA PRIVATE KEY-----\n",
            "after\n",
        ],
    ],
)
def test_secrets_in_pieces_are_masked(tmp_path: Path, printed: Sequence[str]) -> None:
    recording = Recording(tmp_path)
    for number, piece in enumerate(printed):
        recording.say("stdout", piece)
        if number == 3:
            recording.console.drain()
    found = "\n".join(recording.closed())
    assert "***" in found
    assert not any(part in found for part in ("hunter2", "hf_", TOKEN[3:12]))
    assert ("after" in found) == ("after\n" in printed)


def test_odd_text_is_recorded(tmp_path: Path) -> None:
    recording = Recording(tmp_path)
    recording.say("stdout", "lone \ud800 surrogate\nnul \x00 byte\n" + "y " * 5000 + "\n损失 ✓\n")
    lines = recording.closed()
    assert lines == ["lone \\ud800 surrogate", "nul  byte", "y " * 4000 + " [2000 characters left out]", "损失 ✓"]


def test_full_disk_costs_only_the_lines_of_that_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording(tmp_path)
    recording.say("stdout", "before\n")
    recording.console.drain()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        recording.say("stdout", "lost 1\nlost 2\n")
        recording.console.drain()
    recording.say("stdout", "after\n")
    recording.console.close()
    lines = [line.text for line in read_console(tmp_path / "console.jsonl")]
    assert lines == ["before", "[2 lines left out]", "after"]
    assert [line.text for line in recording.sent] == ["before", "lost 1", "lost 2", "after"]


def test_file_is_bounded_and_keeps_the_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trackkit.session.console.MAX_FILE", 1000)
    recording = Recording(tmp_path)
    for number in range(300):
        recording.say("stdout", f"line {number}\n")
        recording.console.drain()
    lines = recording.closed()
    assert lines[-1] == "line 299"
    assert sum(1 for line in lines if line.startswith("line")) < 130
    left = next(line for line in lines if "left out" in line)
    assert len([line for line in lines if "left out" not in line]) + int(left[1:].split()[0]) == 300


def test_line_after_a_cut_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "console.jsonl").write_text('{"_time":1.0,"stream":"stdout","te')
    recording = Recording(tmp_path)
    recording.say("stdout", "whole\n")
    recording.console.close()
    assert [line.text for line in read_console(tmp_path / "console.jsonl")] == ["whole"]
    assert json.loads((tmp_path / "console.jsonl").read_text().splitlines()[-1])["text"] == "whole"
