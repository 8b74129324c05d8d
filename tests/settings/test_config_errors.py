"""What is said of wrong settings: the rule, the value and the remedy, as soon as the object is made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.support.processes import clean_env, run_python
from trackkit import ConfigError, TrackKit, TrackKitError


def refused(*said: str, **given: Any) -> str:
    """TrackKit(**given) is refused, and the error says all of `said`."""
    with pytest.raises(ConfigError) as caught:
        TrackKit(**given)
    text = str(caught.value)
    assert [word for word in said if word not in text] == [], text
    return text


def test_a_wrong_setting_is_a_value_error_of_trackkits() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, TrackKitError)


def test_an_unknown_setting_names_the_nearest_known_one_whatever_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("'projct'", "arguments", "'project'", projct="x")
    refused("'projct'", "'project'", config={"projct": "x"})
    refused("'projct'", "'project'", config=OmegaConf.create({"projct": "x"}))
    Path("trackkit.yaml").write_text("projct: x\n")
    refused("'projct'", "trackkit.yaml", "'project'")
    Path("trackkit.yaml").unlink()
    monkeypatch.setenv("TRACKKIT_PROJCT", "x")
    refused("'TRACKKIT_PROJCT'", "'TRACKKIT_PROJECT'")


def test_an_unknown_setting_near_to_none_lists_them_all() -> None:
    refused("'zzz'", "callbacks, ", "synonyms", zzz=1)


@pytest.mark.parametrize("name", ["log_every", "log_every_n_steps", "logging_steps"])
def test_who_decides_how_often_rows_are_made_is_said(name: str) -> None:
    refused(f"'{name}'", "'log_every_n_steps' in Lightning", "'logging_steps' in Hugging Face", **{name: 5})
    refused(f"'{name}'", "'logging_steps' in Hugging Face", config={name: 5})


@pytest.mark.parametrize(
    ("callbacks", "said"),
    [
        ({"gradnorm": True}, ["callback 'gradnorm'", "'grad_norm'"]),
        ({"grad_norm": {"per_layers": True}}, ["'per_layers'", "'grad_norm'", "'per_layer'"]),
        ({"loss": {"scale": 2}}, ["'scale'", "'loss'"]),
        ({"lr": 1}, ["'lr'", "true, false", "1"]),
        ({"lr": None}, ["'lr'", "true, false", "None"]),
        ({"grad_norm": {"per_layer": "yes"}}, ["'per_layer'", "'yes'"]),
        ({"final_summary": {"goal": "maximum"}}, ["'goal'", "'min' or 'max'", "'maximum'"]),
        ({"final_summary": {"monitor": 3}}, ["'monitor'", "3"]),
        ({"final_summary": {"price_per_gpu_hour": -1}}, ["'price_per_gpu_hour'", "-1"]),
        ({"final_summary": {"price_per_gpu_hour": "2"}}, ["'price_per_gpu_hour'", "'2'"]),
        ({"throughput": {"peak_flops": 0}}, ["'peak_flops'", "positive", "0"]),
        ({"throughput": {"flops_per_sample": True}}, ["'flops_per_sample'", "True"]),
    ],
)
def test_wrong_callbacks_and_options(callbacks: dict[str, Any], said: list[str]) -> None:
    refused(*said, callbacks=callbacks)
    refused(*said, config={"callbacks": callbacks})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("project", "entity", "name", "group", "job_type") for value in (True, ["a"], {})),
        *((name, False) for name in ("notes", "mode", "dir", "names", "epoch_axis")),
        *(("tags", value) for value in ("a", 3, {"a": 1}, [True], [["a"]], [None])),
        *(("synonyms", value) for value in ("a", ["a"], {"a": ["b"]}, {"a": True}, {"a": None})),
        *(("callbacks", value) for value in ("lr", ["lr"], True)),
    ],
)
def test_a_wrong_type_names_the_setting_the_value_and_the_rule(name: str, value: Any) -> None:
    refused(f"'{name}'", "must be", repr(value), type(value).__name__, **{name: value})
    refused(f"'{name}'", "must be", repr(value), config={name: value})


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("mode", "onlin", "'online'"),
        ("names", "canonic", "'canonical'"),
        ("epoch_axis", "steps", "'step'"),
        ("mode", "", "auto, online, offline, disabled"),
    ],
)
def test_a_wrong_choice_lists_the_choices(name: str, value: str, near: str) -> None:
    refused(f"'{name}'", "must be one of", f"'{value}'", near, **{name: value})


@pytest.mark.parametrize("project", ["a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "x" * 129, "", "  "])
def test_a_project_name_that_wandb_refuses(project: str) -> None:
    refused("W&B project name", "128", project=project)


@pytest.mark.parametrize("run_id", ["../x", "a/b", "a\\b", "exp#1", "a:b", "..", " a", "x" * 129])
def test_a_run_id_that_wandb_refuses(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("'resume'", "128", repr(run_id), "'-'", resume=run_id)
    monkeypatch.setenv("WANDB_RUN_ID", run_id)
    refused("'WANDB_RUN_ID'", "128", repr(run_id), "'-'")


@pytest.mark.parametrize("word", ["", "nonsense", "True"])
def test_a_word_for_resuming_that_wandb_refuses(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RESUME", word)
    refused("'WANDB_RESUME'", "never, allow, auto, must", repr(word))


def test_a_project_name_that_wandb_takes() -> None:
    assert TrackKit(project="a b_c-d.e (f)").config.project == "a b_c-d.e (f)"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{experimnt}", "'experiment'"),
        ("{}", "known:"),
        ("{hparams}", "hparams.<name>"),
        ("{hparam.lr}", "unknown field"),
        ("{time", "braces"),
        ("}", "braces"),
    ],
)
def test_a_name_template_that_can_not_be_filled(template: str, said: str) -> None:
    refused("'name'", said, name=template)


def test_a_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("'nowhere.yaml'", "must exist", config="nowhere.yaml")
    refused("must exist", config=Path.cwd())
    monkeypatch.setenv("TRACKKIT_CONFIG", "elsewhere.yaml")
    refused("'elsewhere.yaml'", "must exist")


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "a list"), ("hello\n", "str"), ("3\n", "int")])
def test_a_file_that_is_no_mapping(text: str, kind: str) -> None:
    Path("trackkit.yaml").write_text(text)
    refused("must be a mapping", "'trackkit.yaml'", kind, "project: NAME")


@pytest.mark.parametrize("data", [b"project: [", b"project: a\nproject: b\n", b"\tx: 1", b"project: \xff\xfe"])
def test_a_file_that_is_no_yaml(data: bytes) -> None:
    Path("trackkit.yaml").write_bytes(data)
    refused("'trackkit.yaml'", "must be YAML")


@pytest.mark.parametrize("config", [["a"], 3, OmegaConf.create(["a"]), object()])
def test_a_config_that_is_no_mapping(config: Any) -> None:
    refused("must be a mapping", config=config)


@pytest.mark.parametrize("text", ["group: ${nowhere}", "group: ???", "group: ${oc.env:NOT_SET_AT_ALL}"])
def test_a_file_that_can_not_be_resolved(text: str) -> None:
    Path("trackkit.yaml").write_text(text)
    refused("trackkit.yaml", "can't be resolved")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("TAGS", "[a", ["'TRACKKIT_TAGS'", "YAML list", "'[a'"]),
        ("TAGS", "{", ["'TRACKKIT_TAGS'", "YAML list", "'{'"]),
        ("TAGS", "{a: b}", ["'tags'", "a list of texts", "{'a': 'b'}"]),
        ("SYNONYMS", "{a", ["'TRACKKIT_SYNONYMS'", "YAML mapping", "'{a'"]),
        ("CALLBACKS", "lr", ["'callbacks'", "a mapping", "'lr'"]),
        ("MODE", "on", ["'mode'", "'on'"]),
    ],
)
def test_a_variable_of_the_wrong_form(name: str, text: str, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"TRACKKIT_{name}", text)
    refused(*said)


def test_every_rank_is_refused_alike_before_anything_starts(tmp_path: Path) -> None:
    code = "import trackkit\ntrackkit.TrackKit(mode='onlin')\nprint('trained')"
    ends = [
        run_python(code, cwd=tmp_path, env=clean_env(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"))
        for rank in (0, 1)
    ]
    assert [end.returncode for end in ends] == [1, 1]
    assert ends[0].stderr == ends[1].stderr
    assert "'online'" in ends[0].stderr
    assert (ends[0].stdout, os.listdir(tmp_path)) == ("", [])
