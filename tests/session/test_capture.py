"""What a program prints is heard, and no byte of it changes: on terminals, in files, under pytest, in notebooks."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT, clean_env
from trackkit.session import capture

PRINTS = r"""
import logging, os, sys, threading, warnings
heard = []
listener = lambda stream, text: heard.append((stream, text))
if sys.argv[1] == "with":
    from trackkit.session import capture
    capture.listen(listener)
from rich.console import Console
from rich.progress import Progress, TextColumn
from tqdm import tqdm
print("a", 1, "\x1b[31mred\x1b[0m", end="!\n")
print("to stderr", file=sys.stderr)
logging.basicConfig(level=logging.INFO)
logging.info("logged")
warnings.warn("warned")
for _ in tqdm(range(3), bar_format="{n}/{total}", mininterval=0):
    for _ in tqdm(range(3), bar_format="{n}/{total}", mininterval=0, leave=False):
        tqdm.write("inside")
with Progress(TextColumn("{task.completed}"), console=Console(width=60), auto_refresh=False) as progress:
    task = progress.add_task("x", total=3)
    for _ in range(3):
        progress.update(task, advance=1, refresh=True)
        print("above the bar")
sys.stdout.flush()
os.system("echo from a subprocess")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
assert sys.stdout.isatty() == (sys.argv[2] == "tty")
assert sys.stdout is sys.__stdout__
if sys.argv[1] == "with":
    text = "".join(text for _, text in heard)
    assert all(each in text for each in ("red", "to stderr", "logged", "warned", "3/3", "above the bar", "inside"))
    assert "ZeroDivisionError" in text and "subprocess" not in text
    capture.ignore(listener)
    assert "write" not in vars(sys.stdout) and "write" not in vars(sys.stderr)
"""


def run_on_terminal(folder: Path, how: str) -> bytes:
    """Runs the prints on a terminal of their own; returns the bytes that it got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    script = folder / "prints.py"
    script.write_text(PRINTS)
    command = [sys.executable, str(script), how, "tty"]
    env = clean_env(TERM="xterm-256color", COLUMNS="60", PYTHONPATH=str(ROOT / "src"))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, cwd=folder) as process:
        os.close(theirs)
        got = b""
        try:
            while piece := os.read(ours, 65536):
                got += piece
        except OSError:
            # The terminal is closed.
            pass
    os.close(ours)
    assert process.returncode == 0, got.decode()
    return got


def test_terminal_gets_the_same_bytes(tmp_path: Path) -> None:
    bare = run_on_terminal(tmp_path, "without")
    assert len(bare) > 500
    assert run_on_terminal(tmp_path, "with") == bare


def test_redirected_ranks_get_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "prints.py").write_text(PRINTS)
    logs = {}
    for how in ("without", "with"):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
        options = ["--redirects", "3", "--log-dir", how, "prints.py", how, "file"]
        env = clean_env(COLUMNS="60", PYTHONPATH=str(ROOT / "src"))
        subprocess.run([*command, *options], cwd=tmp_path, env=env, check=True, capture_output=True, timeout=300)
        logs[how] = [path.read_bytes() for path in sorted((tmp_path / how).glob("*/attempt_0/0/std*.log"))]
    assert logs["with"] == logs["without"]
    assert len(logs["with"]) == 2


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str]]]:
    """Listens until the test's end."""
    found: list[tuple[str, str]] = []

    def listener(stream: str, text: str) -> None:
        found.append((stream, text))

    capture.listen(listener)
    found.append(("", ""))
    found.clear()
    yield found
    capture.ignore(listener)


def test_capturing_test_sees_its_prints(heard: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]) -> None:
    print("under pytest")
    assert capsys.readouterr().out == "under pytest\n"


def test_listener_is_called_once_however_often_it_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, heard = io.StringIO(), []

    def listener(name: str, text: str) -> None:
        heard.append(text)

    monkeypatch.setattr(sys, "stdout", stream)
    for _ in range(3):
        capture.listen(listener)
        print("x", end="")
    capture.ignore(listener)
    print("y", end="")
    assert (heard, stream.getvalue()) == (["x"] * 3, "xxxy")


def test_notebook_cells_are_heard_after_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython sets the stream's `write` at a cell's start, and at its end again to what it was before."""
    stream, heard = io.StringIO(), []

    def listener(name: str, text: str) -> None:
        heard.append(text)

    monkeypatch.setattr(sys, "stdout", stream)
    for cell, hear in (("first ", lambda: capture.listen(listener)), ("second ", capture.renew), ("third ", int)):
        before = stream.write
        if cell != "third ":
            stream.write = lambda text, before=before: before(text)  # type: ignore[misc, method-assign]
        hear()
        print(cell, end="")
        stream.write = before  # type: ignore[method-assign]
        capture.renew()
    capture.ignore(listener)
    print("over", end="")
    assert heard == ["first ", "second ", "third "]
    assert stream.getvalue() == "first second third over"


def test_patch_on_top_of_ours_keeps_working(monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B patches `write` for good: a thousand runs must not make a chain of a thousand calls."""
    stream, heard = io.StringIO(), []

    def listener(name: str, text: str) -> None:
        heard.append(text)

    monkeypatch.setattr(sys, "stdout", stream)
    capture.listen(listener)
    ours = stream.write
    stream.write = lambda text: ours(text)  # type: ignore[method-assign]
    for _ in range(1100):
        capture.listen(listener)
        print("x", end="")
        capture.ignore(listener)
        print("y", end="")
    assert heard == ["x"] * 1100
    assert stream.getvalue() == "xy" * 1100


def test_stream_without_a_settable_write_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fixed:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr(sys, "stdout", Fixed())
    monkeypatch.setattr(sys, "stderr", None)
    capture.listen(lambda name, text: None)
    print("still works")


def test_listener_that_fails_ends_no_print(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()

    def listener(name: str, text: str) -> None:
        raise ValueError

    monkeypatch.setattr(sys, "stdout", stream)
    capture.listen(listener)
    print("one")
    print("two")
    capture.ignore(listener)
    assert stream.getvalue() == "one\ntwo\n"
