"""`Accelerator.log` without another line: names, steps, pictures, and how runs end."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import wandb
from accelerate import Accelerator

from tests.support.local_log import local_run
from tests.support.wandb_offline import find_runs
from tests.support.warm import run_bare, run_torchrun
from trackkit import AccelerateTracker, ConfigError
from trackkit.integrations.accelerate import _compat
from trackkit.integrations.memory import MemorySink

BY_NAME = """
import sys, trackkit, accelerate
ours = "trackkit.integrations.accelerate"
allowed = (ours, f"{ours}.name", f"{ours}.register", "trackkit.integrations.bases", "trackkit.integrations.loading")
loaded = {each for each in sys.modules if each.startswith("trackkit.")} - {"trackkit.integrations", *allowed}
assert not loaded, loaded
accelerator = accelerate.Accelerator(cpu=True, log_with="trackkit")
config = {"lr": 0.1, "output_dir": "out", "model": {"layers": 2}}
accelerator.init_trackers("script", config=config, init_kwargs={"trackkit": {"tags": ["mine"], "name": "{hparams.lr}"}})
accelerator.log({"loss": 1.0}, step=4)
tracker = accelerator.get_tracker("wandb")
assert tracker is accelerator.get_tracker("trackkit") and accelerator.get_tracker("wandb", unwrap=True) is trackkit.run
assert tracker.name == "wandb" and tracker.name == "trackkit" and not tracker.name != "wandb"
assert tracker.name != "tensorboard" and {"trackkit": 1, "wandb": 2}[tracker.name] == 1
ENDING
"""
FINISHED, FAILED = ("finished", 0), ("failed", 1)
ENDINGS = {
    "accelerator.end_training()": FINISHED,
    "pass": FINISHED,
    "1 / 0": FAILED,
    "try:\n    1 / 0\nfinally:\n    accelerator.end_training()": FAILED,
    "raise KeyboardInterrupt": ("stopped", 255),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_run_by_name_has_the_status_of_the_script_s_end(ending: str, tmp_path: Path) -> None:
    """Project, config and settings come from `init_trackers`; `import accelerate` loads nothing of TrackKit's."""
    done = run_bare(BY_NAME.replace("ENDING", ending), cwd=tmp_path)
    run = local_run(tmp_path / "out")
    assert (run.run["status"], run.run["exit_code"]) == ENDINGS[ending], done.stderr
    assert ("ZeroDivisionError" in run.summary.get("final/error", "")) == ("1 / 0" in ending)
    assert run.history("batch/loss") == [(4, 1.0)]
    assert (run.summary["final/steps"], run.summary["final/tracker_errors"]) == (4, 0)
    assert run.summary["final/duration_h"] > 0
    expected = {
        "hparams/lr": 0.1,
        "hparams/model/layers": 2,
        "trackkit/settings/project": "script",
        "trackkit/settings/tags": ["mine", "local"],
        "runtime/framework": "accelerate",
        "runtime/precision": "32",
    }
    assert {key: run.config.get(key) for key in expected} == expected
    assert run.run["name"] == "0.1"
    # Not known from the logs alone.
    assert not {"batch/data_time_s", "batch/skipped_steps", "final/skipped_steps"} & {*run.rows[0], *run.summary}


@pytest.mark.parametrize(
    ("env", "project"),
    [({"TRACKKIT_PROJECT": "mine"}, "mine"), ({"WANDB_PROJECT": "theirs"}, "script")],
)
def test_settings_beat_the_script_s_project(env: dict[str, str], project: str, tmp_path: Path) -> None:
    """As `trackkit run --project mine script.py` needs; W&B's variable does not beat a script's argument."""
    script = BY_NAME.replace("ENDING", "pass").replace(
        "import sys,", f"import os; os.environ.update({env})\nimport sys,"
    )
    done = run_bare(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert local_run(tmp_path / "out").config["trackkit/settings/project"] == project


def test_everywhere_records_what_a_script_logs_to_wandb(tmp_path: Path) -> None:
    """As under `trackkit run --everywhere`: the script asks for W&B, with W&B's arguments."""
    done = run_bare(
        """
import os; os.environ["TRACKKIT_EVERYWHERE"] = "1"
import trackkit, wandb
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, log_with="wandb")
arguments = {"wandb": {"name": "mine", "tags": ["a"], "id": "xyz", "reinit": True}}
accelerator.init_trackers("script", config={"output_dir": "out"}, init_kwargs=arguments)
for tracker in accelerator.trackers:
    if tracker.name == "wandb":
        tracker.log({"validation": [wandb.Html("<p>")], "loss": 1.0}, step=2)
accelerator.end_training()
""",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    run = local_run(tmp_path / "out")
    assert (run.run["name"], run.config["trackkit/settings/project"]) == ("mine", "script")
    assert run.history("batch/loss") == [(2, 1.0)]
    assert run.summary["final/tracker_errors"] == 0
    (offline,) = find_runs(tmp_path)
    assert len(list(offline.parent.rglob("*.html"))) == 1, "W&B has one run, with its media"


def _logged(*calls: tuple[Mapping[str, Any], int | None]) -> tuple[MemorySink, AccelerateTracker]:
    sink = MemorySink()
    tracker = AccelerateTracker(sinks=[sink])
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("ignored")
    for values, step in calls:
        accelerator.log(dict(values), step=step)
    accelerator.end_training()
    return sink, tracker


def _rows(sink: MemorySink) -> list[tuple[int, dict[str, Any]]]:
    """Returns step and values of all rows, without what TrackKit measures."""
    measured = ("batch/step_time_s", "batch/nonfinite", "device/rss_GB", "batch/step", "batch/epoch", "epoch/step")
    rows = [(row.step, {key: value for key, value in row.values.items() if key not in measured}) for row in sink.rows]
    return [(step, values) for step, values in rows if values]


def test_values_logged_without_a_step_make_a_row_per_repetition() -> None:
    """As W&B counts, but values of one step that are logged one by one stay together."""
    sink, _ = _logged(({"loss": 3.0}, None), ({"lr": 0.1}, None), ({"loss": 2.0}, None), ({"lr": 0.2}, None))
    assert _rows(sink) == [(1, {"batch/loss": 3.0, "batch/lr": 0.1}), (2, {"batch/loss": 2.0, "batch/lr": 0.2})]
    assert sink.columns["final/steps"] == 2


def test_last_value_of_a_repeated_step_counts() -> None:
    """As with diffusers' scripts, which log every micro-batch under the step that it belongs to."""
    micro = [({"loss": float(number)}, number // 2) for number in range(6)]
    assert _rows(_logged(*micro)[0]) == [(0, {"batch/loss": 1.0}), (1, {"batch/loss": 3.0}), (2, {"batch/loss": 5.0})]


def test_epochs_keep_their_own_step_and_split() -> None:
    """As with transformers' scripts; `step` among the values is the training's."""
    values = {"eval_loss": 2.0, "train_loss": 3.0, "accuracy": {"glue": {"f1": 0.5}}, "epoch": 0, "step": 20}
    keys = {"epoch/epoch": 0, "epoch/val/loss": 2.0, "epoch/train/loss": 3.0, "epoch/accuracy/glue/f1": 0.5}
    sink, _ = _logged((values, 0), ({**values, "epoch": 1, "step": 40}, 1), ({"step_loss": torch.tensor(1.0)}, 41))
    assert _rows(sink) == [(20, keys), (40, {**keys, "epoch/epoch": 1}), (41, {"batch/step_loss": 1.0})]
    assert sink.columns["final/val/loss"] == 2.0


def test_an_epoch_that_is_given_as_the_step_is_no_step_count() -> None:
    """As with Accelerate's own examples: no time per step follows from it."""
    sink, _ = _logged(*(({"eval_acc": 0.5 + epoch, "epoch": epoch}, epoch) for epoch in range(3)))
    assert sink.history("epoch/val/acc") == [(0, 0.5), (1, 1.5), (2, 2.5)]
    assert sink.history("batch/step_time_s") == []
    assert "final/steps" not in sink.columns
    assert sink.columns["final/duration_h"] > 0


def test_evaluations_of_one_step_have_a_row_each() -> None:
    sink, _ = _logged(({"loss": 1.0}, 7), ({"val_acc": 0.1}, None), ({"val_acc": 0.2}, None), ({"val_f1": 0.3}, None))
    rows = [(7, {"batch/loss": 1.0}), (7, {"epoch/val/acc": 0.1}), (7, {"epoch/val/acc": 0.2, "epoch/val/f1": 0.3})]
    assert _rows(sink) == rows


def test_texts_and_media_become_samples_at_their_step() -> None:
    table = wandb.Table(columns=["a"], data=[[1]])
    sink, _ = _logged(({"loss": 1.0, "note": "half way", "t": table, "none": None}, 3), ({"u": [table]}, None))
    assert sink.media == [(3, {"samples/note": "half way", "samples/t": table}), (3, {"samples/u": [table]})]
    assert sink.columns["final/tracker_errors"] == 0


def test_tables_and_pictures_are_logged_by_their_own_methods() -> None:
    sink = MemorySink()
    tracker = AccelerateTracker(sinks=[sink])
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("ignored")
    accelerator.get_tracker("trackkit").log_table("answers", columns=["a", "b"], data=[[1, 2]], step=5)
    pytest.importorskip("PIL")
    tracker.log_images({"validation": [torch.zeros(4, 4, 3).numpy()]}, step=6)
    (first, answers), (second, pictures) = sink.media
    assert (first, second) == (5, 6)
    assert answers["samples/answers"].data == [[1, 2]]
    assert isinstance(pictures["samples/validation"][0], wandb.Image)


def test_an_error_of_trackkit_does_not_reach_the_script() -> None:
    """A picture that can't be made is counted, and the rest is recorded."""
    sink = MemorySink()
    Accelerator(cpu=True)
    tracker = AccelerateTracker(sinks=[sink])
    tracker.log_images({"validation": [object()]}, step=1)
    tracker.log({"loss": 1.0}, step=2)
    tracker.finish()
    assert sink.columns["final/tracker_errors"] == 1
    assert sink.history("batch/loss") == [(2, 1.0)]


def test_disabled_tracker_records_nothing(tmp_path: Path) -> None:
    tracker = AccelerateTracker(mode="disabled")
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("p", config={"lr": 1})
    accelerator.log({"loss": 1.0}, step=1)
    assert accelerator.get_tracker("trackkit", unwrap=True) is None
    accelerator.end_training()
    assert list(tmp_path.rglob("_trackkit")) == []


def test_tracker_of_an_earlier_run_ignores_logs_and_begins_again() -> None:
    sink, tracker = _logged(({"loss": 1.0}, 1))
    tracker.log({"loss": 2.0}, 2)
    assert len(sink.rows) == 1
    tracker.start()
    tracker.log({"loss": 3.0}, 3)
    assert [row.step for row in sink.rows] == [1]
    tracker.finish()
    assert sink.history("batch/loss") == [(1, 1.0), (3, 3.0)]


def test_accelerator_with_a_tracker_is_pickled() -> None:
    tracker = AccelerateTracker(project="p", sinks=[])
    accelerator = Accelerator(cpu=True, log_with=tracker)
    accelerator.init_trackers("p", config={})
    twin = pickle.loads(pickle.dumps(accelerator))
    twin.log({"loss": 1.0})
    assert twin.get_tracker("trackkit").kit.config.project == "p"
    accelerator.end_training()


def test_unknown_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown setting 'projct' in arguments; did you mean 'project'\?"):
        AccelerateTracker(projct="p")
    accelerator = Accelerator(cpu=True, log_with="trackkit")
    with pytest.raises(ConfigError, match="unknown setting 'tag'"):
        accelerator.init_trackers("p", init_kwargs={"trackkit": {"tag": "x"}})


def test_installed_version_has_every_private_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _compat.missing() == []
    monkeypatch.delattr("accelerate.data_loader.DataLoaderStateMixin.begin")
    assert _compat.missing() == ["accelerate.data_loader:DataLoaderShard.begin"]


def test_script_of_every_rank_may_log_on_the_main_process_only(tmp_path: Path) -> None:
    """Without `trackkit.accelerate` no other rank takes part, and no row waits for one."""
    script = tmp_path / "script.py"
    script.write_text("""
import trackkit
from accelerate import Accelerator
accelerator = Accelerator(cpu=True, log_with="trackkit")
accelerator.init_trackers("p", config={"output_dir": "out"})
for step in range(1, 4):
    accelerator.log({"loss": 1 / step}, step=step)
accelerator.end_training()
""")
    done = run_torchrun(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    run = local_run(tmp_path / "out")
    assert [step for step, _ in run.history("batch/loss")] == [1, 2, 3]
    assert run.summary["final/duration_h"] * 3600 < 5
