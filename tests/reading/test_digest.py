"""The digest of a run: what it says, within 1,500 words, also of hostile and odd runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_log import write_run
from trackkit import read_run, runs
from trackkit.reading.digest import digest
from trackkit.reading.digest_text import MOST_WORDS, markdown

CONFIG = {
    "model/class": "Net",
    "optim/class": "AdamW",
    "optim/lr": 0.3,
    "hparams/lr": 0.3,
    "trainer/gradient_clip_val": 5.0,
    "trackkit/settings/group": "g",
    "trackkit/settings/project": "p",
}
SUMMARY = {
    "final/val/acc": 0.4,
    "final/best/val/acc": 0.5,
    "final/best/val/acc_step": 20,
    "final/steps": 40,
    "final/duration_h": 0.5,
    "final/eval_h": 0.1,
}


def rows(count: int = 40) -> list[dict[str, Any]]:
    """Returns a loss that falls to step 20, and then rises above its start; an evaluation each ten steps."""
    found: list[dict[str, Any]] = []
    for step in range(1, count + 1):
        loss = 2.0 - step / 20 if step <= 20 else step / 4
        more = {"batch/lr": 0.3, "batch/grad_norm": 1.0, "batch/step_time_s": 0.5, "batch/data_time_s": 0.1}
        found.append({"batch/step": step, "batch/loss": loss, **more})
        if step % 10 == 0:
            found.append({"epoch/step": step, "epoch/val/acc": 0.5 - abs(20 - step) / 200})
    return found


def test_digest_says_verdict_findings_deviations_and_curves(tmp_path: Path) -> None:
    for number, lr in enumerate((0.001, 0.001, 0.3)):
        config = {**CONFIG, "optim/lr": lr, "hparams/lr": lr}
        write_run(tmp_path, f"r{number}", config, SUMMARY, rows(), started=1000.0 + number)
    said = digest(read_run(tmp_path / "_trackkit" / "r2"), runs(tmp_path))
    text = markdown(said)
    lines = text.splitlines()
    assert lines[0] == "# name-r2 (r2)"
    assert lines[2].startswith(
        "The run is **finished** after 40 steps in 30 min. `val/acc`: best 0.5 at step 20, last 0.4."
    )
    assert "first: The learning rate 0.3 is far above what is usual for AdamW" in lines[2]
    assert [each.rule for each in said.findings[:2]] == ["learning_rate_high", "divergence"]
    assert said.deviations["hparams/lr"] == (0.3, "most of 2 others in the group", "0.001")
    assert said.deviations["trainer/gradient_clip_val"] == (5.0, "the default", None)
    assert "| `hparams/lr` | 0.3 | 0.001 | most of 2 others in the group |" in lines
    assert "   Evidence: `batch/loss`, steps 20 to 40; confidence 90%." in lines
    assert said.steps[0] == 1
    assert said.steps[-1] == 40
    assert 20 in said.steps
    assert said.curves["batch/loss"][said.steps.index(1)] == 1.95
    assert said.curves["epoch/val/acc"][said.steps.index(20)] == 0.5
    assert "- share of time waiting for data: 20%" in lines
    assert len(text.split()) <= MOST_WORDS


def test_healthy_run_is_called_so(tmp_path: Path) -> None:
    healthy = [{"batch/step": step, "batch/loss": 2 / step} for step in range(1, 60)]
    text = markdown(digest(read_run(write_run(tmp_path, "a", rows=healthy))))
    assert "Nothing serious was found by" in text
    assert "None: " in text


def test_json_has_the_same_and_is_valid(tmp_path: Path) -> None:
    bad = [*rows(), {"batch/step": 41, "batch/loss": float("nan")}]
    said = digest(read_run(write_run(tmp_path, "a", CONFIG, SUMMARY, bad)))
    text = json.dumps(said.to_json(), allow_nan=False)
    found = json.loads(text)
    assert found["facts"]["id"] == "a"
    assert {each["rule"] for each in found["findings"]} >= {"nan", "divergence"}
    assert found["curves"]["batch/loss"][-1] == "nan"
    assert found["results"] == [{"metric": "val/acc", "last": 0.4, "best": 0.5, "best_step": 20}]


def test_failed_run_shows_its_last_words(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", {}, {"final/error": "ValueError: broken"}, rows(15), status="failed")
    (folder / "last_words.txt").write_text("Run a failed\n\nTraceback: here\n\nLast rows:\n{}\n")
    text = markdown(digest(read_run(folder)))
    assert "Training crashed after step 15: ValueError: broken." in text.splitlines()[2]
    assert "    Traceback: here" in text.splitlines()


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|`x`\n# heading \x1b[31m"
    config = {f"hparams/{hostile}": hostile, "model/class": hostile, "trackkit/settings/group": hostile}
    summary = {f"final/val/{hostile}": 1.0}
    folder = write_run(tmp_path, "a", config, summary, rows(), name=hostile, status="failed")
    (folder / "last_words.txt").write_text(f"{hostile}\n```\n")
    text = markdown(digest(read_run(folder)))
    assert "\x1b" not in text
    assert not any(line.startswith("# heading") for line in text.splitlines())
    shown = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not any("<script" in line for line in shown)


def test_values_of_wrong_types_stay_text(tmp_path: Path) -> None:
    hostile = "\x1b[31m\n# heading <b>"
    best = {"final/best/val/acc": hostile, "final/best/val/acc_step": [hostile], "final/val/acc": hostile}
    times = {"final/duration_h": [1], "final/eval_h": "x", "final/checkpoint_h": {}, "final/cost_usd": hostile}
    text = markdown(digest(read_run(write_run(tmp_path, "a", {}, {**best, **times, "final/steps": hostile}, rows()))))
    assert "\x1b" not in text
    assert "<b>" not in text
    assert not any(line.startswith("# heading") for line in text.splitlines())
    huge = {"final/val/acc": 0.5, "final/best/val/acc": 0.5, "final/best/val/acc_step": 10**400}
    assert "1.000e+400" in markdown(digest(read_run(write_run(tmp_path, "b", {}, huge, rows()))))


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_digest_stays_within_its_words(tmp_path: Path, count: int) -> None:
    config = {f"hparams/{number}": "word " * 60 for number in range(200)}
    summary = {f"final/val/{number}": 1.0 for number in range(200)}
    many = [{"batch/step": step, "batch/loss": 1.0 + step % 7} for step in range(1, count + 1)]
    folder = write_run(tmp_path, "a", config, summary, many, status="failed")
    (folder / "last_words.txt").write_text("word " * 5000)
    text = markdown(digest(read_run(folder)))
    assert len(text.split()) <= MOST_WORDS
    assert "## Findings" in text


def test_last_words_are_not_read_through_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("a private key")
    folder = write_run(tmp_path, "a", CONFIG, {"final/status": "failed"}, rows(), status="failed")
    (folder / "last_words.txt").symlink_to(tmp_path / "key")
    assert "a private key" not in markdown(digest(read_run(folder)))
