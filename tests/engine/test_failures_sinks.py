"""Every method of every sink fails once, in a real training of each framework: the other sinks continue."""

from __future__ import annotations

import importlib
import pkgutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import transformers

import trackkit.integrations
from tests.support.failures import FRAMEWORKS, ROWS, boom, counted_boom, entries, errors, train
from tests.support.local_log import local_run
from trackkit import TrackKit
from trackkit.engine.sink import Sink
from trackkit.integrations.memory import MemorySink
from trackkit.integrations.wandb.sink import WandbSink
from trackkit.local_log.writer import LocalSink

for module in pkgutil.walk_packages(trackkit.integrations.__path__, "trackkit.integrations."):
    importlib.import_module(module.name)

BACKENDS = ("trackkit.integrations.", "trackkit.local_log.")
SINKS = [kind for kind in Sink.__subclasses__() if kind.__module__.startswith(BACKENDS)]
# Only a sink that has failed before is given a gap: see `test_outbox.py`. Samples: see `session/test_log.py`. These
# trainings save no checkpoints.
METHODS = [method for method in entries(Sink, Sink) if method not in ("gap", "samples", "checkpoint")]


class Terminated(pl.Callback, transformers.TrainerCallback):  # type: ignore[misc]
    """Raises SIGTERM after the last step, when Lightning's own handler has nothing left to cut short."""

    def on_train_end(self, *_: Any, **__: Any) -> None:
        print("the last step is taken")
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def survived() -> Iterator[None]:
    """Handles SIGTERM as a program may, so that the test survives it."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def test_all_sinks_and_their_methods_are_covered() -> None:
    assert {LocalSink, MemorySink, WandbSink} <= set(SINKS)
    assert METHODS == ["open", "write", "config", "summary", "console", "preempting", "close"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", SINKS)
def test_failing_sink_is_retried_and_the_others_continue(
    framework: str, kind: type[Sink], method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []
    broken, witness = MemorySink(), MemorySink()
    backends = {LocalSink: [witness], WandbSink: None, MemorySink: [broken, witness]}[kind]
    with monkeypatch.context() as patch, survived():
        patch.setattr(broken if kind is MemorySink else kind, method, counted_boom(calls, method))
        train(framework, Terminated(), TrackKit(sinks=backends))
    # The local log writes a run's first config through the same method.
    where = "open" if (kind, method) == (LocalSink, "config") else method
    assert calls[:1] == [method], "the method was not called"
    then = " and is disabled" if (kind, method) == (WandbSink, "open") else " and is retried"
    end = "; training continues without its values" if method == "console" else f"{then}; training continues"
    assert errors(caplog) == [f"sink '{kind.__name__}' ({where}) failed{end}"]
    if kind is not LocalSink:
        run = local_run(Path.cwd())
        assert [row["_row"] for row in run.rows] == list(range(ROWS))
        assert (run.summary["final/tracker_errors"], run.summary["final/steps"]) == (1, 48)
        assert (run.run["status"], run.run["exit_code"]) == ("finished", 0)
    if kind is not WandbSink:
        assert [row.number for row in witness.rows] == list(range(ROWS))
        assert (witness.columns["final/tracker_errors"], witness.columns["final/steps"]) == (1, 48)
        assert witness.exit_code == 0


@pytest.mark.parametrize(
    "method", ["sink.start_run", "steps.RowLog.log", "sink.WandbSink._update_config", "steps.define"]
)
def test_error_in_the_writer_thread_is_logged_on_the_next_call(
    method: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"trackkit.integrations.wandb.{method}", boom)
    train("lightning", TrackKit())
    run = local_run(Path.cwd())
    assert len(errors(caplog)) == 1
    assert "'WandbSink'" in errors(caplog)[0]
    assert (len(run.rows), run.summary["final/steps"], run.run["exit_code"]) == (ROWS, 48, 0)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_error_while_closing_is_counted_by_the_other_sinks(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("wandb.Run.finish", boom)
        train(framework, TrackKit())
    run = local_run(Path.cwd())
    assert errors(caplog) == ["sink 'WandbSink' (close) failed and is retried; training continues"]
    assert (run.summary["final/tracker_errors"], run.summary["final/status"]) == (1, "finished")
