"""The sources of settings and their precedence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from trackkit import TrackKit
from trackkit.settings.config import TrackKitConfig
from trackkit.settings.sources import load_config

# setting: (a value, its text as a variable)
VALUES: dict[str, tuple[Any, str]] = {
    "project": ("zoo", "zoo"),
    "entity": ("keepers", "keepers"),
    "name": ("{owner}-{hparams.lr}", "{owner}-{hparams.lr}"),
    "group": ("lions", "lions"),
    "job_type": ("sweep", "sweep"),
    "tags": (["a", "b"], "a, b"),
    "notes": ("two words", "two words"),
    "mode": ("offline", "offline"),
    "dir": ("/somewhere", "/somewhere"),
    "names": ("keep", "keep"),
    "synonyms": ({"acc": "accuracy"}, "{acc: accuracy}"),
    "epoch_axis": ("epoch", "epoch"),
    "resume": ("never", "never"),
    "finish_timeout": (7.5, "7.5"),
    "console": (False, "false"),
    "wandb_footer": (True, "true"),
    "callbacks": ({"lr": False, "grad_norm": {"per_layer": True}}, "{lr: false, grad_norm: {per_layer: true}}"),
}
WANDB = {
    "project": "WANDB_PROJECT",
    "entity": "WANDB_ENTITY",
    "name": "WANDB_NAME",
    "group": "WANDB_RUN_GROUP",
    "job_type": "WANDB_JOB_TYPE",
    "tags": "WANDB_TAGS",
    "notes": "WANDB_NOTES",
    "mode": "WANDB_MODE",
    "dir": "WANDB_DIR",
}
FILLED = {name: value for name, (value, _) in VALUES.items()}


@pytest.fixture(autouse=True)
def without_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the offline mode that every test starts with: it is a setting too."""
    monkeypatch.delenv("WANDB_MODE")


def write(path: str, values: Any) -> Path:
    """Writes a settings file; JSON is YAML."""
    file = Path(path)
    file.write_text(json.dumps(values))
    return file


def test_table_of_this_test_has_every_setting() -> None:
    assert set(VALUES) == set(TrackKitConfig().to_dict())


@pytest.mark.parametrize("name", VALUES)
def test_setting_is_read_from_each_source(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, text = VALUES[name]
    assert value != TrackKitConfig().to_dict()[name]
    found = [
        TrackKit(**{name: value}),
        TrackKit(config={name: value}),
        TrackKit(config=write("other.yaml", {name: value})),
        TrackKit(config=OmegaConf.create({name: value})),
    ]
    with monkeypatch.context() as patch:
        patch.setenv(f"TRACKKIT_{name.upper()}", text)
        found.append(TrackKit())
    with monkeypatch.context() as patch:
        patch.setenv("TRACKKIT_CONFIG", "other.yaml")
        found.append(TrackKit())
    write("trackkit.yaml", {name: value})
    found.append(TrackKit())
    assert [kit.config.to_dict()[name] for kit in found] == [value] * len(found)


@pytest.mark.parametrize("name", WANDB)
def test_setting_is_read_from_wandbs_variable(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, text = VALUES[name]
    monkeypatch.setenv(WANDB[name], text)
    assert TrackKit().config.to_dict()[name] == value


@pytest.mark.parametrize(
    ("variables", "mode"),
    [
        ({"WANDB_DISABLED": "true"}, "disabled"),
        ({"WANDB_DISABLED": "1", "WANDB_MODE": "online"}, "disabled"),
        ({"WANDB_DISABLED": "false", "WANDB_MODE": "online"}, "online"),
        ({"WANDB_MODE": "dryrun"}, "offline"),
        ({"WANDB_MODE": "shared"}, "auto"),
    ],
)
def test_modes_of_wandb_are_understood(variables: dict[str, str], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert TrackKit().config.mode == mode


@pytest.mark.parametrize("nearer", [1, 2, 3, 4])
def test_source_of_higher_precedence_wins(nearer: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [
        lambda: None,
        lambda: monkeypatch.setenv("WANDB_JOB_TYPE", "1"),
        lambda: write("trackkit.yaml", {"job_type": "2"}),
        lambda: monkeypatch.setenv("TRACKKIT_JOB_TYPE", "3"),
    ]
    for source in sources[max(0, nearer - 1) : nearer + 1]:
        source()
    given = {"job_type": "4"} if nearer == 4 else {}
    assert TrackKit(**given).config.job_type == str(nearer)  # type: ignore[arg-type]


def test_named_file_replaces_the_one_in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    write("trackkit.yaml", {"group": "here", "notes": "here"})
    monkeypatch.setenv("TRACKKIT_CONFIG", str(write("variable.yaml", {"group": "variable"})))
    assert (TrackKit().config.group, TrackKit().config.notes) == ("variable", None)
    assert TrackKit(config=write("argument.yaml", {"group": "argument"})).config.group == "argument"


def test_callbacks_of_several_sources_are_merged(monkeypatch: pytest.MonkeyPatch) -> None:
    write("trackkit.yaml", {"callbacks": {"lr": False, "loss": False}})
    monkeypatch.setenv("TRACKKIT_CALLBACKS", "{loss: true, throughput: {peak_flops: 1e12}}")
    merged = TrackKit(callbacks={"grad_norm": False}).config.callbacks
    assert merged == {"lr": False, "loss": True, "throughput": {"peak_flops": 1e12}, "grad_norm": False}


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", *(f"{name}: null" for name in VALUES)])
def test_empty_file_gives_the_defaults(text: str) -> None:
    Path("trackkit.yaml").write_text(text)
    assert TrackKit().config == TrackKitConfig()


def test_null_in_the_file_means_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_DIR", "/runs")
    monkeypatch.setenv("TRACKKIT_GROUP", "")
    write("trackkit.yaml", {"dir": None, "group": "file"})
    assert (TrackKit().config.dir, TrackKit().config.group) == ("/runs", "file")


def test_file_with_every_setting_is_read() -> None:
    write("trackkit.yaml", FILLED)
    assert TrackKit().config.to_dict() == FILLED


def test_interpolations_of_files_and_nodes_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM", "owls")
    Path("trackkit.yaml").write_text("group: ${oc.env:TEAM}\nnotes: by ${group}\n")
    assert TrackKit().config.notes == "by owls"
    parent = OmegaConf.create({"team": "owls", "tracker": {"tags": ["${team}"], "callbacks": {"lr": False}}})
    assert TrackKit(**parent.tracker).config.tags == ["owls"]
    assert type(TrackKit(**parent.tracker).config.callbacks) is dict
    assert TrackKit(notes="costs ${5").config.notes == "costs ${5"


def test_target_of_hydra_is_ignored() -> None:
    assert TrackKit(config={"_target_": "trackkit.TrackKit", "group": "g"}).config.group == "g"


def test_numbers_become_texts_for_text_settings() -> None:
    Path("trackkit.yaml").write_text("name: 7\ntags: [1, v2]\n")
    assert (TrackKit().config.name, TrackKit().config.tags) == ("7", ["1", "v2"])
    assert TrackKit(dir=Path("runs")).config.dir == "runs"  # type: ignore[arg-type]


def test_objects_of_the_user_are_not_changed() -> None:
    tags, callbacks = ["a"], {"lr": False}
    kit = TrackKit(tags=tags, callbacks=callbacks)
    kit.config.tags.append("b")
    kit.config.callbacks["loss"] = False
    assert (tags, callbacks) == (["a"], {"lr": False})


def test_constructor_starts_nothing(tmp_path: Path) -> None:
    TrackKit(project="p", dir=str(tmp_path / "runs"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("word", "resume"), [("never", "never"), ("allow", "auto"), ("auto", "auto"), ("must", "must")]
)
def test_wandb_resume_sets_resume(monkeypatch: pytest.MonkeyPatch, word: str, resume: str) -> None:
    """WANDB_RUN_ID is no setting: it names the next run, and is read when that starts."""
    monkeypatch.setenv("WANDB_RUN_ID", "mine")
    monkeypatch.setenv("WANDB_RESUME", word)
    assert load_config() == TrackKitConfig(resume="auto" if word == "allow" else word)
    assert load_config(given={"resume": "other"}).resume == "other"
