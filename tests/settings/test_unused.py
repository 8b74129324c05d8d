"""A setting that has no effect is named once, with the reason; one that has an effect is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import trackkit
from tests.support.huggingface_toys import make_trainer
from tests.support.lightning_toys import Logging, data, trainer
from trackkit import TrackKit
from trackkit.integrations.memory import MemorySink

PRICE = "callbacks: final_summary: price_per_gpu_hour"
FLOPS = "callbacks: throughput: flops_per_sample"


def unused(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the settings that were said to have no effect."""
    return sorted(re.findall(r"The setting '([^']*)' has no effect: ", "\n".join(caplog.messages)))


def test_default_settings_are_never_named(caplog: pytest.LogCaptureFixture) -> None:
    trainer(TrackKit(sinks=[])).fit(Logging(), data())
    trackkit.finish()
    assert unused(caplog) == []


def test_each_setting_without_effect_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two trainings of one process, on a CPU and without W&B."""
    callbacks = {"final_summary": {"price_per_gpu_hour": 2.0}, "throughput": {"flops_per_sample": 1e6}}
    settings: dict[str, Any] = {"entity": "me", "finish_timeout": 5, "epoch_axis": "epoch", "callbacks": callbacks}
    for _ in range(2):
        kit = TrackKit(sinks=[], synonyms={"twice": "double", "acc": "accuracy"}, dir=str(tmp_path), **settings)
        trainer(kit).fit(Logging(), data())
        trackkit.finish()
    assert unused(caplog) == [PRICE, FLOPS, "entity", "epoch_axis", "finish_timeout", "synonyms: acc"]
    assert "The setting 'entity' has no effect: 'sinks' are given in place of W&B." in caplog.text


def test_settings_of_a_disabled_trackkit_are_named(caplog: pytest.LogCaptureFixture) -> None:
    TrackKit(mode="disabled", finish_timeout=5, name="x")
    assert unused(caplog) == ["finish_timeout", "name"]


def test_settings_with_effect_are_not_named(caplog: pytest.LogCaptureFixture) -> None:
    options = {"throughput": {"flops_per_sample": 1e6, "peak_flops": 1e9}, "grad_norm": {"per_layer": True}}
    kit = TrackKit(mode="offline", entity="me", finish_timeout=20, epoch_axis="epoch", callbacks=options)
    trainer(kit, log_every_n_steps=1).fit(Logging(), data())
    trackkit.finish()
    assert unused(caplog) == []


def test_norms_of_layers_are_not_measured_under_hugging_face(caplog: pytest.LogCaptureFixture) -> None:
    kit = TrackKit(sinks=[], callbacks={"grad_norm": {"per_layer": True}})
    make_trainer("out", [kit], max_steps=2, logging_steps=1).train()
    trackkit.finish()
    assert unused(caplog) == ["callbacks: grad_norm: per_layer"]


def test_settings_of_the_run_are_named_if_the_program_started_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If they differ from those of the program's run, whose own folder has all that W&B gets."""
    import wandb

    run = wandb.init(mode="offline", project="theirs", name="t", group="same", dir=".")
    named: dict[str, Any] = {"project": "ours", "tags": ["a"], "notes": "n"}
    kit = TrackKit(group="same", mode="offline", finish_timeout=20, dir=str(tmp_path / "own"), **named)
    trainer(kit).fit(Logging(), data())
    trackkit.finish()
    run.finish()
    assert unused(caplog) == sorted(named)
    assert trackkit.read_run(tmp_path / "own").rows
    assert (
        f"in the program's own '{run.name}' offline. Upload it with `wandb sync {Path(run.dir).absolute().parent}`"
        in caplog.text
    )


def test_name_of_a_resumed_run_and_its_folder_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sinks = [MemorySink()]
    first = trainer(TrackKit(sinks=sinks, name="first"), default_root_dir=str(tmp_path / "a"))
    first.fit(Logging(), data())
    first.save_checkpoint(tmp_path / "last.ckpt")
    trackkit.finish()
    assert unused(caplog) == []
    kit = TrackKit(sinks=[], name="second", dir=str(tmp_path / "b"))
    trainer(kit, max_epochs=2).fit(Logging(), data(), ckpt_path=str(tmp_path / "last.ckpt"))
    trackkit.finish()
    assert unused(caplog) == ["dir", "name"]
