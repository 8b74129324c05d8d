"""Errors for wrong settings name the value and the remedy, as soon as TrackKit is constructed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from tests.support.processes import clean_env, run_python
from trackkit import ConfigError, TrackKit, TrackKitError
from trackkit.errors import did_you_mean


def refused(*said: str, **given: Any) -> str:
    """Asserts that TrackKit(**given) raises an error with all of `said`; returns its text."""
    with pytest.raises(ConfigError) as caught:
        TrackKit(**given)
    text = str(caught.value)
    assert [word for word in said if word not in text] == [], text
    return text


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


def test_config_error_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)
    assert issubclass(ConfigError, TrackKitError)


def test_unknown_setting_of_any_source_names_the_nearest_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("'projct'", "arguments", "'project'", projct="x")
    refused("'projct'", "'project'", config={"projct": "x"})
    refused("'projct'", "'project'", config=OmegaConf.create({"projct": "x"}))
    Path("trackkit.yaml").write_text("projct: x\n")
    refused("'projct'", "trackkit.yaml", "'project'")
    Path("trackkit.yaml").unlink()
    monkeypatch.setenv("TRACKKIT_PROJCT", "x")
    refused("'TRACKKIT_PROJCT'", "'TRACKKIT_PROJECT'")


def test_unknown_setting_unlike_any_other_lists_them_all() -> None:
    refused("'zzz'", "callbacks, ", "synonyms", zzz=1)


@pytest.mark.parametrize("name", ["log_every", "log_every_n_steps", "logging_steps"])
def test_logging_interval_points_to_the_framework(name: str) -> None:
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
def test_wrong_callbacks_and_options_are_refused(callbacks: dict[str, Any], said: list[str]) -> None:
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
def test_wrong_type_names_the_setting_the_value_and_the_type(name: str, value: Any) -> None:
    refused(f"{name}={value!r}", " is not ", type(value).__name__, **{name: value})
    refused(f"{name}={value!r}", " is not ", config={name: value})


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("mode", "onlin", "'online'"),
        ("names", "canonic", "'canonical'"),
        ("epoch_axis", "steps", "'step'"),
        ("mode", "", "auto, online, offline, disabled"),
    ],
)
def test_wrong_choice_lists_the_choices(name: str, value: str, near: str) -> None:
    refused(f"{name}='{value}' is not one of", near, **{name: value})


@pytest.mark.parametrize("project", ["a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "x" * 129, "", "  "])
def test_project_name_that_wandb_refuses(project: str) -> None:
    refused("W&B project name", "128", project=project)


@pytest.mark.parametrize("run_id", ["../x", "a/b", "a\\b", "exp#1", "a:b", "..", " a", "x" * 129])
def test_run_id_that_wandb_refuses(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(f"resume={run_id!r}", "128", "'-'", resume=run_id)
    monkeypatch.setenv("WANDB_RUN_ID", run_id)
    refused(f"WANDB_RUN_ID={run_id!r}", "128", "'-'")


@pytest.mark.parametrize("word", ["", "nonsense", "True"])
def test_value_of_wandb_resume_that_wandb_refuses(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_RESUME", word)
    refused(f"WANDB_RESUME={word!r}", "never, allow, auto, must")


def test_project_name_that_wandb_accepts() -> None:
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
def test_invalid_name_template_is_refused(template: str, said: str) -> None:
    refused("name", said, name=template)


def test_missing_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refused("no settings file 'nowhere.yaml'", config="nowhere.yaml")
    refused("no settings file", config=Path.cwd())
    monkeypatch.setenv("TRACKKIT_CONFIG", "elsewhere.yaml")
    refused("no settings file 'elsewhere.yaml'")


@pytest.mark.parametrize(
    ("text", "kind"), [("- a\n- b\n", "a list"), ("hello\n", "of type str"), ("3\n", "of type int")]
)
def test_file_without_a_mapping_is_refused(text: str, kind: str) -> None:
    Path("trackkit.yaml").write_text(text)
    refused(f"'trackkit.yaml' is {kind}, not a mapping", "project: NAME")


@pytest.mark.parametrize("data", [b"project: [", b"project: a\nproject: b\n", b"\tx: 1", b"project: \xff\xfe"])
def test_file_that_is_no_yaml_is_refused(data: bytes) -> None:
    Path("trackkit.yaml").write_bytes(data)
    refused("cannot read the settings file 'trackkit.yaml' as YAML")


@pytest.mark.parametrize(
    "text",
    ["[" * 40, "[" * 100_000, "{a: " * 50_000, BOMB, BOMB.replace("[x, x]", "[]"), "a: &a [*a]", "a: &a {b: *a}"],
    ids=["levels", "lists", "mappings", "bomb", "empty bomb", "list in itself", "mapping in itself"],
)
def test_yaml_that_is_too_large_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("trackkit.yaml").write_text(text)
    refused("cannot read the settings file 'trackkit.yaml' as YAML: it has more than 32 levels or 10000 values")
    Path("trackkit.yaml").unlink()
    monkeypatch.setenv("TRACKKIT_CALLBACKS", text)
    refused("cannot be read as YAML", "{name: value}")


def test_aliases_within_the_limits_are_taken() -> None:
    Path("trackkit.yaml").write_text("notes: &n hi\ntags: &t [a, *n]\ngroup: *n\n")
    config = TrackKit().config
    assert (config.tags, config.group) == (["a", "hi"], "hi")


@pytest.mark.parametrize("config", [["a"], 3, OmegaConf.create(["a"]), object()])
def test_config_that_is_no_mapping_is_refused(config: Any) -> None:
    refused("not a mapping", config=config)


@pytest.mark.parametrize(
    "text", ["group: ${nowhere}", "group: ${notes}\nnotes: ${group}", "group: ???", "group: ${oc.env:NOT_SET_AT_ALL}"]
)
def test_file_that_cannot_be_resolved_is_refused(text: str) -> None:
    Path("trackkit.yaml").write_text(text)
    refused("cannot resolve the settings in 'trackkit.yaml'")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("TAGS", "[a", ["TRACKKIT_TAGS='[a' cannot be read as YAML", "[a, b]"]),
        ("TAGS", "{", ["TRACKKIT_TAGS='{' cannot be read as YAML", "[a, b]"]),
        ("TAGS", "{a: b}", ["tags={'a': 'b'}", "a list of strings"]),
        ("SYNONYMS", "{a", ["TRACKKIT_SYNONYMS='{a' cannot be read as YAML", "{name: value}"]),
        ("CALLBACKS", "lr", ["callbacks='lr'", "a mapping"]),
        ("MODE", "on", ["mode='on'"]),
    ],
)
def test_variable_of_the_wrong_form_is_refused(
    name: str, text: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"TRACKKIT_{name}", text)
    refused(*said)


def test_every_rank_raises_the_same_error_before_anything_starts(tmp_path: Path) -> None:
    code = "import trackkit\ntrackkit.TrackKit(mode='onlin')\nprint('trained')"
    ends = [
        run_python(code, cwd=tmp_path, env=clean_env(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2"))
        for rank in (0, 1)
    ]
    assert [end.returncode for end in ends] == [1, 1]
    assert ends[0].stderr == ends[1].stderr
    assert "'online'" in ends[0].stderr
    assert (ends[0].stdout, os.listdir(tmp_path)) == ("", [])


def test_long_list_of_known_words_is_cut() -> None:
    assert did_you_mean("zzz", [f"k{number:03}" for number in range(50)]).endswith(", k039 and 10 more")
