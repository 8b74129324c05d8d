"""The local log: always on, readable during training, and complete up to a crash."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

import trackkit
from tests.support.lightning_toys import Logging, data, trainer
from tests.support.local_log import local_run
from tests.support.processes import clean_env
from tests.support.run_info import run_info
from trackkit import TrackKit
from trackkit.engine.records import Row
from trackkit.engine.run_info import RunInfo
from trackkit.integrations.memory import MemorySink
from trackkit.local_log.writer import LocalSink


def info(root: Path, **config: Any) -> RunInfo:
    return run_info(root, "abc", "a run", 123.0, config)


def row(number: int, **values: float) -> Row:
    return Row(number, "batch", number + 1, 1.5, {"batch/step": number + 1, **values})


def strict(text: str) -> Any:
    """Parses strict JSON: Python's NaN and Infinity are errors."""

    def refuse(word: str) -> Any:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_row_can_be_read_during_training(tmp_path: Path) -> None:
    seen: list[int] = []

    class Reader(pl.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            seen.append(len(rows.read_text().splitlines()) if (rows := next(tmp_path.glob("**/rows.jsonl"))) else 0)

    module = Logging()
    trainer([Reader(), TrackKit(sinks=[])], log_every_n_steps=1).fit(module, data(8))
    assert seen == list(range(8)), "at a batch's start all rows are there"
    assert [line["_row"] for line in local_run(tmp_path).rows] == list(range(9))


def test_files_are_strict_json_with_words_for_nan_and_infinity(tmp_path: Path) -> None:
    sink = LocalSink()
    sink.open(
        info(tmp_path, **{"hparams/a": math.nan, "hparams/b": [math.inf, {"c": -math.inf}], "hparams/p": tmp_path})
    )
    sink.write(row(0, **{"batch/loss": math.nan, "batch/x": math.inf, "batch/y": -math.inf, "batch/z": 1e308}))
    sink.summary({"final/train/loss": math.nan, "final/status": "finished"})
    sink.close(0)
    folder = tmp_path / "_trackkit" / "abc"
    assert strict((folder / "rows.jsonl").read_text()) == {
        "_row": 0,
        "_time": 1.5,
        "batch/step": 1,
        "batch/loss": "NaN",
        "batch/x": "Infinity",
        "batch/y": "-Infinity",
        "batch/z": 1e308,
    }
    config = {"hparams/a": "NaN", "hparams/b": ["Infinity", {"c": "-Infinity"}], "hparams/p": str(tmp_path)}
    assert strict((folder / "config.json").read_text()) == config
    assert strict((folder / "summary.json").read_text()) == {"final/train/loss": "NaN", "final/status": "finished"}
    run = strict((folder / "run.json").read_text())
    assert (run["run_id"], run["status"], run["exit_code"], run["started"]) == ("abc", "finished", 0, 123.0)
    assert sorted(os.listdir(folder)) == [".lock", "config.json", "rows.jsonl", "run.json", "summary.json"]


def test_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    sink = LocalSink()
    sink.open(info(tmp_path))
    path = tmp_path / "_trackkit" / "abc" / "config.json"
    done = threading.Event()

    def rewrite() -> None:
        for number in range(200):
            sink.config({f"hparams/{number}": "x" * 500})
        done.set()

    writer = threading.Thread(target=rewrite)
    writer.start()
    sizes = set()
    while not done.is_set():
        sizes.add(len(strict(path.read_text())))
    writer.join()
    sink.close(0)
    assert len(sizes) > 1
    assert len(strict(path.read_text())) == 200


def test_row_does_not_join_a_cut_line(tmp_path: Path) -> None:
    first = LocalSink()
    first.open(info(tmp_path))
    first.write(row(0))
    rows = tmp_path / "_trackkit" / "abc" / "rows.jsonl"
    with rows.open("a") as file:
        file.write('{"_row":1,"_ti')
    first.close(0)
    again = LocalSink()
    again.open(info(tmp_path))
    again.write(row(2))
    again.close(0)
    lines = rows.read_text().splitlines()
    assert [strict(line)["_row"] for line in (lines[0], lines[-1])] == [0, 2]
    assert len(lines) == 3


def test_unwritable_folder_is_replaced_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "spare").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spare"))
    module, bare, sink = Logging(), Logging(), MemorySink()
    trainer(TrackKit(dir=str(tmp_path / "file" / "runs"), sinks=[sink])).fit(module, data())
    trackkit.finish()
    trainer().fit(bare, data())
    assert torch.equal(module.layer.weight, bare.layer.weight)
    warnings = [record for record in caplog.records if record.name == "trackkit" and record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert all(word in warnings[0].getMessage() for word in (str(tmp_path / "file"), str(tmp_path / "spare"), "'dir'"))
    assert len(local_run(tmp_path / "spare").rows) == len(sink.rows) > 2
    assert sink.columns["final/tracker_errors"] == 0


KILLED = """
import sys, time
from pathlib import Path
import torch
from trackkit.callbacks import build_callbacks
from trackkit.local_log.writer import LocalSink
from trackkit.engine.ranks import Exchange
from trackkit.engine.records import Moment
from tests.support.run_info import run_info
from trackkit.engine.tracker import Tracker
tracker = Tracker(build_callbacks({}), [LocalSink()], Exchange())
tracker.start(run_info(Path.cwd(), "abc", started=time.time()))
for step in range(1, 1_000_000):
    tracker.batch(torch.tensor(float(step)), steps=1)
    tracker.row(Moment(step))
    tracker.seal()
    print(step, flush=True)
"""


def test_killed_training_loses_at_most_the_open_row(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED], cwd=tmp_path, env=clean_env(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    deadline = time.monotonic() + 300
    while (line := process.stdout.readline()) and int(line) < 300:
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read().split()
    process.wait()
    process.stdout.close()
    steps = int(rest[-1]) if rest else int(line)
    lines = (tmp_path / "_trackkit" / "abc" / "rows.jsonl").read_text().splitlines()
    rows = [strict(line) for line in lines]
    assert len(rows) in (steps, steps + 1)
    assert [row["batch/loss"] for row in rows] == [float(number + 1) for number in range(len(rows))]
    assert strict((tmp_path / "_trackkit" / "abc" / "run.json").read_text())["status"] == "running"
