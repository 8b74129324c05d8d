"""Hugging Face: records a model's own `config`, and no kind of config costs a row."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.huggingface_toys import logged, train
from tests.support.local_log import local_run
from tests.support.toy import Net


@dataclass
class Shape:
    """A config like nanoGPT's."""

    n_layer: int = 2
    bias: bool = False


class Plain:
    """An object with attributes. The trainer adds `use_cache`."""

    def __init__(self) -> None:
        self.width = 8


class Slotted:
    """An object whose attributes cannot be listed."""

    __slots__ = ("use_cache", "width")


class Broken:
    """Fails to be read."""

    def to_dict(self) -> dict[str, Any]:
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("config", "columns", "errors"),
    [
        (Shape(), {"n_layer": 2, "bias": False}, 0),
        (argparse.Namespace(width=8, deep={"a": 1}), {"width": 8, "deep": {"a": 1}, "use_cache": False}, 0),
        (Plain(), {"width": 8, "use_cache": False}, 0),
        (Slotted(), {}, 0),
        (Broken(), {}, 1),
        (None, {}, 0),
    ],
)
def test_model_config_is_recorded_as_far_as_it_can_be_read(
    tmp_path: Path, config: Any, columns: dict[str, Any], errors: int
) -> None:
    model: Any = Net()
    model.config = config
    sink, trainer = train(tmp_path, model=model)
    assert sink.history("batch/loss") == logged(trainer, "loss")
    found = {key: value for key, value in local_run(tmp_path).config.items() if key.startswith("model/config/")}
    assert found == {f"model/config/{name}": value for name, value in columns.items()}
    assert sink.columns["final/tracker_errors"] == errors


def test_omegaconf_model_config_is_recorded(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    model: Any = Net()
    model.config = omegaconf.OmegaConf.create({"a": {"b": 1}})
    train(tmp_path, model=model)
    assert local_run(tmp_path).config["model/config/a"] == {"b": 1}


@dataclass
class Adapter:
    """A configuration with the interface of PEFT's."""

    r: int

    def to_dict(self) -> dict[str, Any]:
        return {"r": self.r, "lora_alpha": 2 * self.r, "lora_dropout": 0.1, "target_modules": {"q", "v", "k"}}


@pytest.mark.parametrize(("ranks", "names"), [({"default": 4}, [""]), ({"a": 4, "b": 8}, ["a/", "b/"])])
def test_adapter_s_configuration_is_recorded(tmp_path: Path, ranks: dict[str, int], names: list[str]) -> None:
    """By the adapter's name if there are several."""
    model: Any = Net()
    model.peft_config = {name: Adapter(r) for name, r in ranks.items()}
    train(tmp_path, model=model)
    config = local_run(tmp_path).config
    for name, r in zip(names, ranks.values(), strict=True):
        expected = {"r": r, "lora_alpha": 2 * r, "lora_dropout": 0.1, "target_modules": ["k", "q", "v"]}
        assert {key: config[f"model/adapter/{name}{key}"] for key in expected} == expected


def test_configuration_of_a_lora_model_is_recorded(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not a development dependency")
    model = peft.get_peft_model(Net(), peft.LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=["0", "2"]))
    _, trainer = train(tmp_path, model=model, label_names=["labels"])
    assert trainer.state.global_step == 6
    config = local_run(tmp_path).config
    expected = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "target_modules": ["0", "2"], "peft_type": "LORA"}
    assert {key: config[f"model/adapter/{key}"] for key in expected} == expected
