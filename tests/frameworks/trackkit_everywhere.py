"""A pytest plugin for a framework's own tests: writes each test's outcome, and puts TrackKit into every Trainer.

The runner (`run.py`) sets the variables. `JUDGE_OUTCOMES` names the file that gets one JSON line per test.
`JUDGE_TRACKS` is the framework whose Trainers get TrackKit, or empty.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

_WORST_FIRST = ("error", "failed", "passed", "skipped")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Outcomes(os.environ["JUDGE_OUTCOMES"]))
    framework = os.environ.get("JUDGE_TRACKS")
    if framework:
        # Takes the clock now: some tests replace it while they train.
        import trackkit.engine.stopwatch  # noqa: F401

        config.pluginmanager.register(_Ends())
    if framework == "lightning":
        _add_to_lightning()
    if framework == "transformers":
        from transformers import trainer

        from trackkit import TrackKit

        trainer.DEFAULT_CALLBACKS.append(TrackKit)


def _add_to_lightning() -> None:
    """Adds TrackKit to the callbacks of every Trainer that has none.

    Lightning's entry point for this, `lightning.pytorch.callbacks_factory`, extends the caller's own list, and so gives
    a second TrackKit to the second Trainer with that list.
    """
    from lightning.pytorch.callbacks import Callback
    from lightning.pytorch.trainer.connectors.callback_connector import _CallbackConnector

    from trackkit import TrackKit

    original = _CallbackConnector.on_trainer_init

    def on_trainer_init(self: Any, callbacks: Any, *args: Any) -> None:
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks or ())
        added = [] if any(isinstance(each, TrackKit) for each in given) else [TrackKit()]
        original(self, [*given, *added], *args)

    _CallbackConnector.on_trainer_init = on_trainer_init


class _Ends:
    """Closes the run after each test, as the end of a training's process does, before the suite looks for threads."""

    def pytest_sessionstart(self) -> None:
        import wandb

        # W&B keeps the threads of its service for the whole process: they are no test's own.
        wandb.setup()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        import trackkit

        trackkit.finish()


class _Outcomes:
    """Writes a line for each test as soon as it has ended, so that a crash of the process loses no line."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.reports: list[tuple[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reports.append((_outcome(report), _reason(report)))
        if report.when == "teardown":
            outcome, reason = min(self.reports, key=lambda one: _WORST_FIRST.index(one[0]))
            self.reports = []
            self._write(report.nodeid, outcome, reason, report.duration)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write(report.nodeid, "error", _reason(report), 0.0)

    def _write(self, test: str, outcome: str, reason: str, seconds: float) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"test": test, "outcome": outcome, "reason": reason, "s": seconds}) + "\n")


def _outcome(report: pytest.TestReport) -> str:
    if report.failed and report.when != "call":
        return "error"
    if report.skipped and report.when == "call" and hasattr(report, "wasxfail"):
        return "passed"
    return report.outcome


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Returns the last line of an error's message, with the file and line where it was raised."""
    if not report.failed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        return " ".join(str(report.longrepr).split())[-300:]
    return f"{' '.join(crash.message.split())[:300]} ({os.path.basename(crash.path)}:{crash.lineno})"
