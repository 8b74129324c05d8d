"""Every method of every callback fails once, in a real training of each framework."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trackkit
from tests.support.failures import (
    BATCH_STEPS,
    FRAMEWORKS,
    RECIPE,
    boom,
    counted_boom,
    entries,
    errors,
    train,
)
from tests.support.local_log import LocalRun, local_run
from tests.support.toy import TRAININGS
from trackkit import TrackKit
from trackkit.callbacks import CALLBACKS, Callback
from trackkit.integrations.memory import MemorySink

CASES = [
    (framework, name, method)
    for framework in FRAMEWORKS
    for name, kind in CALLBACKS.items()
    for method in entries(Callback, kind)
]
# The Hugging Face adapter announces only steps that make rows, so nothing is forgotten. These trainings save and
# load nothing, push nothing to a model hub and log no samples.
NEVER_CALLED = {
    ("huggingface", "forget"),
    *((framework, method) for framework in FRAMEWORKS for method in ("checkpoint", "pushed", "used", "samples")),
}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], dict[tuple[Any, ...], Any]]:
    """Returns what a training records whose settings disable one callback; trains once for each of them."""
    folder = tmp_path_factory.mktemp("without")

    @functools.cache
    def train_without(framework: str, name: str) -> dict[tuple[Any, ...], Any]:
        sink = MemorySink()
        TRAININGS[framework](RECIPE, folder, [TrackKit(sinks=[sink], callbacks={name: False})])
        trackkit.finish()
        return facts([{**row.values, "_row": row.number} for row in sink.rows], sink.columns)

    return train_without


def facts(rows: list[dict[str, Any]], summary: dict[str, Any]) -> dict[tuple[Any, ...], Any]:
    """Returns every value of every row and of the summary; those that differ each time as None."""
    found = {(row["_row"], key): value for row in rows for key, value in row.items() if key not in ("_time", "_row")}
    found.update({("final", key): value for key, value in summary.items() if key != "final/tracker_errors"})
    timed = ("_s", "_h", "_per_s", "_GB")
    return {key: None if key[1].endswith(timed) else value for key, value in found.items()}


def facts_of(run: LocalRun) -> dict[tuple[Any, ...], Any]:
    return facts(run.rows, run.summary)


@pytest.mark.parametrize(("framework", "name", "method"), CASES)
def test_failing_callback_is_disabled_and_the_others_continue(
    framework: str,
    name: str,
    method: str,
    without: Callable[[str, str], dict[tuple[Any, ...], Any]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []
    kind = CALLBACKS[name]
    expected = without(framework, name)
    monkeypatch.setattr(kind, method, counted_boom(calls, method))
    train(framework, TrackKit(sinks=[]))
    run = local_run(Path("out"))
    assert facts_of(run).items() >= expected.items()
    assert [step for step, _ in run.history("batch/acc")] == BATCH_STEPS
    if (framework, method) in NEVER_CALLED:
        assert calls == errors(caplog) == []
        return
    assert calls == [method]
    assert errors(caplog) == [f"callback '{kind.__name__}' ({method}) failed and is disabled; training continues"]
    assert (run.summary["final/tracker_errors"], run.run["status"]) == (1, "finished")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_survives_when_all_callbacks_fail(
    framework: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for kind in CALLBACKS.values():
        monkeypatch.setattr(kind, "row", boom)
    train(framework, TrackKit(sinks=[]))
    run = local_run(Path.cwd())
    assert run.summary["final/tracker_errors"] == len(CALLBACKS) == len(errors(caplog))
    assert [step for step, _ in run.history("batch/acc")] == BATCH_STEPS
