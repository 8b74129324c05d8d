"""`trackkit.read_run`: a run's local log, complete or damaged, and a run on a server."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import trackkit
from tests.support.lightning_toys import Logging, data, trainer
from tests.support.local_log import local_run
from tests.support.processes import ROOT, run_python
from tests.support.run_info import run_info
from tests.wandb_server import WandbServer
from tests.wandb_server.client import run as run_client
from trackkit import TrackKit, read_run
from trackkit.engine.processes import boot_id, process_fields
from trackkit.engine.records import Row
from trackkit.local_log.reader import ReadError
from trackkit.local_log.writer import LocalSink

CHILD = """
import os, sys, time
from pathlib import Path
from trackkit.local_log.writer import LocalSink
from trackkit.engine.records import Row
from tests.support.run_info import run_info
sink = LocalSink()
sink.open(run_info(Path(sys.argv[1]), "abc", "a run", time.time()))
sink.write(Row(0, "batch", 1, 1.5, {"batch/step": 1, "batch/loss": 0.5}))
print("written", flush=True)
sys.stdin.read()
os._exit(1)
"""


def write_folder(root: Path, lines: list[str], **run: Any) -> Path:
    folder = root / "_trackkit" / "abc"
    folder.mkdir(parents=True)
    (folder / "rows.jsonl").write_text("".join(lines))
    (folder / "run.json").write_text(json.dumps({"run_id": "abc", "status": "finished", **run}))
    (folder / "config.json").write_text("{}")
    return folder


def batch(row: int, step: int, **more: Any) -> str:
    return json.dumps({"_row": row, "_time": 1.5, "batch/step": step, **more}) + "\n"


def test_training_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    module = Logging()
    trainer([TrackKit(sinks=[])], log_every_n_steps=1, max_epochs=2, default_root_dir=tmp_path).fit(module, data(5))
    run = read_run(tmp_path)
    raw = local_run(tmp_path)
    assert [{key: value for key, value in row.items() if key != "_pass"} for row in run.history] == raw.rows
    assert {row["_pass"] for row in run.history} == {1}
    assert [value for _, value in run.series("batch/twice")] == pytest.approx(module.seen["train"])
    assert [step for step, _ in run.series("batch/twice")] == list(range(1, 11))
    assert [step for step, _ in run.series("epoch/train/twice")] == [5, 10]
    assert (run.config["model/class"], run.summary["final/steps"]) == (raw.config["model/class"], 10)
    assert run.folder == raw.folder
    for path in (raw.folder, str(raw.folder), tmp_path / "_trackkit"):
        assert read_run(path).history == run.history


def test_words_for_nan_and_infinity_become_floats_in_the_history_only(tmp_path: Path) -> None:
    sink = LocalSink()
    sink.open(run_info(tmp_path, "abc", "a run", 1.0, {"hparams/word": "NaN"}))
    values = {"batch/step": 1, "batch/a": math.nan, "batch/b": math.inf, 'batch/:"NaN"': -math.inf}
    sink.write(Row(0, "batch", 1, 1.5, values))
    sink.close(0)
    run = read_run(tmp_path)
    assert repr(run.history) == repr([{"_row": 0, "_time": 1.5, **values, "_pass": 1}])
    assert run.config == {"hparams/word": "NaN"}


def test_damaged_lines_are_skipped(tmp_path: Path) -> None:
    cut = '{"_row":2,"_time":1.5,"batch/lo'
    write_folder(tmp_path, [batch(0, 1), batch(1, 2), cut + "\n", "\n", batch(2, 3), batch(3, 4), cut])
    assert [row["batch/step"] for row in read_run(tmp_path).history] == [1, 2, 3, 4]
    for length in range(len(cut)):
        (tmp_path / "_trackkit" / "abc" / "rows.jsonl").write_text(batch(0, 1) + cut[:length])
        assert [row["batch/step"] for row in read_run(tmp_path).history] == [1]
    (tmp_path / "_trackkit" / "abc" / "rows.jsonl").write_text(batch(0, 1) + batch(1, 2).rstrip("\n"))
    assert len(read_run(tmp_path).history) == 2
    (tmp_path / "_trackkit" / "abc" / "rows.jsonl").unlink()
    assert read_run(tmp_path).history == []


def test_series_has_the_later_attempt_of_repeated_steps(tmp_path: Path) -> None:
    first = [batch(number, 10 * number, **{"batch/x": number}) for number in range(5)]
    second = [batch(5 + number, 10 * number, _pass=2, **{"batch/x": 100 + number}) for number in range(3, 6)]
    write_folder(tmp_path, first + second)
    run = read_run(tmp_path)
    assert [row["_pass"] for row in run.history] == [1] * 5 + [2] * 3
    assert run.series("batch/x") == [(0, 0), (10, 1), (20, 2), (30, 103), (40, 104), (50, 105)]


def test_series_takes_the_end_of_a_key(tmp_path: Path) -> None:
    epoch = (
        '{"_row":1,"epoch/step":1,"epoch/val/loss":2.0,"epoch/train/loss":3.0,"epoch/val/acc":0.5,"epoch/train/f1":1}'
    )
    write_folder(tmp_path, [batch(0, 1, **{"batch/loss": 1.0}), epoch])
    run = read_run(tmp_path)
    for word, value in (("loss", 1.0), ("val/loss", 2.0), ("epoch/val/loss", 2.0), ("acc", 0.5), ("train/f1", 1)):
        assert run.series(word) == [(1, value)], word
    for wrong, hint in (
        ("val_loss", "; did you mean 'val/loss'?"),
        ("epoch/val/los", "; did you mean 'val/loss'?"),
        ("xyz", "; known: loss, step, train/f1, train/loss, val/acc, val/loss"),
    ):
        with pytest.raises(ReadError) as caught:
            run.series(wrong)
        assert str(caught.value) == f"no key '{wrong}' in the run's history{hint}"
    (tmp_path / "_trackkit" / "abc" / "rows.jsonl").write_text(epoch)
    with pytest.raises(ReadError, match="several keys end with 'loss': epoch/train/loss, epoch/val/loss"):
        read_run(tmp_path).series("loss")
    assert repr(run) == f"RecordedRun(abc '', finished in '{tmp_path / '_trackkit' / 'abc'}')"


def test_status_of_a_run_whose_process_is_alive_dead_or_on_another_host(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "written\n"
        assert read_run(tmp_path).run["status"] == "running"
        child.kill()
        deadline = time.monotonic() + 300
        # The child is dead, but not reaped.
        while read_run(tmp_path).run["status"] != "failed":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert child.returncode is None
    finally:
        child.kill()
        child.communicate()
    path = tmp_path / "_trackkit" / "abc" / "run.json"
    run = json.loads(path.read_text())
    assert (run["pid"], run["boot_id"]) == (child.pid, boot_id())
    assert read_run(tmp_path).run["status"] == "failed"
    for changed, status in (
        ({"host": "another"}, "running"),
        (process_fields(), "running"),
        ({**process_fields(), "started": 1000.0}, "running"),
        ({**process_fields(), "boot_id": "another"}, "failed"),
        ({"pid": os.getpid()}, "failed"),
        ({"status": "stopped"}, "stopped"),
    ):
        path.write_text(json.dumps({**run, "started": time.time(), **changed}))
        assert read_run(tmp_path).run["status"] == status, changed


def test_errors_name_the_folder_and_its_runs(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"no run in '.*': it has neither '_trackkit/<run id>' nor W&B's folder"):
        read_run(tmp_path)
    unknown = r"no run 'nothing': it is neither a folder nor an id in your list of runs\. Give a run folder\.$"
    with pytest.raises(ReadError, match=unknown):
        read_run("nothing")
    for name in ("one", "two"):
        (tmp_path / "_trackkit" / name).mkdir(parents=True)
        (tmp_path / "_trackkit" / name / "run.json").write_text("{}")
    with pytest.raises(ReadError, match=r"2 runs in '.*': '.*one', '.*two'"):
        read_run(tmp_path)


def test_history_becomes_a_pandas_table(tmp_path: Path) -> None:
    write_folder(tmp_path, [batch(0, 1, **{"batch/x": 0.5}), batch(1, 2)])
    frame = read_run(tmp_path).to_pandas()
    assert list(frame.columns) == ["_row", "_time", "batch/step", "batch/x", "_pass"]
    assert frame["batch/step"].tolist() == [1, 2]
    code = f"""
import sys
sys.modules["pandas"] = None
import trackkit
try:
    trackkit.read_run({str(tmp_path)!r}).to_pandas()
except trackkit.TrackKitError as error:
    print(error)
assert not {{"torch", "wandb", "rich", "typer", "lightning", "transformers"}} & set(sys.modules)
"""
    done = run_python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout.startswith("to_pandas needs pandas")) == (0, True), done.stderr


def test_import_loads_no_reader(tmp_path: Path) -> None:
    code = "import sys, trackkit; assert 'trackkit.local_log.reader' not in sys.modules\n"
    code += "print(trackkit.read_run.__module__)"
    assert run_python(code, cwd=tmp_path).stdout == "trackkit.reading.runs\n"
    assert "read_run" in trackkit.__all__


def test_run_on_a_server_is_read(wandb_server: WandbServer, tmp_path: Path) -> None:
    code = """
import wandb
run = wandb.init(project="p", id="r1", name="first", config={"hparams/lr": 0.1}, tags=["t"])
for step in range(20):
    run.log({"batch/step": step, "batch/loss": 1 / (step + 1), "batch/odd": float("nan" if step else "inf")}, step=step)
run.log({"epoch/step": 20, "epoch/val/acc": 0.5}, step=20)
run.summary["final/steps"] = 20
run.finish(exit_code=1)
"""
    run_client(wandb_server, tmp_path, code)
    reading = """
import json, trackkit
run = trackkit.read_run("test-team/p/r1")
print(json.dumps([run.history, run.config, run.summary, run.run, run.series("epoch/val/acc")]))
try:
    trackkit.read_run("test-team/p/none")
except trackkit.TrackKitError as error:
    print(error)
"""
    first, second = run_client(wandb_server, tmp_path, reading).splitlines()
    history, config, summary, run, series = json.loads(first)
    assert [row["_row"] for row in history] == list(range(21))
    assert [row["batch/loss"] for row in history[:20]] == [1 / (step + 1) for step in range(20)]
    assert math.isinf(history[0]["batch/odd"])
    assert math.isnan(history[1]["batch/odd"])
    assert set(history[20]) == {"_row", "_time", "_pass", "epoch/step", "epoch/val/acc"}
    assert (config, summary["final/steps"], series) == ({"hparams/lr": 0.1}, 20, [[20, 0.5]])
    assert (run["run_id"], run["status"], run["name"], run["tags"]) == ("r1", "failed", "first", ["t"])
    assert "is neither a folder nor a run on http://127.0.0.1" in second


def test_benchmark_of_the_local_log_runs(tmp_path: Path) -> None:
    """How long writing and reading take is measured there."""
    command = [sys.executable, str(ROOT / "benchmarks" / "local_log.py"), "2000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    written, read = done.stdout.splitlines()
    assert "us" in written
    assert "rows" in read
