"""Traces the way of one loss value through TrackKit, call by call: from a framework's hook to W&B's `run.log`.

    python -m tests.support.walk        # writes the lists into docs/architecture.md; or: make docs

A real training of one logged step runs under `sys.setprofile`, in the training thread and in the writer thread. A call
of one of TrackKit's functions carries the loss if the loss is

- among its arguments, or in its result, or
- its `self`, or an attribute of its `self`.

The loss is: its value as a float, a tensor of it, a container or closure that holds it, or one of the engine's windows,
rows and device copies, or Hugging Face's sorted logs, that do. Left out are comprehensions, and the callbacks other
than `Loss`, which look at the same window and row and pass nothing on. The way ends in the training thread with the
hook that emits the row, and in the writer thread with `run.log`. A return is a move to a file that the way has already
left.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple

import torch

import trackkit
from trackkit import TrackKit

SOURCE = Path(trackkit.__file__).parent
DOCS = SOURCE.parents[1] / "docs" / "architecture.md"
CARRIERS = (
    *(f"trackkit.engine.{name}" for name in ("window", "rows", "records", "device_copy")),
    "trackkit.integrations.huggingface.logged",
)
DEPTH = 6
FEW = 100


class Call(NamedTuple):
    """A call that carries the loss.

    Attributes:
        file: below `src/trackkit`.
        name: of the function, with its class.
        writer: whether the writer thread made it.
    """

    file: str
    name: str
    writer: bool


def walk(training: Callable[[list[float]], None]) -> list[Call]:
    """Returns the calls that carry a training's loss, in order, the writer thread's last.

    Args:
        training: trains one logged step, and appends its loss to the list before the first hook that gets it.
    """
    tracer = _Tracer()
    threading.setprofile(tracer)
    sys.setprofile(tracer)
    try:
        training(tracer.truth)
        trackkit.finish()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    calls = [Call(*_label(each.code, each.own), each.writer) for each in tracer.calls if each.carries]
    return sorted(calls, key=lambda call: call.writer)


def files(calls: Sequence[Call]) -> list[str]:
    """Returns the files in the order in which the way passes them, each stay once."""
    return [file for file, _ in groupby(call.file for call in calls)]


def returns(calls: Sequence[Call]) -> int:
    """Returns how often the way comes back to a file that it has left."""
    passed = files(calls)
    return len(passed) - len(set(passed))


class _Made:
    """A call as it is traced."""

    def __init__(self, frame: FrameType, carries: bool, writer: bool) -> None:
        self.frame, self.code, self.own = frame, frame.f_code, frame.f_locals.get("self")
        self.carries, self.writer = carries, writer


class _Tracer:
    """The profile function: notes TrackKit's calls from when the loss is known until W&B has it."""

    def __init__(self) -> None:
        self.truth: list[float] = []
        self.calls: list[_Made] = []
        self._open: dict[FrameType, _Made] = {}
        self._thread = threading.get_ident()
        # The outermost of TrackKit's frames in the training thread, and whether the row was emitted in it.
        self._hook: FrameType | None = None
        self._emits = False
        self._ended: set[bool] = set()

    def __call__(self, frame: FrameType, event: str, result: Any) -> None:
        code, writer = frame.f_code, threading.get_ident() != self._thread
        if not self.truth or event not in ("call", "return") or writer in self._ended:
            return
        if writer and code.co_name == "log" and code.co_filename.endswith("wandb_run.py"):
            self._ended.add(writer)
        elif code.co_filename.startswith(str(SOURCE)) and (code.co_name[0] != "<" or code.co_name == "<lambda>"):
            sys.setprofile(None)
            try:
                (self._called if event == "call" else self._returned)(frame, result, writer)
            finally:
                sys.setprofile(self)

    def _called(self, frame: FrameType, _: Any, writer: bool) -> None:
        if frame in self._open or _is_observer(frame):
            return
        if not writer and self._hook is None:
            self._hook = frame
        given = dict(frame.f_locals)
        own = given.pop("self", None)
        holders = [*given.values(), own, *(_attributes(own) if own is not None else ())]
        made = _Made(frame, any(self._holds(each) for each in holders), writer)
        self._open[frame] = made
        self.calls.append(made)
        self._emits = self._emits or (made.carries and frame.f_code.co_name == "write")

    def _returned(self, frame: FrameType, result: Any, writer: bool) -> None:
        if frame in self._open and self._holds(result):
            self._open[frame].carries = True
        if frame is self._hook:
            self._hook = None
            if self._emits:
                self._ended.add(writer)

    def _holds(self, value: Any, depth: int = DEPTH) -> bool:
        if isinstance(value, float):
            return value == self.truth[0]
        if isinstance(value, torch.Tensor):
            return value.numel() < FEW and bool((value.detach() == self.truth[0]).any())
        inner: Any = ()
        if isinstance(value, Mapping):
            inner = list(value.values())
        elif isinstance(value, (list, tuple, deque)):
            inner = value
        elif isinstance(value, FunctionType):
            inner = [cell.cell_contents for cell in value.__closure__ or ()]
        elif isinstance(value, partial):
            inner = [*value.args, *value.keywords.values()]
        elif type(value).__module__ in CARRIERS:
            inner = _attributes(value)
        return bool(depth) and len(inner) < FEW and any(self._holds(each, depth - 1) for each in inner)


def _is_observer(frame: FrameType | None) -> bool:
    """Returns whether a frame is of a callback other than `Loss`, or is called by one."""
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.parent == SOURCE / "callbacks" and path.name != "loss.py":
            return True
        frame = frame.f_back
    return False


def _attributes(value: Any) -> list[Any]:
    slots = [name for kind in type(value).__mro__ for name in vars(kind).get("__slots__", ())]
    set_slots = [getattr(value, name) for name in slots if hasattr(value, name)]
    return [*set_slots, *getattr(value, "__dict__", {}).values()]


def _label(code: CodeType, own: Any) -> tuple[str, str]:
    """Returns the file and the name of a function."""
    owner = next((kind.__name__ for kind in type(own).__mro__ if _defines(kind, code)), "")
    file = Path(code.co_filename).relative_to(SOURCE).as_posix()
    return file, f"{owner}.{code.co_name}" if owner else code.co_name


def _defines(kind: type, code: CodeType) -> bool:
    found = vars(kind).get(code.co_name)
    found = found.fget if isinstance(found, property) else found
    while found is not None:
        if getattr(found, "__code__", None) is code:
            return True
        found = getattr(found, "__wrapped__", None)
    return False


# -- the trainings -------------------------------------------------------------------------------------------------


def lightning(truth: list[float]) -> None:
    """Trains one logged step with Lightning."""
    from tests.support.lightning_toys import Logging, data, trainer

    class Noting(Logging):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            truth.append(loss.item())
            return loss

    runner = trainer([TrackKit()], max_steps=1, log_every_n_steps=1, default_root_dir="out")
    runner.fit(Noting(), data(1))


def huggingface(truth: list[float]) -> None:
    """Trains one logged step with Hugging Face, which hands out its loss when it logs."""
    from transformers import TrainerCallback

    from tests.support.huggingface_toys import make_trainer

    class Noting(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            truth.extend([logs["loss"]] if "loss" in logs else [])

    make_trainer("out", [Noting(), TrackKit()], max_steps=1, logging_steps=1).train()


def loop(truth: list[float]) -> None:
    """Trains two steps in a loop; the second writes the row of the first."""
    from tests.support.loop_trainings import batches, network

    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with trackkit.loop(net, optimizer) as track:
        for x, _ in track.batches(batches(2)):
            loss: Any = net(x).mean()
            loss.backward()
            optimizer.step()
            truth.extend([] if truth else [loss.item()])
            track.step(loss)


TRAININGS: dict[str, Callable[[list[float]], None]] = {
    "lightning": lightning,
    "huggingface": huggingface,
    "loop": loop,
}

# -- the docs ------------------------------------------------------------------------------------------------------


def table(calls: Sequence[Call]) -> str:
    """Returns the way as a Markdown table: one line for each stay in a file."""
    lines = [
        f"{len(calls)} calls, {len(set(files(calls)))} files, {returns(calls)} returns to a file already left (↩).",
        "",
        "| | file | calls |",
        "|---|---|---|",
    ]
    known: set[str] = set()
    for number, (file, stay) in enumerate(groupby(calls, key=lambda call: call.file), 1):
        listed = [_listed(call, len(list(same))) for call, same in groupby(stay)]
        lines.append(f"| {number}{' ↩' if file in known else ''} | `{file}` | {', '.join(listed)} |")
        known.add(file)
    return "\n".join(lines)


def _listed(call: Call, times: int) -> str:
    return f"`{call.name}`" + f" x{times}" * (times > 1) + " (writer thread)" * call.writer


def with_tables(page: str, tables: Mapping[str, str]) -> str:
    """Returns the page with each table between its `<!-- walk: NAME -->` and `<!-- end -->`."""
    for name, text in tables.items():
        head, found, rest = page.partition(f"<!-- walk: {name} -->\n")
        assert found, f"docs/architecture.md has no place for the walk of {name}"
        page = head + found + "\n" + text + "\n\n" + rest[rest.index("<!-- end -->") :]
    return page


def main() -> None:
    """Traces the trainings, prints their ways, and writes them into the docs."""
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    tables = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRACKKIT_INDEX"] = str(Path(folder) / "index.jsonl")
        os.chdir(folder)
        for name, training in TRAININGS.items():
            tables[name] = table(walk(training))
            print(f"\n## {name}\n\n{tables[name]}")
    if DOCS.exists():
        DOCS.write_text(with_tables(DOCS.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
