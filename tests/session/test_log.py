"""`trackkit.log`, and TrackKit's own lines at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import transformers
import wandb

import trackkit
from tests.support.toy import TRAININGS, Recipe
from tests.support.wandb_offline import read_finished
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

NOTICE = "trackkit.log recorded nothing: no training is in progress here, or another rank writes its run."


def log_step(step: int) -> None:
    trackkit.log({"mine": torch.tensor(2.0 * step), "note": f"step {step}"} if step == 6 else {"mine": 2 * step})


class LightningLogs(pl.Callback):
    def on_before_optimizer_step(self, trainer: pl.Trainer, *args: Any) -> None:
        log_step(trainer.global_step + 1)


class HuggingFaceLogs(transformers.TrainerCallback):
    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        log_step(state.global_step + 1)


@pytest.mark.parametrize(("framework", "logs"), [("lightning", LightningLogs), ("huggingface", HuggingFaceLogs)])
def test_number_is_in_the_row_of_its_step(
    tmp_path: Path, framework: str, logs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trackkit.log({"early": 1})
    TRAININGS[framework](Recipe(every=3), tmp_path, [TrackKit(sinks=[sink := MemorySink()]), logs()])
    trackkit.log({"late": 1})
    steps = [step for step, _ in sink.history("batch/loss")]
    assert sink.history("batch/mine") == [(step, 2 * step) for step in steps]
    assert sink.media == [(5, {"samples/note": "step 6"})]
    assert not {key for row in sink.rows for key in row.values if key.endswith(("early", "late", "note"))}
    assert caplog.messages.count(NOTICE) == 1


def test_media_arrive_in_wandb_and_the_end_is_said_in_four_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    class Logs(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step == 24:
                table = wandb.Table(columns=["a"], data=[[1]])
                trackkit.log({"samples/page": wandb.Html("<b>x</b>"), "table": table, "odd": object()})

    TRAININGS["lightning"](Recipe(), tmp_path, [TrackKit(project="p", name="mine"), Logs()])
    begun = len(caplog.records)
    trackkit.finish()
    run = read_finished(tmp_path)
    assert [value["_type"] for _, value in run.history("samples/page")] == ["html-file"]
    assert [value["_type"] for _, value in run.history("samples/table")] == ["table-file"]
    assert any("'samples/odd' is of type object, which W&B can't show" in line for line in caplog.messages)
    last, best = (run.summary[f"final/{key}"] for key in ("val/loss", "best/val/loss"))
    end = [record.getMessage() for record in caplog.records[begun:] if record.name == "trackkit"]
    (folder,) = (path.parent for path in tmp_path.glob("_trackkit/*/run.json"))
    assert [line.partition(" in ")[0] for line in end] == [
        "Run 'mine': finished after 48 steps",
        f"val/loss: last {last:.5g}, best {best:.5g} at step 48.",
        f"View it with `trackkit show|report|sync {folder}`.",
    ]
    assert "wandb:" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("footer", [True, False])
def test_wandb_prints_its_own_footer_only_if_asked(
    footer: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_SILENT")
    # W&B reads that variable once per process.
    wandb.teardown()
    TRAININGS["lightning"](Recipe(), tmp_path, [TrackKit(wandb_footer=footer)])
    capfd.readouterr()
    trackkit.finish()
    printed = "".join(capfd.readouterr())
    wandb.teardown()
    assert ("wandb:" in printed, "Run history" in printed, "wandb sync" in printed) == (footer, footer, footer)


def test_failed_training_with_several_warnings_ends_with_four_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Breaks(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step >= 26:
                raise RuntimeError("no more")

        def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, *args: Any) -> None:
            if trainer.global_step == 24:
                next(module.parameters()).grad.fill_(float("nan"))  # type: ignore[union-attr]

    kit = TrackKit(name="mine", callbacks={"final_summary": {"monitor": "nothing"}}, synonyms={"nowhere": "x"})
    with pytest.raises(RuntimeError, match="no more"):
        TRAININGS["lightning"](Recipe(), tmp_path, [kit, Breaks()])
    trackkit.finish()
    # The first two are the start, and the notice about `train_loss`.
    _, _, *end = (record.getMessage() for record in caplog.records if record.name == "trackkit")
    (folder,) = (path.parent for path in tmp_path.glob("_trackkit/*/run.json"))
    failed, metric, warnings, hint = end
    assert failed.startswith("Training failed after step 26: RuntimeError: no more (test_log.py, line ")
    assert failed.endswith(f"Details are in '{folder / 'last_words.txt'}'.")
    assert metric.startswith("val/loss: last ")
    for part in ("see batch/nonfinite", "'monitor' is 'nothing'", "has no effect: "):
        assert part in warnings
    assert warnings.endswith(f" Look in '{folder}'.")
    assert hint == f"View it with `trackkit show|report|sync {folder}`."


def test_training_ends_with_the_first_warning_of_its_digest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "trackkit"):
        TRAININGS["huggingface"](Recipe(lr=0.0, every=1), tmp_path, [TrackKit(sinks=[])])
        trackkit.finish()
    *_, warning, hint = (record.getMessage() for record in caplog.records if record.name == "trackkit")
    (folder,) = (path.parent for path in tmp_path.glob("_trackkit/*/run.json"))
    assert warning == f"The learning rate was 0 in all 48 rows: nothing was learned. Look in '{folder}'."
    assert hint == f"View it with `trackkit show|report|sync {folder}`."


def test_sink_that_cannot_take_a_sample_keeps_its_rows(tmp_path: Path) -> None:
    class Refusing(MemorySink):
        def samples(self, values: Any, step: int) -> None:
            raise RuntimeError("no")

    TRAININGS["lightning"](Recipe(every=3), tmp_path, [TrackKit(sinks=[sink := Refusing()]), LightningLogs()])
    assert sink.history("batch/mine")[-1] == (48, 96)
    assert sink.columns["final/tracker_errors"] == 1


@pytest.mark.parametrize("values", [1, {1: 2}, [("a", 1)]])
def test_what_is_no_dictionary_is_refused(values: Any) -> None:
    with pytest.raises(TypeError, match=r"trackkit\.log takes a dictionary with strings as keys"):
        trackkit.log(values)
